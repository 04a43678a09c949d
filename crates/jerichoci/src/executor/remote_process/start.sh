#!/bin/sh
# Hands a job to the runner. Arguments: the directory of the job, the runner, the file for its environment. Four
# lines come on standard input: owner, request, view, environment. Asked twice, it starts nothing twice.
set -u
umask 077
job=$1 runner=$2 env_file=$3
fail() {
  rm -f "$env_file"
  printf '%s\n' "$*" >&2
  exit 1
}
read_line() { IFS= read -r line || fail "the request did not arrive whole"; }
read_line
owner=$line
if [ -d "$job" ]; then
  if [ "$(cat "$job/owner.json" 2>/dev/null)" = "$owner" ]; then
    if [ -e "$job/state/result.json" ] || [ -e "$job/state/runner.json" ]; then
      cat "$job/state/runner.json" 2>/dev/null
      exit 0
    fi
  elif [ -e "$job/request.json" ]; then
    # Of an earlier attempt, whose end was not heard.
    "$runner" cancel --force "$job/request.json" || fail "an earlier attempt of the job does not end"
  fi
  rm -rf "$job" || fail "cannot remove what is left of an earlier attempt"
fi
mkdir -p "$job" || fail "cannot make $job"
printf '%s\n' "$owner" >"$job/owner.json" || fail "cannot write $job/owner.json"
read_line
printf '%s\n' "$line" >"$job/request.json" || fail "cannot write $job/request.json"
read_line
printf '%s\n' "$line" >"$job/view.json" || fail "cannot write $job/view.json"
read_line
printf '%s\n' "$env_file" >"$job/env_file" || fail "cannot write $job/env_file"
rm -f "$env_file"
(
  set -C
  umask 0377
  printf '%s\n' "$line" >"$env_file"
) || fail "cannot write $env_file, which must be on a file system in memory"
mkdir "$job/artifacts" "$job/cargo-target" || fail "cannot make the directories of the job"
"$runner" --detach --view "$job/view.json" "$job/request.json" || fail "exit code $?"
