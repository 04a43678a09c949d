# shellcheck shell=sh disable=SC2154
# One step on the files of the other end. An error is what the program that met it says, in English.
#
# Given: j_mark; j_bytes of input for j_write.

# j_files FUNCTION ARGUMENT...
j_files() {
  j_begin
  "$@"
  j_end "x $?"
}

j_read() { cat -- "$1"; }

# j_read_range FILE FIRST BYTES: FIRST counts from one.
j_read_range() {
  if [ -d "$1" ]; then
    echo "$1: Is a directory" >&2
    return 1
  fi
  tail -c "+$2" -- "$1" | head -c "$3"
  # Of the pipe only the last is known; whether the file can be read is asked for by itself.
  head -c 0 -- "$1"
}

# j_write FILE DIRECTORY TEMPORARY SYNC
j_write() {
  if j_write_by "$@"; then return; fi
  rm -f -- "$3"
  return 1
}

j_write_by() {
  umask go-w
  set -C
  head -c "$j_bytes" >"$3" || return
  if [ "$(wc -c <"$3")" -ne "$j_bytes" ]; then
    echo "$1: No space left on device" >&2
    return 1
  fi
  if [ -n "$4" ]; then sync "$3" || return; fi
  j_move "$3" "$1" || return
  if [ -n "$4" ]; then sync "$2"; fi
}

# j_move FROM TO: rename(2). Without -T a link to a directory would be entered.
j_move() {
  if [ -d "$2" ] && ! [ -L "$2" ]; then
    echo "$2: Is a directory" >&2
    return 1
  fi
  if [ -d "$2" ]; then mv -fT -- "$1" "$2"; else mv -f -- "$1" "$2"; fi
}

# j_publish STAGED TARGET: 3 when the target is there already.
j_publish() {
  if ! [ -d "$1" ]; then
    ls -d -- "$1/." >/dev/null
    return 1
  fi
  # -n asks the kernel not to replace anything, -T not to move into a directory.
  mv -nT -- "$1" "$2" 2>/dev/null
  if ! [ -e "$1" ] && ! [ -L "$1" ]; then return 0; fi
  if [ -d "$2" ] && ! [ -L "$2" ]; then
    j_remove "$1" || return
    return 3
  fi
  if [ -e "$2" ] || [ -L "$2" ]; then
    echo "$2: File exists" >&2
    return 1
  fi
  mv -nT -- "$1" "$2"
}

j_remove() {
  rm -rf -- "$1" 2>/dev/null && return
  find "$1" -type d ! -perm -700 -exec chmod u+rwx {} \; 2>/dev/null
  rm -rf -- "$1"
}

j_make_dirs() {
  umask 077
  mkdir -p -- "$1"
}

# j_list DIRECTORY: kind and name of each entry, each entry ended by NUL.
j_list() {
  if [ -e "$1" ] && ! [ -d "$1" ]; then
    echo "$1: Not a directory" >&2
    return 1
  fi
  ls -- "$1" >/dev/null || return
  cd -- "$1" || return
  for j_name in * .*; do
    if [ "$j_name" = . ] || [ "$j_name" = .. ]; then continue; fi
    if [ -L "$j_name" ]; then
      j_kind=l
    elif [ -d "$j_name" ]; then
      j_kind=d
    elif [ -f "$j_name" ]; then
      j_kind=f
    elif [ -e "$j_name" ]; then
      j_kind=o
    else
      continue
    fi
    printf '%s%s\0' "$j_kind" "$j_name"
  done
}
