#!/bin/sh
# Starts the entry program of a guest. Arguments: nonce, seconds to wait for the guest's system, state directory,
# logs directory, result file, status file, request file, request, program, script that makes the guest ready.
#
# It may be started twice with one nonce, by a client that did not hear the answer: one of the two goes on, and
# says so in its first line. Its own exit codes are 72 (nothing to start), 73 (nowhere to write), 74 (not made ready)
# and 75 (another one has gone on), for Incus makes an error of its own of 126 and 127.
set -u
nonce=$1 wait=$2 state=$3 logs=$4 result=$5 status=$6 request=$7 text=$8 program=$9 prepare=${10}
tries=0
# A system that boots brings its program and its state directory into place while it does.
until [ -x "$program" ] && [ -d "$state/." ]; do
  # An image that knows nothing of the state directory gets one on its root disk: /run may be in memory.
  if [ -x "$program" ] && [ ! -e "$state" ] && [ "$tries" -ge 20 ]; then
    mkdir -p /var/lib/pika-cloud "${state%/*}" && ln -sn /var/lib/pika-cloud "$state"
  fi
  tries=$((tries + 1))
  if [ "$tries" -gt $((wait * 20)) ]; then
    echo "pika-cloud: no program $program, or no directory $state, after $wait s" >&2
    exit 72
  fi
  sleep 0.05
done
if ! mkdir "$state/.launch.$nonce"; then
  [ -d "$state/.launch.$nonce" ] && exit 75
  exit 73
fi 2>/dev/null
for earlier in "$state"/.launch.*; do
  [ "$earlier" = "$state/.launch.$nonce" ] || rmdir "$earlier"
done
mkdir -p "$logs" || exit 73
# What an earlier attempt left must not be taken for the outcome of this one.
rm -f "$result" "$status" || exit 73
if [ -n "$text" ]; then
  (umask 077 && printf '%s' "$text" >"$request.new" && mv -f "$request.new" "$request") || exit 73
fi
# Before anything that may take long: who lost the answer waits only so long for this line.
printf 'pika-cloud-launch %s\n' "$nonce"
if [ -n "$prepare" ]; then
  # In this shell: what it exports is the program's. It says nothing on standard output, which is the program's too.
  { eval "$prepare"; } >&2 || exit 74
fi
if [ -n "$text" ]; then
  exec "$program" "$request"
fi
exec "$program"
