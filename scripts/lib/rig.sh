# shellcheck shell=bash
# The services beside the tests, over one run of scripts/test.

# Brings the Incus of the tests up, where that can be, with its images: the first test that needs them would do so too,
# but would be ended for its slowness where they have to be built.
begin_rig() {
  if ((EUID != 0)) || [[ ! -x /usr/libexec/incus/incusd ]]; then
    return 0
  fi
  scripts/rig up >/dev/null
  scripts/rig systemd-image >/dev/null
}

# Ends it, unless the tests of another checkout use it at this moment.
end_rig() {
  if ((EUID != 0)) || [[ ! -d ${JERICHO_RIG_DIR:-/dev/shm/jericho-rig} ]]; then
    return 0
  fi
  scripts/rig cluster-down --if-idle || true
  scripts/rig down --if-idle || true
}
