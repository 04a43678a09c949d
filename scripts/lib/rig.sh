# shellcheck shell=bash
# The services beside the tests, over one run of scripts/test.

# Brings the Incus of the tests up, where that can be: the first test that needs it would do so too, but would be
# ended for its slowness where the guest image has to be built.
begin_rig() {
  if ((EUID != 0)) || [[ ! -x /usr/libexec/incus/incusd ]]; then
    return 0
  fi
  scripts/rig up >/dev/null
}

# Ends it, unless the tests of another checkout use it at this moment.
end_rig() {
  if ((EUID != 0)) || [[ ! -d ${JERICHO_RIG_DIR:-/dev/shm/jericho-rig} ]]; then
    return 0
  fi
  scripts/rig down --if-idle || true
}
