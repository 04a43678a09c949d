#!/usr/bin/env bash
# In the macOS guest: the tests of the Xcode project that the job's variables select, in a simulator.
#   PIKA_IOS_ONLY_TESTING    tests that run, separated by blanks; all when absent
#   PIKA_IOS_SKIP_TESTING    tests that do not
#   PIKA_IOS_SUITE_ARTIFACTS when set, what the simulator is made of is kept too
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ditto . "$work/source"
cd "$work/source"

ensured=$work/ios-sim-ensure.log
./tools/ios-sim-ensure 2>&1 | tee "$ensured"
udid=$(sed -n 's/^ok: ios simulator ready (udid=\(.*\))$/\1/p' "$ensured" | tail -n 1)
if [[ -z $udid ]]; then
  echo "ios-sim-ensure named no simulator" >&2
  exit 1
fi

if [[ -n ${PIKA_IOS_SUITE_ARTIFACTS:-} ]]; then
  cp "$ensured" "$ARTIFACTS/ios-sim-ensure.log"
  xcodebuild -showsdks >"$ARTIFACTS/xcode-showsdks.txt" 2>&1 || true
  xcrun simctl list runtimes >"$ARTIFACTS/simctl-runtimes.txt" 2>&1 || true
  xcrun simctl list devices >"$ARTIFACTS/simctl-devices.txt" 2>&1 || true
fi

selected=()
read -r -a only <<<"${PIKA_IOS_ONLY_TESTING:-}"
read -r -a skip <<<"${PIKA_IOS_SKIP_TESTING:-}"
# An empty array is unset to the bash 3.2 of macOS.
for test in ${only[@]+"${only[@]}"}; do
  selected+=("-only-testing:$test")
done
for test in ${skip[@]+"${skip[@]}"}; do
  selected+=("-skip-testing:$test")
done

mkdir -p "$ARTIFACTS/xcodebuild-logs"
PIKA_XCODEBUILD_LOG_DIR="$ARTIFACTS/xcodebuild-logs" ./tools/xcodebuild-compact test \
  -project ios/Pika.xcodeproj \
  -scheme Pika \
  -destination "id=$udid" \
  -skipMacroValidation \
  ${selected[@]+"${selected[@]}"} \
  ARCHS=arm64 \
  ONLY_ACTIVE_ARCH=YES \
  CODE_SIGNING_ALLOWED=NO \
  PIKA_APP_BUNDLE_ID="${PIKA_IOS_BUNDLE_ID:-org.pikachat.pika.dev}" \
  PIKA_IOS_URL_SCHEME="${PIKA_IOS_URL_SCHEME:-pika}" \
  "$@"
