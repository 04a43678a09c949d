#!/bin/sh
# Prints whose each job below the work directory $1 is, one line of JSON each.
for owner in "$1"/runs/*/jobs/*/owner.json; do
  if [ -f "$owner" ]; then cat "$owner"; fi
done
