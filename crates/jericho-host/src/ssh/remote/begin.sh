# shellcheck shell=sh disable=SC2154
# How the other end talks to this program: one mark, chosen anew for each command, on both
# outputs before and after what the command itself writes.
#
# Given: j_mark.

# What a login shell has printed stands before it.
j_begin() {
  printf '\036%sb' "$j_mark"
  printf '\036%sb' "$j_mark" >&2
}

# j_end REPORT: lines for the client, and the end of everything.
j_end() {
  printf '\036%se' "$j_mark"
  printf '\036%se%s\n.\n' "$j_mark" "$1" >&2
  exit 0
}
