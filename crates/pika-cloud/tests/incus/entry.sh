#!/bin/sh
# The entry program of the tests: keeps the guest contract around the script that is its request.
#
# The script may call `say STATE`, and ends the work with its exit code.
state=/run/pika-cloud
echo $$ >/tmp/entry.pid

say() {
  now=$(date +%Y-%m-%dT%H:%M:%S+00:00)
  number=$(($(grep -c . "$state/events.jsonl" 2>/dev/null) + 1))
  printf '{"schema_version":1,"seq":%d,"timestamp":"%s","kind":"%s","message":"%s"}\n' \
    "$number" "$now" "$1" "$1" >>"$state/events.jsonl"
  printf '{"schema_version":1,"state":"%s","updated_at":"%s","message":"%s"}\n' "$1" "$now" "$1" >"$state/.tmp.status"
  mv "$state/.tmp.status" "$state/status.json"
}

mkdir -p "$state/logs" "$state/artifacts"
say booted
say starting
# shellcheck disable=SC1090  # the request
{ (. "$1"); echo $? >/tmp/code; } 2>&1 | tee "$state/logs/guest.log"
code=$(cat /tmp/code)
if [ "$code" = 0 ]; then word=completed; else word=failed; fi
say "$word"
printf '{"schema_version":1,"status":"%s","exit_code":%d,"finished_at":"%s","message":"ended with %d"}\n' \
  "$word" "$code" "$(date +%Y-%m-%dT%H:%M:%S+00:00)" "$code" >"$state/.tmp.result"
mv "$state/.tmp.result" "$state/result.json"
