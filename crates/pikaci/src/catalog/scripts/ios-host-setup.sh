#!/usr/bin/env bash
# On the Mac, before the VMs of a run: builds what the Xcode project needs from this tree.
set -euo pipefail
xcode_app=${JERICHOCI_TART_XCODE_APP:-/Applications/Xcode-16.4.0.app}
export DEVELOPER_DIR=${JERICHOCI_TART_DEVELOPER_DIR:-$xcode_app/Contents/Developer}
just ios-xcframework ios-xcodeproj
