#!/bin/sh
# Makes the directory of a shell, the argument, and says so. Ends the shell when nobody is left who asked for it: at the
# end of the standard input.
dir=$1
umask 077
mkdir -p "$dir" || exit 1
# For who comes when this was killed: number, boot and start of this process, at once or not at all.
{
  read -r boot </proc/sys/kernel/random/boot_id
  echo "$$ $boot $(sed 's/^.*) //' /proc/$$/stat | cut -d ' ' -f 20)" >"$dir/.leash"
  mv "$dir/.leash" "$dir/leash"
} 2>/dev/null
echo ready
cat >/dev/null
# It has ended, and has cleaned up.
[ -d "$dir" ] || exit 0
# What belongs to it: the session of its first shell, and what has its name.
ours() {
  {
    cat /proc/[0-9]*/stat | awk -v shell="$(cat "$dir/pid")" '
      { pid = $1; sub(/^.*\) /, ""); if ($4 == shell && $1 != "Z") print pid }'
    grep -Flxz "JERICHOCI_SHELL=$dir" /proc/[0-9]*/environ | cut -d / -f 3
  } 2>/dev/null
}
for signal in HUP TERM TERM KILL KILL; do
  found=$(ours)
  if [ -z "$found" ]; then break; fi
  for pid in $found; do
    kill -s "$signal" "$pid" && kill -s CONT "$pid"
  done 2>/dev/null
  sleep 0.5
done
chmod -R u+rwX "$dir" 2>/dev/null
rm -rf "$dir"
