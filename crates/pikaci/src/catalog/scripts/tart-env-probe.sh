#!/usr/bin/env bash
# In the macOS guest: says which tools it has, and that a simulator can be made.
set -euo pipefail
sw_vers
xcodebuild -version
cargo --version
rustc --version
python3 --version
./tools/ios-sim-ensure
