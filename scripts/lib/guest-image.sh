#!/usr/bin/env bash
# Builds the minimal guest image of the tests into the directory $1: metadata.tar and rootfs.squashfs.
#
# Debian's smallest system with git, no init but a loop that waits for its end, the user `jericho` (1000), and the
# directories of the guest contract. Everything that decides the content but the release of this machine stands
# in this file: the hash of both is the name of the image.
set -euo pipefail

# shellcheck source=scripts/lib/debian.sh
source "$(dirname "${BASH_SOURCE[0]}")/debian.sh"

out=$1
# That of this machine, whose dynamic programs the tests bring into the guest.
suite=$(debian_suite)
mirror=$(debian_mirror "$suite")

init=$(mktemp)
trap 'rm -f -- "$init"' EXIT
cat >"$init" <<'INIT'
#!/bin/sh
# Waits until it is told to end. The lifecycle files lie on the root disk: a stopped guest still shows them.
ln -sfn /var/lib/pika-cloud /run/pika-cloud
ln -sfn /opt/jerichoci/system /run/current-system
trap 'exit 0' TERM PWR INT
while :; do
  sleep 2147483647 &
  wait $!
done
INIT

# shellcheck disable=SC2016  # $1 is mmdebstrap's
mmdebstrap --quiet --variant=minbase --include=git --skip=cleanup/run --dpkgopt=force-unsafe-io \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook='chroot "$1" useradd -m -u 1000 -U -s /bin/bash jericho' \
  --customize-hook='install -d "$1/opt/jerichoci/system/sw/bin" "$1/workspace/snapshot"' \
  --customize-hook='install -d -m 0777 "$1/var/lib/pika-cloud"' \
  --customize-hook=': >"$1/etc/machine-id"; rm -f "$1/etc/hostname"; rm -f "$1"/var/cache/apt/*.bin "$1"/var/lib/apt/lists/*_*' \
  --customize-hook="install -m 0755 '$init' \"\$1/sbin/init\"" \
  "$suite" - "$mirror" | tar2sqfs --quiet --force --compressor zstd --comp-extra level=3 "$out/rootfs.squashfs"

metadata=$(mktemp -d)
printf 'architecture: %s\ncreation_date: 1700000000\nproperties: {os: debian, release: %s, description: guest of the tests}\n' \
  "$(debian_machine)" "$suite" >"$metadata/metadata.yaml"
tar -C "$metadata" -cf "$out/metadata.tar" metadata.yaml
rm -f -- "$metadata/metadata.yaml"
rmdir -- "$metadata"
