#!/bin/sh
# Writes, runs and links files in each directory that a job may write. `sh -eu`.
# The file that it leaves in the workspace is what the job `isolation` looks for.

mark=.jericho-smoke-mark
if [ -e "$mark" ]; then
  echo "$mark is in this workspace: an earlier run left it" >&2
  exit 1
fi

for name in PWD ARTIFACTS CARGO_TARGET_DIR; do
  eval "directory=\${$name:-}"
  # shellcheck disable=SC2154 # eval sets it
  if [ -z "$directory" ]; then
    echo "$name is not set" >&2
    exit 1
  fi
  if [ ! -d "$directory" ]; then
    echo "$name is $directory, which is not a directory" >&2
    exit 1
  fi

  file=$directory/$mark
  printf '#!/bin/sh\necho ran\n' >"$file"
  chmod 755 "$file"
  if [ "$("$file")" != ran ]; then
    echo "a program written to $name ($directory) does not run" >&2
    exit 1
  fi
  ln -s "$mark" "$file-link"
  mv "$file-link" "$file-moved"
  cmp "$file" "$file-moved"
  rm "$file-moved"
  [ "$name" = PWD ] || rm "$file"
  echo "$name is $directory: writes, links and runs"
done
