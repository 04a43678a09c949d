#!/usr/bin/env bash
# The guest image of CI jobs: scripts/incus-role-image.sh with the role jericho-runner.
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/incus-role-image.sh" --role jericho-runner "$@"
