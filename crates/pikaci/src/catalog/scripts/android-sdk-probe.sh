#!/usr/bin/env bash
# In the guest, as root: says whether it has what the Android jobs need. Exit code 2 when it has no Android at all.
set -euo pipefail
for name in ANDROID_HOME JAVA_HOME; do
  if [[ -z ${!name:-} ]]; then
    echo "$name is not set in this guest" >&2
    exit 2
  fi
done
for program in java adb emulator avdmanager gradle; do
  command -v "$program"
done
cargo ndk --help >/dev/null
if ! rustup target list --installed 2>/dev/null | grep -qx aarch64-linux-android &&
  [[ ! -d $(rustc --print sysroot)/lib/rustlib/aarch64-linux-android ]]; then
  echo "the Rust target aarch64-linux-android is missing" >&2
  exit 1
fi
./tools/android-avd-ensure
emulator -list-avds
