#!/usr/bin/env bash
# In the guest, as root: the instrumentation class that the job's variables name. Exit code 2 without Android.
set -euo pipefail
for name in ANDROID_HOME JAVA_HOME; do
  if [[ -z ${!name:-} ]]; then
    echo "$name is not set in this guest" >&2
    exit 2
  fi
done
./tools/android-ui-test-ci "$@"
