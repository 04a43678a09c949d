# shellcheck shell=bash
# What the source of this repository is: its files, and a copy of them elsewhere.

# Prints the files of the source, relative to the working directory, each ended by NUL: what git tracks
# and what it does not ignore, or, in a tree without git, everything but build results.
source_files() {
  if [[ -e .git ]]; then
    local file
    # Root may check the tree of another user, which git alone refuses to look at.
    git -c safe.directory='*' ls-files -z --cached --others --exclude-standard | sort -zu |
      while IFS= read -r -d '' file; do
        if [[ -e $file || -L $file ]]; then # a tracked file may have been deleted
          printf '%s\0' "$file"
        fi
      done
  else
    find . \( -path ./target -o -path ./.jerichoci -o -path ./result \) -prune -o \
      \( -type f -o -type l \) -printf '%P\0'
  fi
}

# Copies the source into the directory $1, readable by everyone.
copy_source() {
  mkdir -p "$1"
  source_files | tar --create --null --no-recursion --files-from=- --file=- |
    tar --extract --file=- --directory="$1" --no-same-owner
  chmod -R u+rwX,go+rX "$1"
}

# Makes a directory for this run, below one that the second pass can enter, and prints its path.
make_scratch() {
  local base
  for base in "${TMPDIR:-/tmp}" /tmp /var/tmp; do
    if [[ -d $base && -w $base ]] && reachable "$base"; then
      mktemp -d "$base/jericho-test.XXXXXX"
      return
    fi
  done
  echo "scripts/test: no writable directory for temporary files; set TMPDIR" >&2
  return 3
}

# Whether the unprivileged user can enter directory $1; always true when not root, who runs no second pass.
reachable() {
  ((EUID != 0)) || ! command -v setpriv >/dev/null || as_nobody test -x "$1"
}
