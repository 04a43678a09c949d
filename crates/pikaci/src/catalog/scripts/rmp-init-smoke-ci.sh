#!/usr/bin/env bash
# Generates a project of each kind, and checks that it compiles.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cargo build -p rmp-cli
rmp=${CARGO_TARGET_DIR:-$PWD/target}/debug/rmp

# check DIRECTORY PACKAGE FLAG...: generates with the flags; checks the package, or everything when it is `-`.
check() {
  local directory=$work/$1 package=$2
  shift 2
  "$rmp" init "$directory" --yes --org com.example "$@" --json
  if [[ $package == - ]]; then
    (cd "$directory" && cargo check)
  else
    (cd "$directory" && cargo check -p "$package")
  fi
}

check rmp-mobile-no-iced - --no-iced
check rmp-all -
check rmp-android - --no-ios
check rmp-ios - --no-android
check rmp-iced rmp-iced_core_desktop_iced --no-ios --no-android --iced
