# shellcheck shell=bash
# Makes this bash the dev shell and becomes the command in it.
# Arguments: the captured script, a file that is told how far it got, a directory for temporary
# files, names of variables that the shell must not change, `--`, the command.
# Every name here is one that no script of a shell has.
shopt -s execfail
__jerichoci_script=$1 __jerichoci_progress=$2 __jerichoci_temporary=$3 __jerichoci_kept=()
shift 3
while [[ $1 != -- ]]; do
  if [[ -v $1 ]]; then
    __jerichoci_kept+=("$1")
    printf -v "__jerichoci_kept_$1" %s "${!1}"
  fi
  shift
done
shift
__jerichoci_command=("$@")
set --
export TMPDIR=$__jerichoci_temporary
# shellcheck source=/dev/null
source "$__jerichoci_script"
for __jerichoci_name in "${__jerichoci_kept[@]}"; do
  __jerichoci_value=__jerichoci_kept_$__jerichoci_name
  declare -x "$__jerichoci_name=${!__jerichoci_value}"
done
printf started >|"$__jerichoci_progress" || exit 1
exec "${__jerichoci_command[@]}" || __jerichoci_value=$?
printf missing >|"$__jerichoci_progress"
exit "$__jerichoci_value"
