#!/bin/sh
# Makes the work directory of a host, checks it, and says what the host is. Arguments: the directory, the
# name of the runner, `stay` or nothing, the socket of Incus or nothing, and a kind of processor and a hash for
# each runner that the other side has. Prints one fact a line, its name first; after `problem` nothing more is
# said. Told to stay, it goes on as the receiver of snapshots, when the runner is there, and leaves a relay
# before the socket beside it.
#
# Whoever connects waits for this, so it starts as few programs as it can.
set -u
mask=$(umask)
umask 077
dir=$1 name=$2 stay=$3 socket=$4
shift 4
problem() {
  printf 'problem %s\n' "$*"
  exit 0
}
if [ -L "$dir" ]; then problem link; fi
if [ ! -e "$dir" ]; then
  said=$(mkdir -p "$dir" 2>&1) || problem "missing $said"
fi
if [ ! -d "$dir" ]; then problem no_directory; fi
uid=$(id -u)
# stat(1) has other options on other systems.
# shellcheck disable=SC2012
read -r mode _ owner _ <<EOF
$(ls -ldn "$dir")
EOF
if [ "$owner" != "$uid" ]; then
  # shellcheck disable=SC2012
  problem "owner $(ls -ld "$dir" | awk '{ print $3; exit }') $(id -un 2>/dev/null || echo "$uid")"
fi
case $mode in
  ?????w* | ????????w*) problem open ;;
  drwx------*) ;;
  *) said=$(chmod 0700 "$dir" 2>&1) || problem "read_only $said" ;;
esac
# A file system that is read-only shows when something is written, also to root.
probe="$dir/.probe.$$"
said=$( (: >"$probe") 2>&1) || problem "read_only $said"
rm -f "$probe"
path=$(cd "$dir" && pwd -P)
system=$(uname -sm)
arch=${system##* }
read -r _ _ _ free _ <<EOF
$(df -Pk "$dir" | tail -n 1)
EOF
printf 'path %s\nsystem %s\narch %s\nuid %s\ngid %s\nfree_kib %s\n' \
  "$path" "${system%% *}" "$arch" "$uid" "$(id -g)" "$free"
if [ "$uid" = 0 ] && unshare -m true >/dev/null 2>&1; then echo 'mounts yes'; else echo 'mounts no'; fi
if [ -r /proc/sys/kernel/random/boot_id ]; then
  read -r boot </proc/sys/kernel/random/boot_id
  printf 'boot_id %s\n' "$boot"
fi
runner=
while [ $# -ge 2 ]; do
  if [ "$1" = "$arch" ]; then
    file="$dir/bin/$2/$name"
    if [ -f "$file" ] && [ ! -L "$file" ] && [ -x "$file" ]; then
      sum=$(sha256sum <"$file")
      sum=${sum%% *}
      printf 'runner %s\n' "$sum"
      if [ "$sum" = "$2" ]; then runner=$file; fi
      # One that nobody has used for long goes.
      touch "$dir/bin/$2" 2>/dev/null
    fi
  fi
  shift 2
done
if [ -n "$stay" ] && [ -n "$runner" ] && [ -n "$socket" ]; then
  # Its input is that of the receiver, whose end it waits for. It says where it listens, and then nothing more.
  exec 3<&0
  relay=$("$runner" relay --to "$socket" "$path" <&3 3<&- 2>/dev/null &)
  exec 3<&-
  if [ -n "$relay" ]; then printf 'relay %s\n' "$relay"; fi
fi
echo end
if [ -n "$stay" ] && [ -n "$runner" ]; then
  umask "$mask"
  exec "$runner" store "$path"
fi
