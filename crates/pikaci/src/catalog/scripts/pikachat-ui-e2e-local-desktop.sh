#!/usr/bin/env bash
# On the Mac: the desktop scenario, by the test binary that the preparation built, where it built one.
set -euo pipefail
record() {
  ./scripts/apple-host-record-phase pikachat-followup.pikachat-ui-e2e-local-desktop rust-prepared -- "$@"
}
if [[ -n ${JERICHOCI_APPLE_RUST_PREPARED_MANIFEST:-} ]]; then
  record ./scripts/apple-host-run-prepared-entry pikahut-integration-deterministic ui_e2e_local_desktop --ignored --nocapture
else
  record cargo test -p pikahut --test integration_deterministic ui_e2e_local_desktop -- --ignored --nocapture
fi
