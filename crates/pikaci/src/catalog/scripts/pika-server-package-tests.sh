#!/usr/bin/env bash
# The tests of pika-server beside a database of their own.
set -euo pipefail
state=$(mktemp -d)
down() {
  cargo run -q -p pikahut -- down --state-dir "$state" || true
  rm -rf "$state"
}
trap down EXIT
cargo run -q -p pikahut -- up --profile postgres --background --state-dir "$state"
variables=$(cargo run -q -p pikahut -- env --state-dir "$state")
eval "$variables"
cargo test -p pika-server -- --test-threads=1 --nocapture "$@"
