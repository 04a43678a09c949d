# shellcheck shell=bash
# A machine that nobody has made a build host yet: the daemon of Incus as Debian's package leaves it, without pool,
# network, project or image, at the paths of that package.
#
# The paths and the network are those of namespaces of its own, so that no other Incus on this machine is met, and what
# scripts/setup-build-host makes with its defaults is seen by nobody else. Uses the functions of scripts/lib/incus.sh.

# Brings it up, describes it, and ends it when the descriptor 3 is at its end: with whoever started it.
rig_machine() {
  local began=$EPOCHREALTIME
  rig_needs
  # shellcheck disable=SC2154  # that of scripts/rig
  install -d -m 0711 "$rig_dir"
  exec 8>>"$rig_dir/lock"
  flock 8
  trap 'machine_end' EXIT
  trap 'exit 143' TERM
  trap 'exit 130' INT
  rig_prepare_machine
  machine_paths
  rig_start_daemon
  rig_api PATCH /1.0 '{"config":{"core.shutdown_timeout":"1"}}' >/dev/null
  rig_alias='' rig_describe "$began"
  exec 8>&-
  read -r -u 3 || true
}

# What the package's paths are here, and the network of this namespace as the kernel shows it.
machine_paths() {
  install -d -m 0755 "$rig_dir/cgroup"
  install -d -m 1777 "$rig_dir/var-tmp"
  mount --rbind /sys/fs/cgroup "$rig_dir/cgroup"
  mount -t sysfs sysfs /sys
  mount --rbind "$rig_dir/cgroup" /sys/fs/cgroup
  umount --recursive "$rig_dir/cgroup"
  mkdir -p /var/lib/incus
  mount --bind "$rig_dir/incus" /var/lib/incus
  mount --bind "$rig_dir/var-tmp" /var/tmp
  ip link set lo up
}

machine_end() {
  local network
  if rig_is_daemon "$(rig_pid)"; then
    rig_remove_projects || true
    # What serves a network outlives the daemon. Those of the kernel it does not know, and refuses.
    for network in $(rig_paths networks /1.0/networks); do
      rig_api DELETE "$network" >/dev/null 2>&1 || true
    done
  fi
  rig_down
}
