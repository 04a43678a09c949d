# shellcheck shell=bash
# What the checks need on this machine, and how what is missing is installed.

# The version that cargo install builds; any version on PATH that can read .config/nextest.toml will do.
readonly NEXTEST_VERSION=0.9.143

# Debian package | program or file that shows it is there | steps that need it (* for all).
# libc6-dev is named because gcc only recommends it, and nothing links without it.
readonly PACKAGES=(
  "coreutils|sort|*"
  "mawk|awk|*"
  "tar|tar|flake unprivileged"
  "git|git|*"
  "gcc|cc|clippy docs doctests tests unprivileged"
  "libc6-dev|/usr/include/stdio.h|clippy docs doctests tests unprivileged"
  "python3|python3|rules flake tests unprivileged"
  "shellcheck|shellcheck|shellcheck"
  "nix-bin|nix|flake tests unprivileged"
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

# setup MODE STEP...: makes sure that all the steps need is present, installing it as MODE says
# (auto, sudo, never); ends the script with code 3 when something stays missing.
setup() {
  local mode=$1
  shift
  install_packages "$mode" "$@"
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
  if [[ $1 == /*/sbin/* ]]; then
    # Programs that an ordinary user does not have on PATH.
    [[ -x $1 ]]
  elif [[ $1 == /* ]]; then
    # C headers of Debian; a system that keeps them elsewhere is asked through its compiler.
    [[ -e $1 ]] || echo '#include <stdio.h>' | cc -E - >/dev/null 2>&1
  else
    command -v "$1" >/dev/null
  fi
}

install_packages() {
  local mode=$1 entry package probe steps step missing=()
  shift
  for entry in "${PACKAGES[@]}"; do
    IFS='|' read -r package probe steps <<<"$entry"
    present "$probe" && continue
    for step in "$@"; do
      if [[ $steps == '*' ]] || needs_step "$step" "$steps"; then
        missing+=("$package")
        break
      fi
    done
  done
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
    without_services "${sudo[@]}"
  fi
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install --yes --quiet=2 --no-install-recommends "${missing[@]}" || exit 3
  with_services
}

# Debian starts a service when its package is installed, unless this file says no, and again at each
# boot: the tests must not open a port of this machine to others.
readonly SERVICE_POLICY=/usr/sbin/policy-rc.d
policy_is_ours=no
policy_sudo=()

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
    "${policy_sudo[@]}" systemctl --quiet disable ssh.service || true
  fi
  policy_is_ours=no
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
