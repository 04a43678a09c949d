# shellcheck shell=bash
# Builds Debian guest images that boot systemd: a base of packages, then the runner on top of it.
#
# The base is what takes time and changes seldom; it can be kept (see role_image_recipe). What is in it
# stands in images/debian.

# shellcheck source=scripts/lib/debian.sh
source "$(dirname "${BASH_SOURCE[0]}")/debian.sh"

role_image_data=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../images/debian" && pwd -P)

# Where a guest has the runner, without the link that each boot makes: see jericho-ready.service.
readonly ROLE_IMAGE_PROGRAMS=opt/jerichoci/system/sw/bin

# Prints what a list of images/debian holds: lines without comments.
role_image_list() {
  sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$role_image_data/$1"
}

# The name of image and host of role $1, as records have it.
role_image_name() {
  case $1 in
    jericho-runner) echo pikaci-incus-dev ;;
    managed-openclaw) echo pika-agent-incus-dev ;;
    *) echo "$1" ;;
  esac
}

# A hash of all that decides the content of a base: this recipe, and the release.
role_image_recipe() {
  {
    cat "${BASH_SOURCE[0]}" /etc/os-release
    find "$role_image_data" -type f | LC_ALL=C sort | while IFS= read -r file; do
      printf '%s\n' "${file#"$role_image_data"}"
      cat -- "$file"
    done
  } | sha256sum | cut -c 1-12
}

# role_image_base OUT HOST_NAME PACKAGE...: writes the root file system, but for the runner, as a tar
# archive. Needs root; "${role_image_sudo[@]}" is how it becomes that.
role_image_sudo=()
role_image_base() {
  local out=$1 name=$2 scratch suite mirror packages
  shift 2
  suite=$(debian_suite)
  mirror=$(debian_mirror "$suite")
  if [[ -z $suite || -z $mirror ]]; then
    echo "no mirror of Debian in the configuration of apt-get on this machine" >&2
    return 1
  fi
  packages=$(IFS=, && echo "$*")
  scratch=$(mktemp -d)
  role_image_overlay "$scratch/rootfs" "$name"
  tar --create --owner=0 --group=0 --numeric-owner --directory="$scratch/rootfs" --file="$scratch/rootfs.tar" .
  # shellcheck disable=SC2016  # $1 is mmdebstrap's
  local hooks=(
    --customize-hook='chroot "$1" useradd --create-home --uid 1000 --user-group --shell /bin/bash pikaci'
    --customize-hook="tar-in $scratch/rootfs.tar /"
    # Each guest makes its own, from nothing.
    --customize-hook=': >"$1/etc/machine-id"; rm -f "$1/var/lib/dbus/machine-id"'
    --customize-hook='ln -sfn ../run/systemd/resolve/resolv.conf "$1/etc/resolv.conf"'
    --customize-hook='chroot "$1" systemctl --quiet enable systemd-networkd.service systemd-resolved.service jericho-ready.service'
    --customize-hook='rm -f "$1"/var/cache/apt/*.bin "$1"/var/lib/apt/lists/*_* "$1"/var/log/*.log "$1"/var/log/apt/*'
  )
  local options=(
    --quiet --variant=minbase --include="$packages" --skip=cleanup/run --dpkgopt=force-unsafe-io
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*'
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright'
  )
  local code=0
  "${role_image_sudo[@]}" mmdebstrap "${options[@]}" "${hooks[@]}" "$suite" - "$mirror" >"$out" || code=$?
  rm -rf -- "$scratch"
  return "$code"
}

# Puts into the directory $1 the files of ours in the root file system of a guest called $2.
role_image_overlay() {
  mkdir -p "$1"
  cp -R -- "$role_image_data/rootfs/." "$1"
  chmod -R u=rwX,go=rX "$1"
  mkdir -p "$1/$ROLE_IMAGE_PROGRAMS" "$1/workspace/snapshot" "$1/etc/systemd/system" "$1/run"
  # Beneath the tmpfs of a guest that runs: in one that was stopped, the lifecycle files have their path all the
  # same. There is none to the runner, so that a guest whose system is not up yet does not look ready.
  ln -s /var/lib/pika-cloud "$1/run/pika-cloud"
  printf '%s\n' "$2" >"$1/etc/hostname"
  printf '127.0.0.1 localhost\n127.0.1.1 %s\n::1 localhost ip6-localhost ip6-loopback\n' "$2" >"$1/etc/hosts"
  local unit
  role_image_list masked-units | while IFS= read -r unit; do
    ln -s /dev/null "$1/etc/systemd/system/$unit"
  done
}

# role_image_finish BASE RUNNER_DIR OUT NAME DESCRIPTION: makes of a base and the programs in a directory the image,
# as OUT/metadata.tar.xz and OUT/rootfs.squashfs.
role_image_finish() {
  local base=$1 runners=$2 out=$3 name=$4 description=$5 scratch code=0 program
  local when=${SOURCE_DATE_EPOCH:-$(date +%s)}
  scratch=$(mktemp -d)
  mkdir -p "$scratch/$ROLE_IMAGE_PROGRAMS"
  for program in jerichoci-incus-run pika-cloud-lifecycle; do
    install -m 0755 -- "$runners/$program" "$scratch/$ROLE_IMAGE_PROGRAMS/$program"
  done
  # Two archives as one: the first without the two blocks that say it is at its end.
  {
    (cd "$scratch" && tar --create --blocking-factor=1 --owner=0 --group=0 --numeric-owner --mtime="@$when" \
      --file=- "$ROLE_IMAGE_PROGRAMS"/*) | head -c -1024
    cat -- "$base"
  } | tar2sqfs --quiet --force --compressor zstd --comp-extra level=3 --defaults "mtime=$when" \
    "$out/rootfs.squashfs" 2>"$scratch/log" || code=$?
  if ((code)); then
    cat "$scratch/log" >&2
  else
    cat >"$scratch/metadata.yaml" <<END
architecture: $(debian_machine)
creation_date: $when
properties:
  architecture: $(debian_machine)
  description: $description
  name: $name
  os: debian
  release: $(debian_suite)
  variant: $name
END
    tar --create --xz --owner=0 --group=0 --numeric-owner --mtime="@$when" --directory="$scratch" \
      --file="$out/metadata.tar.xz" metadata.yaml || code=$?
  fi
  rm -rf -- "$scratch"
  return "$code"
}
