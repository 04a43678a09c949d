# shellcheck shell=bash
# The builders of linux-rust.nix. Its attributes are the variables that are not set here.

readonly TARGET=x86_64-unknown-linux-gnu

# Whatever cargo compiles in either output is compiled by this: other words, and nothing of the first
# output could be used for the second.
compile_tests() {
  cargo test --no-run --workspace --lib --bins --tests --frozen --target "$TARGET" "$@"
}

# Puts the source where it can be compiled, against the vendored dependencies.
unpack() {
  set -eo pipefail
  export HOME="$NIX_BUILD_TOP/home" CARGO_HOME="$NIX_BUILD_TOP/home/cargo"
  export CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0 CARGO_TERM_COLOR=never
  # Of the tests alone, not of what runs while building, since the target is named.
  export RUSTFLAGS="-C target-feature=+crt-static"
  if [[ ${NIX_BUILD_CORES:-0} != 0 ]]; then
    export CARGO_BUILD_JOBS=$NIX_BUILD_CORES
  fi
  mkdir -p "$CARGO_HOME"
  printf '%s\n' '[source.crates-io]' 'replace-with = "vendored"' '[source.vendored]' \
    "directory = \"${vendor:?}\"" >"$CARGO_HOME/config.toml"
  # Files of today: cargo takes files of the store, which are all of one moment, for ones it has compiled.
  cp -r --no-preserve=mode,timestamps -- "${src:?}" "$NIX_BUILD_TOP/workspace"
  cd "$NIX_BUILD_TOP/workspace"
}

build_workspace_deps() {
  local packages package
  unpack
  # The crates of the workspace without what is in them.
  packages=$(python3 "${staged:?}" skeleton .)
  compile_tests
  for package in $packages; do
    cargo clean --quiet --frozen --target "$TARGET" --package "$package"
  done
  mkdir -p "${out:?}/share/jerichoci"
  mv -- target "$out/target"
  python3 "$staged" manifest "$out"
}

build_workspace_build() {
  unpack
  cp -r --preserve=mode,timestamps -- "${deps:?}/target" target
  chmod -R u+w target
  compile_tests --message-format=json-render-diagnostics >"$NIX_BUILD_TOP/messages"
  mkdir -p "${out:?}/share/jerichoci"
  python3 "${staged:?}" stage "$NIX_BUILD_TOP/messages" "${wrapper:?}" "$out"
  python3 "$staged" manifest "$out"
}
