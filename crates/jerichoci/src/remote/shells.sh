#!/bin/sh
# Removes what shells have left below the work directory $1 whose processes are gone.
{ read -r now </proc/sys/kernel/random/boot_id; } 2>/dev/null
# Whether the process of a file runs: its number, the boot of the machine, and when it has started.
runs() {
  [ -f "$1" ] || return 1
  read -r pid boot start <"$1" || return 1
  [ "$boot" = "$now" ] || return 1
  # One that has ended and that nobody has waited for is there, too.
  [ "$(sed 's/^.*) //' "/proc/$pid/stat" 2>/dev/null | awk '$1 != "Z" && $1 != "X" { print $20 }')" = "$start" ]
}
for dir in "$1"/shells/*; do
  # One that is just being made says nothing yet.
  if [ ! -f "$dir/leash" ] || runs "$dir/leash" || runs "$dir/shell"; then continue; fi
  if grep -Flqxz "JERICHOCI_SHELL=$dir" /proc/[0-9]*/environ 2>/dev/null; then continue; fi
  chmod -R u+rwX "$dir" 2>/dev/null
  # Whoever ends this half-way leaves what says that it is to go.
  find "$dir" -mindepth 1 -maxdepth 1 ! -name leash ! -name shell -exec rm -rf {} +
  rm -rf "$dir"
done
exit 0
