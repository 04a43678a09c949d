#!/usr/bin/env bash
# Runs a target for a CI system: the record on standard output, the logs of what failed on standard error.
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

# shellcheck source=scripts/lib/pikaci-tools.sh
source "$root/scripts/lib/pikaci-tools.sh"

usage() {
  cat <<'END'
Usage: scripts/pikaci-ci-run.sh TARGET

Runs a target, prints the record of the run (JSON) on standard output and, when it did not pass, the host log of
each of its jobs on standard error.

Exit: that of pikaci; 2 wrong usage; 3 no pikaci.
END
}

case ${1-} in
  -h | --help) usage && exit 0 ;;
  '' | -*)
    usage >&2
    exit 2
    ;;
esac
if (($# != 1)); then
  usage >&2
  exit 2
fi

warn() {
  echo "pikaci-ci-run.sh: warning: $*" >&2
}

# Prints the host logs of the run whose record is in the file $1.
print_logs() {
  local run metadata jobs job path
  read_pikaci_json_fields run_id <"$1" || return
  run=${pikaci_json_fields[0]}
  metadata=$("$JERICHOCI_BIN" logs "$run" --metadata-json) || return
  jobs=$(python3 -c '
import json, sys
for job in json.load(sys.stdin)["jobs"]:
    if job["host_log_exists"]:
        print(job["id"], job["host_log_path"], sep="\t")
' <<<"$metadata") || return
  while IFS=$'\t' read -r job path; do
    [[ -n $job ]] || continue
    printf '\n== host log of %s/%s ==\n' "$run" "$job" >&2
    cat -- "$path" >&2 || warn "cannot print $path"
  done <<<"$jobs"
}

resolve_pikaci_tools || exit
log_pikaci_tool_resolution

record=$(mktemp) || exit 3
trap 'rm -f -- "$record"' EXIT

# A signal to this script alone is for the run, which ends in good order and says how.
run_pid='' signalled=no
trap 'signalled=yes; [[ -z $run_pid ]] || kill -TERM "$run_pid" 2>/dev/null' HUP INT TERM
"$JERICHOCI_BIN" run "$1" --output json >"$record" &
run_pid=$!
# One that came too early for the trap to know the run.
[[ $signalled == no ]] || kill -TERM "$run_pid" 2>/dev/null
code=0
while true; do
  wait "$run_pid"
  waited=$?
  # 127: it was waited for already.
  if ((waited != 127 || code == 0)); then
    code=$waited
  fi
  # Above 128 the signal may have ended the wait, not the run.
  if [[ $signalled == no ]] || ((waited <= 128)); then
    break
  fi
  signalled=no
done
trap - HUP INT TERM

cat -- "$record"
if ((code != 0)); then
  if [[ -s $record ]]; then
    print_logs "$record" || warn "the logs of the run cannot be printed"
  else
    warn "pikaci has printed no record, so there are no logs to print"
  fi
fi
exit "$code"
