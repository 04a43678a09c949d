# shellcheck shell=bash
# The Incus of the tests: one daemon per machine, shared by all test processes, ended by its pid.
#
# Two locks in the directory of the rig: `lock` is held while it is brought up or ended; `users` is held
# shared by whoever uses it, so that nobody ends it under a running test.

# shellcheck source=scripts/lib/role-image.sh
source "$(dirname "${BASH_SOURCE[0]}")/role-image.sh"
# shellcheck source=scripts/lib/role-import.sh
source "$(dirname "${BASH_SOURCE[0]}")/role-import.sh"

rig_dir=${JERICHO_RIG_DIR:-/dev/shm/jericho-rig}
rig_cache=${JERICHO_RIG_CACHE:-/var/cache/jericho-rig}
rig_recipe=$(dirname "${BASH_SOURCE[0]}")/guest-image.sh

# Linux refuses longer names of sockets.
readonly RIG_SOCKET_LIMIT=107

rig_up() {
  rig_needs
  install -d -m 0711 "$rig_dir"
  exec 8>>"$rig_dir/lock"
  flock 8
  local began=$EPOCHREALTIME
  rig_prepare_machine
  rig_start_daemon
  rig_configure
  rig_image
  rig_describe "$began"
  exec 8>&-
}

# Ends with code 3 when this is not root or a program is missing.
rig_needs() {
  if ((EUID != 0)); then
    echo "scripts/rig: only root can bring up Incus" >&2
    exit 3
  fi
  local program missing=()
  for program in /usr/libexec/incus/incusd mkfs.btrfs mmdebstrap tar2sqfs xz flock curl; do
    command -v "$program" >/dev/null || missing+=("$program")
  done
  if ((${#missing[@]})); then
    echo "scripts/rig: missing: ${missing[*]}" >&2
    echo "hint: scripts/test --setup-only tests" >&2
    exit 3
  fi
  if ((${#rig_dir} + ${#RIG_SOCKET} > RIG_SOCKET_LIMIT)); then
    echo "scripts/rig: JERICHO_RIG_DIR is too long for the name of a socket: $rig_dir" >&2
    exit 3
  fi
}

readonly RIG_SOCKET=/incus/unix.socket

rig_prepare_machine() {
  if ! grep -qE ' - cgroup2? ' /proc/self/mountinfo; then
    echo "scripts/rig: mounting cgroup2 on /sys/fs/cgroup" >&2
    mount -t cgroup2 none /sys/fs/cgroup
  fi
  local file
  for file in /etc/subuid /etc/subgid; do
    if ! grep -qs '^root:' "$file"; then
      echo "scripts/rig: adding a range for root to $file" >&2
      echo 'root:1000000:1000000000' >>"$file"
    fi
  done
  # Without the hook of lxcfs, which waits for half a second whenever a guest stops.
  install -d -m 0755 "$rig_dir/lxc" "$rig_dir/lxc/common.conf.d" "$rig_dir/incus" "$rig_cache"
  chmod 0711 "$rig_dir/incus"
  local part
  for part in /usr/share/lxc/config/*.conf /usr/share/lxc/config/*.seccomp; do
    [[ ! -e $part ]] || ln -sfn "$part" "$rig_dir/lxc/${part##*/}"
  done
}

# Whether process $1 is the daemon of this rig. A zombie is not.
rig_is_daemon() {
  [[ -n $1 && -r /proc/$1/environ ]] || return 1
  grep -qz "^INCUS_DIR=$rig_dir/incus$" "/proc/$1/environ" 2>/dev/null &&
    [[ $(cat "/proc/$1/comm" 2>/dev/null) == incusd ]]
}

rig_pid() {
  cat "$rig_dir/incusd.pid" 2>/dev/null || true
}

rig_start_daemon() {
  if ! rig_is_daemon "$(rig_pid)"; then
    rm -f "$rig_dir$RIG_SOCKET"
    # No descriptor of ours: a lock that the daemon inherits would never be free again.
    INCUS_DIR=$rig_dir/incus INCUS_LXC_TEMPLATE_CONFIG=$rig_dir/lxc INCUS_SKIP_INSTANCE_TYPES=1 setsid /usr/libexec/incus/incusd \
      --logfile "$rig_dir/incusd.log" <&- >"$rig_dir/incusd.out" 2>&1 3<&- 8>&- 9>&- &
    echo $! >"$rig_dir/incusd.pid"
    disown
  fi
  INCUS_DIR=$rig_dir/incus /usr/libexec/incus/incusd waitready --timeout=60
}

# rig_api METHOD PATH [BODY]: prints the answer; waits for an operation.
rig_api() {
  incus_api "$(rig_socket)" "$@"
}

rig_answers() {
  curl --silent --output /dev/null --max-time 30 --unix-socket "$(rig_socket)" http://incus/1.0
}

# The socket of the daemon; of the first member, where rig_dir is that of a cluster.
rig_socket() {
  if [[ -d $rig_dir/n1 ]]; then
    printf '%s\n' "$rig_dir/n1/unix.socket"
  else
    printf '%s\n' "$rig_dir$RIG_SOCKET"
  fi
}

rig_configure() {
  rig_api PATCH /1.0 '{"config":{"core.shutdown_timeout":"1"}}' >/dev/null
  rig_api GET /1.0/storage-pools/jericho >/dev/null 2>&1 ||
    rig_api POST /1.0/storage-pools '{"name":"jericho","driver":"btrfs","config":{"size":"8GiB"}}' >/dev/null
}

# The guest image, built once per recipe; its alias in Incus and its file have the hash of the recipe.
rig_image() {
  local hash file
  hash=$(cat "$rig_recipe" /etc/os-release | sha256sum)
  hash=${hash:0:12}
  rig_alias=jericho-rig/minimal-$hash
  file=$rig_cache/minimal-$hash
  if rig_api GET "/1.0/images/aliases/jericho-rig%2Fminimal-$hash" >/dev/null 2>&1; then
    return
  fi
  exec 7>>"$rig_cache/lock" # several rigs may be coming up
  flock 7
  rm -rf -- "$rig_cache"/.building.* # of a builder that did not live to end
  if [[ ! -s $file/rootfs.squashfs ]]; then
    echo "scripts/rig: building the guest image $rig_alias (about half a minute)" >&2
    local building
    building=$(mktemp -d "$rig_cache/.building.XXXXXX")
    bash "$rig_recipe" "$building" 7>&- 8>&- >"$rig_dir/image.log" 2>&1 || {
      tail -n 20 "$rig_dir/image.log" >&2
      return 1
    }
    chmod 0755 "$building"
    mv -T "$building" "$file"
  fi
  touch "$file"
  find "$rig_cache" -maxdepth 1 -name 'minimal-*' -mtime +14 -exec rm -rf -- {} +
  exec 7>&-
  role_image_import "$(rig_socket)" default "$rig_alias" "$file" >/dev/null
}

# Prints the alias of an image that boots systemd, made by the recipe of the images of roles, without the packages of
# one, and with the runner of the directory $1. The base is built once per recipe (about a minute).
rig_systemd_image() {
  local runners=$1 recipe hash base alias building
  if [[ ! -x $runners/jerichoci-incus-run ]]; then
    echo "scripts/rig: no jerichoci-incus-run in $runners" >&2
    echo "hint: scripts/build-guest" >&2
    exit 3
  fi
  rig_status >/dev/null
  recipe=$(role_image_recipe)
  hash=$(cat "$runners/jerichoci-incus-run" "$runners/pika-cloud-lifecycle" | sha256sum)
  alias=jericho-rig/systemd-$recipe-${hash:0:12}
  exec 9>>"$rig_dir/users"
  flock --shared 9 # nobody ends it meanwhile
  base=$(rig_systemd_base)
  exec 7>>"$rig_cache/lock"
  flock 7
  if ! rig_api GET "/1.0/images/aliases/$(incus_quoted "$alias")" >/dev/null 2>&1; then
    rm -rf -- "$rig_cache"/.building.*
    building=$(mktemp -d "$rig_cache/.building.XXXXXX")
    SOURCE_DATE_EPOCH=1700000000 role_image_finish "$base" "$runners" "$building" guest "guest of the tests"
    role_image_import "$(rig_socket)" default "$alias" "$building" >/dev/null
    rm -rf -- "$building"
    rig_forget_images "$alias"
  fi
  printf '%s\n' "$alias"
}

# Prints the file of a base of the images of roles, without the packages of one; it is built once per recipe.
rig_systemd_base() {
  local recipe base packages=() building
  recipe=$(role_image_recipe)
  base=$rig_cache/systemd-$recipe
  install -d -m 0755 "$rig_cache"
  exec 7>>"$rig_cache/lock"
  flock 7
  rm -rf -- "$rig_cache"/.building.*
  if [[ ! -s $base/base.tar ]]; then
    echo "scripts/rig: building the base of images that boot systemd (about a minute)" >&2
    mapfile -t packages < <(role_image_list common.packages)
    building=$(mktemp -d "$rig_cache/.building.XXXXXX")
    role_image_base "$building/base.tar" guest "${packages[@]}" 7>&- 9>&- 2>"$building/log" || {
      tail -n 20 "$building/log" >&2
      return 1
    }
    rm -f -- "$building/log"
    chmod 0755 "$building"
    mv -T "$building" "$base"
  fi
  touch "$base"
  find "$rig_cache" -maxdepth 1 -name 'systemd-*' -mtime +14 -exec rm -rf -- {} +
  exec 7>&-
  printf '%s
' "$base/base.tar"
}

# Images of runners that were built since lie in memory: the oldest go, but for eight and that of the alias $1.
rig_forget_images() {
  local alias
  rig_api GET '/1.0/images/aliases?recursion=1' | grep -o '"name":"jericho-rig/systemd-[^"]*"' | cut -d '"' -f 4 |
    { grep -vxF "$1" || true; } | tac | tail -n +8 | while IFS= read -r alias; do
      role_image_forget "$rig_dir$RIG_SOCKET" default "$alias"
    done
}

# Writes what the users of the rig must know; that file is there when the rig is up, and only then.
rig_describe() {
  local file=$rig_dir/rig.json
  printf '{ "socket": "%s", "pid": %s, "pool": "jericho", "image_alias": "%s", "users_lock": "%s", "work_dir": "%s" }\n' \
    "$rig_dir$RIG_SOCKET" "$(rig_pid)" "$rig_alias" "$rig_dir/users" "$rig_dir/work" >"$file.tmp"
  : >>"$rig_dir/users"
  install -d -m 0755 "$rig_dir/work"
  mv -T "$file.tmp" "$file"
  cat "$file"
  echo "scripts/rig: up after $(awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%d", (b - a) * 1000 }') ms" >&2
}

rig_status() {
  if [[ -r $rig_dir/rig.json ]] && rig_is_daemon "$(rig_pid)"; then
    cat "$rig_dir/rig.json"
  else
    echo "scripts/rig: not up" >&2
    return 1
  fi
}

rig_down() {
  rig_down_orphans
  [[ -d $rig_dir ]] || return 0
  exec 8>>"$rig_dir/lock" 9>>"$rig_dir/users"
  flock 8
  if [[ ${1:-} == --if-idle ]] && ! flock --nonblock 9; then
    echo "scripts/rig: still in use, left running" >&2
    return 1
  fi
  rm -f "$rig_dir/rig.json"
  local pid
  pid=$(rig_pid)
  if [[ -n $pid ]] && ! rig_is_daemon "$pid"; then
    # It was killed, but its guests were not: only a daemon can end them.
    rig_start_daemon || true
    pid=$(rig_pid)
  fi
  if rig_is_daemon "$pid"; then
    # A test that stopped it may not have lived to let it go on.
    kill -CONT "$pid"
    if rig_answers; then
      rig_remove_projects || true
    else
      echo "scripts/rig: the daemon does not answer, its guests are left to it" >&2
    fi
    kill -TERM "$pid"
    # Longer than the daemon gives its guests (core.shutdown_timeout, in minutes, and stop by force).
    timeout 30 tail --pid="$pid" -s 0.1 -f /dev/null || kill -KILL "$pid"
  fi
  rig_unmount
  exec 8>&- 9>&-
  # One small tree in memory; never across a mount that is left.
  rm -rf --one-file-system -- "$rig_dir"
}

# Ends the rigs that single tests had for themselves and did not live to end.
rig_down_orphans() {
  local dir
  for dir in "$rig_dir".own-*; do
    [[ -d $dir && ! -d /proc/${dir##*.own-} ]] || continue
    JERICHO_RIG_DIR=$dir "${root:?}/scripts/rig" down || true
  done
}

# Ends every guest: a daemon that is told to end would wait for them.
rig_remove_projects() {
  local project guest volume
  for project in $(rig_api GET /1.0/projects | grep -o '/1.0/projects/[^"]*'); do
    [[ $project != /1.0/projects/default ]] || continue
    if [[ -d $rig_dir/n1 ]]; then
      # Removing a project by force does not say which member it means, where several have a volume of one name. The
      # path of a volume names its member; one that a guest has would stay.
      for guest in $(rig_paths instances "/1.0/instances?project=${project##*/}"); do
        # One that is stopped already is no error.
        rig_api PUT "${guest/\?//state?}" '{"action":"stop","force":true}' >/dev/null 2>&1 || true
        rig_api DELETE "$guest" >/dev/null
      done
      for volume in $(rig_paths storage-pools "/1.0/storage-pools/jericho/volumes/custom?project=${project##*/}"); do
        rig_api DELETE "$volume" >/dev/null
      done
    fi
    rig_api DELETE "$project?force=1" >/dev/null
  done
}

# rig_paths KIND PATH: the paths that a list of Incus has, one a line.
rig_paths() {
  rig_api GET "$2" | grep -o "/1.0/$1/[^\"]*" || true
}

rig_unmount() {
  local mount
  awk -v dir="$rig_dir/" 'index($2, dir) == 1 { print $2 }' /proc/mounts | sort -r |
    while IFS= read -r mount; do
      umount "$mount" 2>/dev/null || umount --lazy "$mount"
    done
}
