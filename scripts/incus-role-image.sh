#!/usr/bin/env bash
# Builds the Debian image of a guest role and puts it into an Incus; see --help.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
readonly root

# shellcheck source=scripts/lib/role-image.sh
source "$root/scripts/lib/role-image.sh"
# shellcheck source=scripts/lib/role-import.sh
source "$root/scripts/lib/role-import.sh"

readonly ROLES=(jericho-runner managed-openclaw)

usage() {
  cat <<'END'
Usage: scripts/incus-role-image.sh --role ROLE build|import|build-import [OPTION...]

The image that guests of a role are made from: a Debian of this machine's release, as a container that
boots systemd, with the runner at /run/current-system/sw/bin/jerichoci-incus-run and a user of uid 1000.

  build          makes the image, as the directory --artifact with metadata.tar.xz and rootfs.squashfs
  import         puts the image in --artifact into an Incus and points the alias at it. An image that is
                 there is not sent again; the alias moves in one step, and the image that loses its last
                 alias is removed. Takes what nix builds too (disk.qcow2), and images that are one file.
  build-import   both

  --role ROLE          jericho-runner (jobs of CI) or managed-openclaw (managed agents)
  --artifact PATH      where the image is (result)
  --package NAME       one more package of Debian; may be given several times
  --project NAME       project of Incus (pika-managed-agents)
  --alias NAME         alias of the image (jericho/dev, or pika-agent/dev for managed agents)
  --remote-host HOST   into the Incus of a machine that ssh reaches, instead of that of this machine
  --remote-socket PATH the socket of Incus there (/var/lib/incus/unix.socket)
  -h, --help           print this

Building needs root for mmdebstrap alone, and calls sudo for it when this is not root. Packages come
from the mirror of apt-get's configuration here. The runner is built by scripts/build-guest unless
JERICHOCI_GUEST_RUNNER_DIR names a directory that has it. Importing uses INCUS_SOCKET or INCUS_DIR where they are set,
and over ssh the program in JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_BINARY.

Exit: 0 done, 1 failed, 2 wrong usage, 3 something needed is missing.
END
}

# fail CODE MESSAGE [HINT]
fail() {
  echo "${0##*/}: $2" >&2
  [[ -z ${3:-} ]] || echo "hint: $3" >&2
  exit "$1"
}

role='' action='' artifact=result project=pika-managed-agents alias='' remote_host=''
remote_socket=/var/lib/incus/unix.socket
extra=()
while (($#)); do
  case $1 in
    --role | --artifact | --package | --project | --alias | --remote-host | --remote-socket)
      if (($# < 2)) || [[ -z $2 ]]; then
        fail 2 "$1 has no value" "${0##*/} --help"
      fi
      case $1 in
        --role) role=$2 ;;
        --artifact) artifact=$2 ;;
        --package) extra+=("$2") ;;
        --project) project=$2 ;;
        --alias) alias=$2 ;;
        --remote-host) remote_host=$2 ;;
        --remote-socket) remote_socket=$2 ;;
      esac
      shift
      ;;
    --role=* | --artifact=* | --package=* | --project=* | --alias=* | --remote-host=* | --remote-socket=*)
      set -- "${1%%=*}" "${1#*=}" "${@:2}"
      continue
      ;;
    build | import | build-import)
      [[ -z $action ]] || fail 2 "$action and $1: one at a time"
      action=$1
      ;;
    -h | --help) usage && exit 0 ;;
    *) fail 2 "unknown argument $1" "${0##*/} --help" ;;
  esac
  shift
done
[[ $role != pikaci-runner ]] || role=jericho-runner # of older scripts
case $role in
  jericho-runner) alias=${alias:-jericho/dev} nix_attribute=pikaci-runner-incus-image ;;
  managed-openclaw) alias=${alias:-pika-agent/dev} nix_attribute=managed-openclaw-incus-image ;;
  '') fail 2 "--role is missing" "--role ${ROLES[0]}" ;;
  *) fail 2 "unknown role $role" "the roles are ${ROLES[*]}" ;;
esac
[[ -n $action ]] || fail 2 "what is to be done is missing" "build, import or build-import"
[[ $remote_host != -* ]] || fail 2 "--remote-host is no host: $remote_host"
[[ $alias != *[\"\\]* ]] || fail 2 "--alias has characters that no alias has: $alias"
for package in "${extra[@]}"; do
  [[ $package =~ ^[a-z0-9][a-z0-9.+-]+$ ]] || fail 2 "--package is no name of a package: $package"
done

# need PACKAGE=PROGRAM...: ends with code 3 when programs are missing.
need() {
  local entry missing=()
  for entry in "$@"; do
    command -v "${entry#*=}" >/dev/null || missing+=("${entry%%=*}")
  done
  ((${#missing[@]} == 0)) ||
    fail 3 "missing: ${missing[*]} (names of Debian packages)" "apt-get install --no-install-recommends ${missing[*]}"
}

scratch=$(mktemp -d /tmp/role-image.XXXXXX) # a name that is short enough for sockets
building=
cleanup() {
  [[ ! -e $scratch/ctl ]] || incus_forward_end "$scratch" "$remote_host"
  rm -rf -- "$scratch" "$building"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Sets runner_dir to a directory with the programs of guests.
find_runner() {
  local machine dir
  machine=$(debian_machine)
  if [[ -n ${JERICHOCI_GUEST_RUNNER_DIR:-} ]]; then
    for dir in "$JERICHOCI_GUEST_RUNNER_DIR/$machine" "$JERICHOCI_GUEST_RUNNER_DIR"; do
      if [[ -x $dir/jerichoci-incus-run ]]; then
        runner_dir=$dir
        return
      fi
    done
    fail 3 "JERICHOCI_GUEST_RUNNER_DIR has no jerichoci-incus-run for $machine: $JERICHOCI_GUEST_RUNNER_DIR" "scripts/build-guest"
  fi
  command -v cargo >/dev/null ||
    fail 3 "cargo, which builds the runner, is not on PATH" "install Rust with rustup, or set JERICHOCI_GUEST_RUNNER_DIR"
  "$root/scripts/build-guest" >&2 || fail 1 "the runner cannot be built"
  runner_dir=${CARGO_TARGET_DIR:-$root/target}/guest/$machine
}

build() {
  local packages=() code=0 runner_dir
  if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    fail 3 "this image is built on Debian" "with Nix: nix build .#$nix_attribute --out-link $artifact, then import"
  fi
  need mmdebstrap=mmdebstrap squashfs-tools-ng=tar2sqfs xz-utils=xz
  # What is at --artifact is replaced only when an image was built there, or nix built it.
  if [[ -e $artifact && ! -L $artifact && ! -f $artifact/rootfs.squashfs ]]; then
    fail 1 "$artifact is there and is no image of a former build" "name another place by --artifact"
  fi
  find_runner
  if ((EUID != 0)); then
    command -v sudo >/dev/null || fail 3 "only root can make a root file system, and there is no sudo" "run this as root"
    echo "needs root: sudo mmdebstrap" >&2
    role_image_sudo=(sudo)
  fi
  mapfile -t packages < <(role_image_list common.packages && role_image_list "$role.packages")
  packages+=("${extra[@]}")
  local parent name
  parent=$(dirname -- "$artifact")
  name=$(role_image_name "$role")
  mkdir -p -- "$parent"
  building=$(mktemp -d "$parent/.image.XXXXXX")
  chmod 0755 "$building"
  echo "building $name for $role from ${#packages[@]} packages (a minute or two)" >&2
  role_image_base "$building/base.tar" "$name" "${packages[@]}" 2>"$scratch/log" || code=$?
  if ((code)); then
    tail -n 20 "$scratch/log" >&2
    fail 1 "mmdebstrap does not make a root file system"
  fi
  role_image_finish "$building/base.tar" "$runner_dir" "$building" "$name" "Debian guest, role $role" ||
    fail 1 "no squashfs can be made of the root file system"
  rm -f -- "$building/base.tar"
  if [[ -L $artifact ]]; then
    rm -f -- "$artifact"
  elif [[ -e $artifact ]]; then
    rm -rf -- "$artifact"
  fi
  mv -T -- "$building" "$artifact"
  building=''
  du -hL -- "$artifact"/* >&2
}

# Sets socket to that of the Incus to import into, and makes sure that it takes images: before minutes of building.
reach() {
  local where
  need curl=curl
  if [[ -n $remote_host ]]; then
    need openssh-client="${JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_BINARY:-ssh}"
    incus_forward_begin "$scratch" "$remote_host" "$remote_socket" ||
      fail 1 "cannot reach $remote_host by ssh" "ssh $remote_host true; pikaci doctor $remote_host"
    socket=$scratch/incus where="$remote_socket of $remote_host"
  else
    socket=$(incus_socket)
    where=$socket
    [[ -S $socket ]] || fail 3 "no Incus on this machine: there is no socket $socket" \
      "scripts/setup-build-host, or INCUS_SOCKET, or --remote-host HOST"
    [[ -w $socket ]] || fail 3 "no right to use $socket" "run this as root, or join the group incus-admin"
  fi
  role_image_access "$socket" "$project" "$where" || fail 1 "no image can be imported${remote_host:+ on $remote_host}"
}

import() {
  local fingerprint
  fingerprint=$(role_image_import "$socket" "$project" "$alias" "$artifact") ||
    fail 1 "image not imported into project $project${remote_host:+ on $remote_host}"
  echo "$fingerprint $alias"
}

case $action in
  build) build ;;
  import) reach && import ;;
  build-import) reach && build && import ;;
esac
