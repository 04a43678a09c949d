# shellcheck shell=bash
# The second pass over the tests: the same binaries, as the user nobody.
#
# nobody can read neither a checkout below /root nor cargo's home, so the pass works on an archive of the
# built tests and a copy of the source, in a directory that nobody owns. Paths that the compiler wrote
# into a test (env!) may not exist there; a test asks for them at run time (jericho_testkit::program).

# Runs a command as nobody, without groups and without capabilities.
as_nobody() {
  setpriv --reuid=nobody --regid="$(id -g nobody)" --clear-groups --inh-caps=-all -- "$@"
}

# Prints PATH without the directories that nobody cannot enter: with them, a program that does not exist
# is reported as "permission denied".
path_of_nobody() {
  local dir dirs=() kept=()
  IFS=: read -r -a dirs <<<"$PATH"
  for dir in "${dirs[@]}"; do
    if [[ $dir == /* ]] && as_nobody test -x "$dir"; then
      kept+=("$dir")
    fi
  done
  (
    IFS=:
    echo "${kept[*]}"
  )
}

step_unprivileged() {
  if ((EUID != 0)); then
    echo "not needed: this is not root, the step tests is the unprivileged one"
    return "$SKIPPED"
  fi
  if ! as_nobody true; then
    echo "cannot become the user nobody on this machine" >&2
    return 1
  fi
  local dir="${scratch:?}/unprivileged"
  mkdir -p "$dir/bin" "$dir/home" "$dir/tmp" "$dir/target"
  chmod 0755 "$scratch"

  # The same profile as the step tests: nothing is built a second time.
  cargo nextest archive --workspace --locked --archive-file "$dir/tests.tar.zst" --zstd-level 1
  copy_source "$dir/source"
  cp -- "$(nextest_program)" "$dir/bin/cargo-nextest"
  : >"$dir/not-run"
  chown -R --no-dereference nobody:"$(id -g nobody)" "$dir"

  local pass_on=() name
  for name in LANG LC_ALL TERM NO_COLOR CARGO_TERM_COLOR CI NEXTEST_PROFILE NEXTEST_TEST_THREADS \
    RUST_BACKTRACE PROPTEST_CASES PROPTEST_RNG_SEED; do
    if [[ -n ${!name+set} ]]; then
      pass_on+=("$name=${!name}")
    fi
  done
  cd "$dir/source" || return
  as_nobody env -i "${pass_on[@]}" \
    PATH="$(path_of_nobody)" HOME="$dir/home" TMPDIR="$dir/tmp" USER=nobody LOGNAME=nobody \
    JERICHO_TEST_NOT_RUN_FILE="$dir/not-run" INSTA_UPDATE=no INSTA_WORKSPACE_ROOT="$dir/source" \
    "$dir/bin/cargo-nextest" nextest run --no-fail-fast \
    --archive-file "$dir/tests.tar.zst" --extract-to "$dir/target" --workspace-remap "$dir/source"
}

nextest_program() {
  command -v cargo-nextest || echo "${CARGO_HOME:-$HOME/.cargo}/bin/cargo-nextest"
}
