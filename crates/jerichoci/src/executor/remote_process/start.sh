#!/bin/sh
# Hands a job to the runner. Arguments: the directory of the job, the runner, the file for its environment, the
# CARGO_HOME of all jobs. Four lines come on standard input: owner, request, view, environment. Asked twice, it starts
# nothing twice.
set -u
umask 077
job=$1 runner=$2 env_file=$3 cargo_home=$4
fail() {
  rm -f "$env_file"
  printf '%s\n' "$*" >&2
  exit 1
}
# Whole before anything is touched: one who was cut off must not meet the one who asks again.
read_line() { IFS= read -r line || { printf '%s\n' "the request did not arrive whole" >&2; exit 1; }; }
read_line
owner=$line
read_line
request=$line
read_line
view=$line
read_line
environment=$line
is_known() { [ -e "$job/state/result.json" ] || [ -e "$job/state/runner.json" ]; }
if [ -d "$job" ]; then
  if [ "$(cat "$job/owner.json" 2>/dev/null)" = "$owner" ]; then
    # Whoever asked first may be just about to start a runner, or the runner to say who it is.
    tries=0
    until is_known; do
      if [ -e "$job/state/.runner.lock" ]; then longest=100; else longest=20; fi
      [ "$tries" -lt "$longest" ] || break
      tries=$((tries + 1))
      sleep 0.1 2>/dev/null || { sleep 1; tries=$((tries + 9)); }
    done
    if is_known; then
      cat "$job/state/runner.json" 2>/dev/null
      exit 0
    fi
    if [ -e "$job/state/.runner.lock" ]; then
      # It may be at work: what is there is not removed under it.
      printf '%s\n' "a runner of the job has been started and does not say who it is" >&2
      exit 1
    fi
  elif [ -e "$job/request.json" ]; then
    # Of an earlier attempt, whose end was not heard.
    "$runner" cancel --force "$job/request.json" || fail "an earlier attempt of the job does not end"
  fi
  rm -rf "$job" || fail "cannot remove what is left of an earlier attempt"
fi
# The end of another job of the run takes the directories above with it while they are empty.
tries=0
until mkdir -p "$job" 2>/dev/null; do
  tries=$((tries + 1))
  [ "$tries" -lt 20 ] || mkdir -p "$job" || fail "cannot make $job"
done
printf '%s\n' "$owner" >"$job/owner.json" || fail "cannot write $job/owner.json"
printf '%s\n' "$request" >"$job/request.json" || fail "cannot write $job/request.json"
printf '%s\n' "$view" >"$job/view.json" || fail "cannot write $job/view.json"
printf '%s\n' "$env_file" >"$job/env_file" || fail "cannot write $job/env_file"
rm -f "$env_file"
(
  set -C
  umask 0377
  printf '%s\n' "$environment" >"$env_file"
) || fail "cannot write $env_file, which must be on a file system in memory"
# When it was used last.
{ mkdir -p "$cargo_home" && touch "$cargo_home"; } || fail "cannot make $cargo_home"
mkdir "$job/artifacts" "$job/cargo-target" || fail "cannot make the directories of the job"
"$runner" --detach --view "$job/view.json" "$job/request.json" || fail "exit code $?"
