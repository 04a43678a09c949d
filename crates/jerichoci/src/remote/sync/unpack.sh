#!/bin/sh
# Makes a snapshot of a tar stream on standard input, complete or not at all. Arguments: the work dir, the hash, a
# name that nobody else has.
set -u
umask 022
dir=$1/snapshots hash=$2 staged=$1/snapshots/tmp-tar-$3
fail() {
  rm -rf "$staged"
  printf '%s\n' "$*" >&2
  exit 1
}
trap 'fail "a signal ended it"' HUP INT TERM
if [ -L "$1" ]; then fail "the work dir $1 is a symbolic link; name the directory itself"; fi
if [ ! -d "$1" ]; then
  (umask 077 && mkdir -p "$1") || fail "the work dir $1 cannot be made"
fi
if [ ! -O "$1" ]; then fail "the work dir $1 belongs to another user"; fi
mkdir -p "$dir" || fail "the work dir $1 cannot be written to"
if [ -L "$dir" ]; then fail "$dir in the work dir is a symbolic link; remove it"; fi
# What was left by one that was killed; one at work is younger.
find "$dir" -maxdepth 1 -name 'tmp-tar-*' -mmin +600 -exec rm -rf {} + 2>/dev/null
mkdir "$staged" || fail "the work dir $1 cannot be written to"
tar -x -f - -C "$staged" || fail "what was sent cannot be unpacked"
if [ ! -f "$staged/jerichoci-snapshot.json" ]; then fail "the stream ended before its end"; fi
mkdir -p "$staged/snapshot" || fail "cannot make the tree"
if [ -e "$dir/$hash" ] || [ -L "$dir/$hash" ]; then
  mv "$dir/$hash" "$staged/old" || fail "cannot set the damaged snapshot $hash aside"
fi
# Its time is that of publication: what is younger in the tree was changed afterwards.
touch "$staged/jerichoci-snapshot.json" || fail "cannot write the marker"
mv "$staged" "$dir/$hash" || fail "cannot publish snapshot $hash"
rm -rf "$dir/$hash/old"
