#!/bin/sh
# Makes the work directory of a host, checks it, and says what the host is. Arguments: the directory, the
# name of the runner, and a kind of processor and a hash for each runner that the other side has.
# Prints one fact a line, its name first; after `problem` nothing more is said.
set -u
umask 077
dir=$1 name=$2
shift 2
problem() {
  printf 'problem %s\n' "$*"
  exit 0
}
if [ -L "$dir" ]; then problem link; fi
if [ ! -e "$dir" ]; then
  said=$(mkdir -p "$dir" 2>&1) || problem "missing $said"
fi
if [ ! -d "$dir" ]; then problem no_directory; fi
# stat(1) has other options on other systems.
# shellcheck disable=SC2012
owner=$(ls -ldn "$dir" | awk '{ print $3; exit }')
if [ "$owner" != "$(id -u)" ]; then
  # shellcheck disable=SC2012
  problem "owner $(ls -ld "$dir" | awk '{ print $3; exit }') $(id -un 2>/dev/null || id -u)"
fi
if [ -n "$(find "$dir" -prune \( -perm -0020 -o -perm -0002 \) -print)" ]; then problem open; fi
said=$(chmod 0700 "$dir" 2>&1) || problem "read_only $said"
# A file system that is read-only shows when something is written, also to root.
probe="$dir/.probe.$$"
said=$( (: >"$probe") 2>&1) || problem "read_only $said"
rm -f "$probe"
printf 'path %s\n' "$(cd "$dir" && pwd -P)"
printf 'system %s\n' "$(uname -s)"
arch=$(uname -m)
printf 'arch %s\n' "$arch"
printf 'uid %s\n' "$(id -u)"
printf 'gid %s\n' "$(id -g)"
printf 'free_kib %s\n' "$(df -Pk "$dir" | awk 'NR == 2 { print $4 }')"
if unshare -m true >/dev/null 2>&1; then echo 'mounts yes'; else echo 'mounts no'; fi
if [ -r /proc/sys/kernel/random/boot_id ]; then
  printf 'boot_id %s\n' "$(cat /proc/sys/kernel/random/boot_id)"
fi
while [ $# -ge 2 ]; do
  if [ "$1" = "$arch" ]; then
    file="$dir/bin/$2/$name"
    if [ -f "$file" ] && [ ! -L "$file" ] && [ -x "$file" ]; then
      printf 'runner %s\n' "$(sha256sum "$file" | cut -c 1-64)"
      # One that nobody has used for long goes.
      touch "$dir/bin/$2" 2>/dev/null
    fi
  fi
  shift 2
done
echo end
