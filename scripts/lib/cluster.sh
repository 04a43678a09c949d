# shellcheck shell=bash
# The cluster of the tests: three daemons of Incus on loopback, each with a pool of its own, as one cluster.
#
# Only tests of placement need it, and it takes half a minute, so that it comes up with the first of them. Uses the
# functions of scripts/lib/incus.sh with another rig_dir.

cluster_dir=${JERICHO_CLUSTER_DIR:-/dev/shm/jericho-cluster}
readonly CLUSTER_MEMBERS=(n1 n2 n3)
readonly CLUSTER_PORT=9463
# The group that has the second and the third member.
readonly CLUSTER_GROUP=others

cluster_socket() {
  printf '%s\n' "$cluster_dir/$1/unix.socket"
}

# cluster_client MEMBER COMMAND...: the client of Incus, at that member.
cluster_client() {
  local member=$1
  shift
  env -u INCUS_SOCKET INCUS_DIR="$cluster_dir/$member" INCUS_CONF="$cluster_dir/conf" incus "$@"
}

cluster_pid() {
  cat "$cluster_dir/$1.pid" 2>/dev/null || true
}

# Whether member $1 runs. A zombie does not.
cluster_is_up() {
  local pid
  pid=$(cluster_pid "$1")
  [[ -n $pid && -r /proc/$pid/environ ]] || return 1
  grep -qz "^INCUS_DIR=$cluster_dir/$1$" "/proc/$pid/environ" 2>/dev/null && [[ $(cat "/proc/$pid/comm" 2>/dev/null) == incusd ]]
}

cluster_up() {
  local rig_dir=$cluster_dir began=$EPOCHREALTIME member
  rig_needs
  install -d -m 0711 "$cluster_dir"
  install -d -m 0700 "$cluster_dir/conf"
  exec 8>>"$cluster_dir/lock"
  flock 8
  rig_prepare_machine
  for member in "${CLUSTER_MEMBERS[@]}"; do
    cluster_start "$member"
  done
  for member in "${CLUSTER_MEMBERS[@]}"; do
    INCUS_DIR=$cluster_dir/$member /usr/libexec/incus/incusd waitready --timeout=60
  done
  if [[ ! -e $cluster_dir/formed ]]; then
    echo "scripts/rig: forming a cluster of ${#CLUSTER_MEMBERS[@]} members (about half a minute)" >&2
    cluster_form
    : >"$cluster_dir/formed"
  fi
  cluster_online
  rig_image
  cluster_describe "$began"
  exec 8>&-
}

# Waits until each member knows of the others that they are there: by their heartbeats, which nothing else tells.
cluster_online() {
  local deadline=$((SECONDS + 60))
  until [[ $(rig_api GET '/1.0/cluster/members?recursion=1' | grep -o '"status":"Online"' | wc -l) == "${#CLUSTER_MEMBERS[@]}" ]]; do
    if ((SECONDS >= deadline)); then
      cluster_client "${CLUSTER_MEMBERS[0]}" cluster list >&2
      return 1
    fi
    sleep 0.2
  done
}

cluster_start() {
  local dir=$cluster_dir/$1
  cluster_is_up "$1" && return
  install -d -m 0711 "$dir"
  rm -f "$dir/unix.socket"
  INCUS_DIR=$dir INCUS_LXC_TEMPLATE_CONFIG=$cluster_dir/lxc INCUS_SKIP_INSTANCE_TYPES=1 setsid /usr/libexec/incus/incusd \
    --logfile "$dir.log" <&- >"$dir.out" 2>&1 7>&- 8>&- 9>&- &
  echo $! >"$dir.pid"
  disown
}

# The first member is the cluster; the others join it, one after the other.
cluster_form() {
  local first=${CLUSTER_MEMBERS[0]} member token number=1
  cluster_client "$first" admin init --preseed <<END >/dev/null
config: {core.https_address: "127.0.0.1:$CLUSTER_PORT", core.shutdown_timeout: "1"}
cluster: {server_name: $first, enabled: true}
storage_pools:
- {name: jericho, driver: btrfs, config: {size: 3GiB}}
END
  # The least that Incus takes: a lost member is told from a slow one after that many seconds.
  cluster_client "$first" config set cluster.offline_threshold 11
  cluster_client "$first" cluster group create "$CLUSTER_GROUP" >/dev/null
  for member in "${CLUSTER_MEMBERS[@]:1}"; do
    number=$((number + 1))
    token=$(cluster_client "$first" cluster add "$member" --quiet | tail -n 1)
    # Without a token it would become a cluster of its own, and nothing would fail.
    [[ -n $token ]] || return 1
    cluster_client "$member" admin init --preseed <<END >/dev/null
cluster:
  enabled: true
  server_name: $member
  server_address: "127.0.0.$number:$CLUSTER_PORT"
  cluster_token: "$token"
  member_config:
  - {entity: storage-pool, name: jericho, key: size, value: 3GiB}
END
    cluster_client "$first" cluster group assign "$member" "default,$CLUSTER_GROUP" >/dev/null
  done
}

# Writes what the users of the cluster must know; that file is there when it is up, and only then.
cluster_describe() {
  local file=$cluster_dir/cluster.json member members=
  for member in "${CLUSTER_MEMBERS[@]}"; do
    members+="${members:+, }{ \"name\": \"$member\", \"socket\": \"$(cluster_socket "$member")\", \"dir\": \"$cluster_dir/$member\" }"
  done
  # shellcheck disable=SC2154  # rig_alias is set by rig_image
  printf '{ "pool": "jericho", "group": "%s", "image_alias": "%s", "work_dir": "%s", "members": [%s] }\n' \
    "$CLUSTER_GROUP" "$rig_alias" "$cluster_dir/work" "$members" >"$file.tmp"
  : >>"$cluster_dir/users"
  install -d -m 0755 "$cluster_dir/work"
  mv -T "$file.tmp" "$file"
  cat "$file"
  echo "scripts/rig: cluster up after $(awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%d", (b - a) * 1000 }') ms" >&2
}

cluster_down() {
  local rig_dir=$cluster_dir member pid
  : "$rig_dir" # read by the functions of scripts/lib/incus.sh
  [[ -d $cluster_dir ]] || return 0
  exec 8>>"$cluster_dir/lock" 9>>"$cluster_dir/users"
  flock 8
  if [[ ${1:-} == --if-idle ]] && ! flock --nonblock 9; then
    echo "scripts/rig: the cluster is still in use, left running" >&2
    return 1
  fi
  rm -f "$cluster_dir/cluster.json"
  # Only daemons can end their guests, and only together.
  for member in "${CLUSTER_MEMBERS[@]}"; do
    [[ ! -d $cluster_dir/$member ]] || cluster_start "$member"
  done
  INCUS_DIR=$cluster_dir/${CLUSTER_MEMBERS[0]} timeout 60 /usr/libexec/incus/incusd waitready --timeout=60 && { rig_remove_projects || true; }
  for member in "${CLUSTER_MEMBERS[@]}"; do
    cluster_is_up "$member" && kill -TERM "$(cluster_pid "$member")"
  done
  for member in "${CLUSTER_MEMBERS[@]}"; do
    pid=$(cluster_pid "$member")
    if cluster_is_up "$member"; then
      timeout 30 tail --pid="$pid" -s 0.1 -f /dev/null || kill -KILL "$pid"
    fi
  done
  rig_unmount
  exec 8>&- 9>&-
  rm -rf --one-file-system -- "$cluster_dir"
}
