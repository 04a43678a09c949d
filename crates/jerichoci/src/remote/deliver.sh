#!/bin/sh
# Puts a runner into the work directory of a host. Arguments: the directory, the name of the runner, its hash, a
# name that nobody else has. Its content comes on standard input. A file is never written in its place: one that runs
# stays what it is.
set -u
umask 022
bin=$1/bin name=$2 hash=$3 temporary=$1/bin/.$4.tmp
fail() {
  rm -f "$temporary"
  printf '%s\n' "$*" >&2
  exit 1
}
mkdir -p "$bin/$hash" || fail "cannot make $bin/$hash"
# What was left by a client that died; one that is being written is younger.
find "$bin" -maxdepth 1 -name '.*.tmp' -mmin +60 -exec rm -f {} + 2>/dev/null
cat >"$temporary" || fail "cannot write $temporary"
found=$(sha256sum "$temporary" | cut -c 1-64)
[ "$found" = "$hash" ] || fail "what arrived has the hash $found, not $hash"
chmod 0755 "$temporary" || fail "cannot make $temporary a program"
sync "$temporary" 2>/dev/null || sync
mv -f "$temporary" "$bin/$hash/$name" || fail "cannot rename $temporary"
