#!/usr/bin/env bash
# In the macOS guest: the tests of pika-desktop against the SDK of its Xcode.
set -euo pipefail
sdk=$(xcrun --sdk macosx --show-sdk-path)
export LIBRARY_PATH="$sdk/usr/lib${LIBRARY_PATH:+:$LIBRARY_PATH}"
export LDFLAGS="-L$sdk/usr/lib${LDFLAGS:+ $LDFLAGS}"
# Beside the workspace, which may be read-only.
CARGO_TARGET_DIR=$(mktemp -d)
export CARGO_TARGET_DIR
trap 'rm -rf "$CARGO_TARGET_DIR"' EXIT
./tools/cargo-with-xcode test -p pika-desktop -- --nocapture "$@"
