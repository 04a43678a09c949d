#!/bin/sh
# A shell in a private copy of a source tree, which goes with the shell. Arguments: the tree, the directory of the
# shell, CARGO_HOME, then variables NAME=VALUE, `--`, and what is to be run in place of the login shell.
umask 077
tree=$1 dir=$2 cargo_home=$3
shift 3
fail() {
  printf '%s\n' "$*" >&2
  rm -rf "$dir"
  exit 126
}
trap 'rm -rf "$dir"' EXIT
trap 'exit 129' HUP
trap 'exit 143' TERM
# What is typed at is not for this shell. Nor does it end of having nobody to tell that its command was killed.
trap : INT PIPE
# Without its directory it is not wanted any more.
{ mkdir "$dir/artifacts" "$dir/cargo-target" && mkdir -p "$cargo_home"; } || fail "cannot use $dir"
# For who ends it when its connection is gone.
echo $$ >"$dir/pid" || fail "cannot write to $dir"
# For who comes when both were killed: number, boot and start of this process.
{
  read -r boot </proc/sys/kernel/random/boot_id
  echo "$$ $boot $(sed 's/^.*) //' /proc/$$/stat | cut -d ' ' -f 20)" >"$dir/shell"
} 2>/dev/null
{ cp -Rp "$tree" "$dir/workspace" && chmod -R u+w "$dir/workspace"; } || fail "cannot copy $tree"
cd "$dir/workspace" || fail "cannot use $dir/workspace"
login=${SHELL:-/bin/sh}
# As a job: little of what the account has.
for name in LANG LANGUAGE LC_ALL TERM TZ NIX_PATH NIX_PROFILES SSL_CERT_FILE NIX_SSL_CERT_FILE http_proxy https_proxy no_proxy; do
  eval "value=\${$name-}"
  # shellcheck disable=SC2154  # by the line above
  [ -z "$value" ] || set -- "$name=$value" "$@"
done
set -- "JERICHOCI_SHELL=$dir" "PATH=${PATH:-/usr/local/bin:/usr/bin:/bin}" "HOME=$HOME" "USER=$(id -un)" "LOGNAME=$(id -un)" "$@"
count=$#
ended=
while [ "$count" -gt 0 ]; do
  word=$1
  shift
  count=$((count - 1))
  # The mark between variables and command, once: env takes the rest as it is.
  if [ -z "$ended" ] && [ "$word" = -- ]; then
    ended=yes
    [ "$count" -gt 0 ] || set -- "$@" "$login" -i
    continue
  fi
  set -- "$@" "$word"
done
env -i "$@"
