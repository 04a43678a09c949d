#!/bin/sh
# Waits until the process that was started with the environment variable $1=$2 is gone. Prints `none` and returns
# at once when there is none.
pid=
for directory in /proc/[0-9]*; do
  grep -qzxF "$1=$2" "$directory/environ" 2>/dev/null || continue
  # Its children have inherited the variable: the first of them all has a parent that has not. Those that it
  # left behind have the guest's first process for a parent.
  while read -r name value _; do
    if [ "$name" = PPid: ]; then
      [ "$value" = 1 ] || grep -qzxF "$1=$2" "/proc/$value/environ" 2>/dev/null || pid=${directory#/proc/}
      break
    fi
  done 2>/dev/null <"$directory/status"
done
if [ -z "$pid" ]; then
  echo none
  exit 0
fi
while grep -qzxF "$1=$2" "/proc/$pid/environ" 2>/dev/null; do
  sleep 0.2
done
