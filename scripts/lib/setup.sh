# shellcheck shell=bash
# What the checks need on this machine, and how what is missing is installed.

# shellcheck source=scripts/lib/debian.sh
source "$(dirname "${BASH_SOURCE[0]}")/debian.sh"

# The version that cargo install builds; any version on PATH that can read .config/nextest.toml will do.
readonly NEXTEST_VERSION=0.9.143

# Debian package | program or file that shows it is there | steps that need it (* for all).
# libc6-dev is named because gcc only recommends it, and nothing links without it.
# shellcheck disable=SC2034  # read by name, in missing_packages
readonly PACKAGES=(
  "coreutils|sort|*"
  "mawk|awk|*"
  "tar|tar|rules flake unprivileged"
  "git|git|*"
  "gcc|cc|clippy docs doctests tests unprivileged"
  "libc6-dev|/usr/include/stdio.h|clippy docs doctests tests unprivileged"
  "python3|python3|rules flake tests unprivileged"
  "shellcheck|shellcheck|shellcheck"
  "nix-bin|nix|rules flake tests unprivileged"
  "util-linux|setpriv|tests unprivileged"
  "procps|ps|tests unprivileged"
  "libxml2-utils|xmllint|tests unprivileged"
  "chromium|chromium|tests unprivileged"
  "tmux|tmux|tests unprivileged"
  "zsh|zsh|tests unprivileged"
  "fish|fish|tests unprivileged"
  "man-db|man|tests unprivileged"
  "openssh-client|ssh|tests unprivileged"
  "openssh-server|/usr/sbin/sshd|tests unprivileged"
)

# What the Incus of the tests needs, in the same form (see scripts/lib/incus.sh). Only root can run it, so only root
# needs it; where it stays missing, the tests that need it are not run.
# shellcheck disable=SC2034
readonly ROOT_PACKAGES=(
  "incus-base|/usr/libexec/incus/incusd|tests"
  "btrfs-progs|mkfs.btrfs|tests"
  "mmdebstrap|mmdebstrap|tests"
  "squashfs-tools-ng|tar2sqfs|tests"
  "xz-utils|xz|tests"
  "curl|curl|tests"
  "dnsmasq-base|dnsmasq|tests"
  "sudo|sudo|tests"
)

# setup MODE STEP...: makes sure that all the steps need is present, installing it as MODE says
# (auto, sudo, never); ends the script with code 3 when something stays missing.
setup() {
  local mode=$1
  shift
  install_packages "$mode" "$@"
  if ((EUID == 0)); then
    install_root_packages "$mode" "$@"
  fi
  check_toolchain "$@"
  if needs_step tests "$@" || needs_step unprivileged "$@"; then
    install_nextest "$mode"
  fi
}

needs_step() {
  local step=$1
  shift
  [[ " $* " == *" $step "* ]]
}

present() {
  if [[ $1 == /*/sbin/* || $1 == /*/libexec/* ]]; then
    # Programs that an ordinary user does not have on PATH.
    [[ -x $1 ]]
  elif [[ $1 == /* ]]; then
    # C headers of Debian; a system that keeps them elsewhere is asked through its compiler.
    [[ -e $1 ]] || echo '#include <stdio.h>' | cc -E - >/dev/null 2>&1
  else
    command -v "$1" >/dev/null
  fi
}

# missing_packages TABLE STEP...: puts into `missing` what the steps need of that table and is not there.
missing_packages() {
  local -n table=$1
  local entry package probe steps step
  shift
  missing=()
  for entry in "${table[@]}"; do
    IFS='|' read -r package probe steps <<<"$entry"
    present "$probe" && continue
    for step in "$@"; do
      if [[ $steps == '*' ]] || needs_step "$step" "$steps"; then
        missing+=("$package")
        break
      fi
    done
  done
}

install_packages() {
  local mode=$1 missing
  shift
  missing_packages PACKAGES "$@"
  ((${#missing[@]})) || return 0

  local sudo=()
  if ((EUID != 0)); then
    sudo=(sudo)
  fi
  if [[ $mode == never ]] || { [[ $mode == auto ]] && ((EUID != 0)); }; then
    echo "scripts/test: missing: ${missing[*]} (names of Debian packages)" >&2
    echo "hint: scripts/test --install, or: apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 3
  fi
  if ! command -v apt-get >/dev/null; then
    echo "scripts/test: missing: ${missing[*]} (names of Debian packages), and there is no apt-get" >&2
    echo "hint: install them as this system does, then run scripts/test --no-install" >&2
    exit 3
  fi
  echo "Will install from the packages of this system: ${missing[*]}"
  echo "  apt-get update; apt-get install --no-install-recommends ${missing[*]}"
  "${sudo[@]}" apt-get update --quiet=2 || exit 3
  if [[ " ${missing[*]} " == *" openssh-server "* ]]; then
    echo "  (the tests start their own sshd on loopback; the service of the package is not started, nor at boot)"
    units_to_disable+=(ssh.service)
    without_services "${sudo[@]}"
  fi
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install --yes --quiet=2 --no-install-recommends "${missing[@]}" || exit 3
  with_services
}

install_root_packages() {
  local mode=$1 missing
  shift
  missing_packages ROOT_PACKAGES "$@"
  ((${#missing[@]})) || return 0
  if [[ $mode == never ]] || ! command -v apt-get >/dev/null; then
    echo "scripts/test: missing: ${missing[*]} (names of Debian packages); the tests with Incus will not be run" >&2
    return 0
  fi
  echo "Will install from the packages of this system, for the tests with Incus: ${missing[*]}"
  apt-get update --quiet=2 || exit 3
  local options=() sources=
  if [[ " ${missing[*]} " == *" incus-base "* ]]; then
    echo "  (the tests start their own incusd; the services of the package are not started, nor at boot)"
    units_to_disable+=(incus.socket incus.service incus-startup.service incus-user.socket incus-user.service)
    without_services
    if ! apt-cache policy incus-base | grep -q 'Candidate: [^(]'; then
      sources=$(backports_sources) || exit 3
      options=(-o "Dir::Etc::sourceparts=$sources")
      echo "  (incus-base from the suite backports of this system's mirror, for this installation alone)"
      apt-get "${options[@]}" update --quiet=2 || exit 3
    fi
  fi
  DEBIAN_FRONTEND=noninteractive \
    apt-get "${options[@]}" install --yes --quiet=2 --no-install-recommends "${missing[@]}" || exit 3
  with_services
  if [[ -n $sources ]]; then
    rm -rf -- "$sources"
  fi
}

# Makes a directory of package sources, those of this system and the backports of its release, and prints its path.
backports_sources() {
  local dir codename mirror
  codename=$(debian_suite)
  mirror=$(debian_mirror "$codename")
  if [[ -z $codename || -z $mirror ]]; then
    echo "scripts/test: this system has no package incus-base, and no mirror of Debian to find it on" >&2
    return 3
  fi
  dir=$(mktemp -d "${scratch:-/tmp}/sources.XXXXXX")
  cp -- /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources "$dir" 2>/dev/null || true
  printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s-backports main\n' \
    "$mirror" "$codename" >"$dir/jericho-backports.list"
  chmod 0755 "$dir" # apt reads it as its own user
  echo "$dir"
}

# Debian starts a service when its package is installed, unless this file says no, and again at each
# boot: the tests must not open a port of this machine to others.
readonly SERVICE_POLICY=/usr/sbin/policy-rc.d
policy_is_ours=no
policy_sudo=()
units_to_disable=() # of the packages that are being installed

# without_services [SUDO]: no service is started until with_services is called.
without_services() {
  [[ ! -e $SERVICE_POLICY ]] || return 0
  policy_sudo=("$@")
  policy_is_ours=yes
  printf '#!/bin/sh\nexit 101\n' | "$@" tee "$SERVICE_POLICY" >/dev/null
  "$@" chmod 0755 "$SERVICE_POLICY"
}

with_services() {
  [[ $policy_is_ours == yes ]] || return 0
  "${policy_sudo[@]}" rm -f "$SERVICE_POLICY"
  if command -v systemctl >/dev/null; then
    "${policy_sudo[@]}" systemctl --quiet disable "${units_to_disable[@]}" || true
  fi
  policy_is_ours=no
  units_to_disable=()
}

check_toolchain() {
  if ! command -v cargo >/dev/null; then
    echo "scripts/test: cargo is not on PATH" >&2
    echo "hint: install Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or newer with rustup" >&2
    exit 3
  fi
  local pair component
  for pair in "fmt rustfmt" "clippy clippy"; do
    component=${pair#* }
    if needs_step "${pair% *}" "$@" && ! cargo "${pair% *}" --version >/dev/null 2>&1; then
      echo "scripts/test: the toolchain has no $component" >&2
      echo "hint: rustup component add $component" >&2
      exit 3
    fi
  done
}

install_nextest() {
  cargo nextest --version >/dev/null 2>&1 && return 0
  if [[ $1 == never ]]; then
    echo "scripts/test: missing: cargo-nextest" >&2
    echo "hint: cargo install cargo-nextest --locked --version $NEXTEST_VERSION" >&2
    exit 3
  fi
  echo "Will build cargo-nextest $NEXTEST_VERSION and install it to the bin directory of cargo; this takes minutes."
  # Without the feature that updates itself: half the build is its TLS.
  cargo install cargo-nextest --locked --version "$NEXTEST_VERSION" \
    --no-default-features --features default-no-update || exit 3
}
