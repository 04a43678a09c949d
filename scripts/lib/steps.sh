# shellcheck shell=bash
# The steps of scripts/test, one function each. A step fails by its exit code; SKIPPED says that it had
# nothing to do.

# shellcheck disable=SC2034  # read by scripts/test
readonly SKIPPED=77

step_fmt() {
  cargo fmt --all --check
}

step_clippy() {
  cargo clippy --workspace --all-targets --locked -- -D warnings
}

step_docs() {
  RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked
}

step_shellcheck() {
  local scripts=()
  mapfile -d '' -t scripts < <(shell_scripts)
  if ((${#scripts[@]} == 0)); then
    echo "found no shell script, which cannot be" >&2
    return 1
  fi
  shellcheck "${scripts[@]}"
  echo "${#scripts[@]} scripts"
}

# Prints the shell scripts of the source, each ended by NUL: by name, or by their first line.
shell_scripts() {
  local file first
  while IFS= read -r -d '' file; do
    [[ -f $file && ! -L $file ]] || continue
    case $file in
      *.sh) printf '%s\0' "$file" ;;
      *.rs | *.toml | *.md | *.nix | *.py | *.lock | *.json | *.jsonl) ;;
      *)
        LC_ALL=C IFS= read -r -n 64 first 2>/dev/null <"$file" || [[ -n $first ]] || continue
        [[ $first =~ ^'#!'.*[/\ ](ba|da)?sh([[:space:]]|$) ]] && printf '%s\0' "$file"
        ;;
    esac
  done < <(source_files)
}

step_rules() {
  python3 -B -m unittest discover --quiet --start-directory scripts/tests
  python3 -B scripts/test_pikaci_tools_json.py --quiet
  python3 -B scripts/check_dependencies.py
  python3 -B scripts/check_licenses.py
  python3 -B scripts/test_check_invariants.py --quiet
  python3 -B scripts/check_invariants.py
}

step_flake() {
  scripts/check-flake
}

step_doctests() {
  cargo test --doc --workspace --locked
}

step_tests() {
  # What is sent to guests and hosts is tested as it is sent, and as an image has it.
  scripts/build-guest
  begin_rig
  JERICHO_TEST_NOT_RUN_FILE="${not_run_here:?}" INSTA_UPDATE=no INSTA_WORKSPACE_ROOT="${root:?}" \
    cargo nextest run --workspace --locked --no-fail-fast
}
