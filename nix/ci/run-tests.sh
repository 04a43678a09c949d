#!/bin/sh
# Runs the test binaries of a manifest one after another, each in the directory of its crate in the source that
# lies in the working directory.
set -u

name='@name@'
build=/staged/linux-rust/workspace-build
source=$PWD

export INSTA_UPDATE=no INSTA_WORKSPACE_ROOT="$source"
count=0
failed=
while read -r binary; do
  package=$(basename "$(dirname "$binary")")
  export CARGO_MANIFEST_DIR="$source/crates/$package"
  echo "==> $binary"
  if ! (cd "$CARGO_MANIFEST_DIR" && exec "$build/target/$binary" "$@" </dev/null); then
    failed="$failed $binary"
  fi
  count=$((count + 1))
done <"$build/share/jerichoci/$name.manifest"

if [ "$count" = 0 ]; then
  echo "$name: no test binary in $build/share/jerichoci/$name.manifest" >&2
  exit 1
fi
if [ -n "$failed" ]; then
  echo "$name: failed:$failed" >&2
  exit 1
fi
echo "$name: $count test binaries passed"
