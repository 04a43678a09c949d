#!/bin/sh
# Removes what jobs have left that run no more. Arguments: the runner, and the directory of each job.
set -u
runner=$1
shift
code=0
for job in "$@"; do
  [ -d "$job" ] || continue
  # With a result, nothing of the job runs any more.
  if [ -e "$job/request.json" ] && [ ! -e "$job/state/result.json" ]; then
    "$runner" cancel --force "$job/request.json" || { code=1; continue; }
  fi
  if [ -e "$job/env_file" ]; then rm -f "$(cat "$job/env_file")"; fi
  if ! rm -rf "$job" 2>/dev/null; then
    # Directories that the job has closed for itself.
    chmod -R u+rwX "$job" 2>/dev/null
    rm -rf "$job" || code=1
  fi
  # The directories above go with the last job.
  rmdir "${job%/*}" "${job%/*/*}" 2>/dev/null
done
exit "$code"
