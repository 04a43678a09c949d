# shellcheck shell=bash
# Snapshots of helper scripts on a build host, below `<work dir>/helpers/`.

# Prints $1 as one word for a shell.
shell_word() {
  printf "'%s'" "${1//\'/\'\\\'\'}"
}

# on_build_host SSH HOST SCRIPT [ARGUMENT...]: runs a script for sh there.
on_build_host() {
  local ssh=$1 host=$2 script=$3 command argument
  shift 3
  command="sh -c $(shell_word "$script") sh"
  for argument; do
    command+=" $(shell_word "$argument")"
  done
  "$ssh" "$host" "$command"
}

# Whether $1 is a name that can be removed below `helpers/` without harm elsewhere.
is_snapshot_id() {
  [[ $1 =~ ^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$ ]]
}

# remove_helper_snapshot SSH HOST WORK_DIR ID
remove_helper_snapshot() {
  is_snapshot_id "$4" || return
  # shellcheck disable=SC2016  # $1 is the remote shell's
  on_build_host "$1" "$2" 'rm -rf -- "$1"' "$3/helpers/$4" </dev/null
}
