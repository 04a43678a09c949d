# shellcheck shell=bash
# What stands in for nixpkgs where there is no network: the stub of it, with the cargo, the compiler, the C library and
# the crates of this machine, in a Nix store of its own.

# shellcheck source=scripts/lib/source.sh
source "$(dirname "${BASH_SOURCE[0]}")/source.sh"

# Makes every nix that is started from here use a store below the directory $1, and no network.
use_nix_below() {
  export NIX_STORE_DIR=$1/store NIX_STATE_DIR=$1/state NIX_LOG_DIR=$1/log
  export NIX_CONF_DIR=$1/conf XDG_CACHE_HOME=$1/cache
  unset NIX_PATH NIX_REMOTE NIX_USER_CONF_FILES
  mkdir -p "$NIX_CONF_DIR"
  export NIX_CONFIG="experimental-features = nix-command flakes
sandbox = false
substituters =
build-users-group =
flake-registry =
max-jobs = 1"
}

# Makes the directory $1 the stub of nixpkgs, with the programs and crates of this machine.
make_local_nixpkgs() {
  local said
  cp -r -- nix/stub-nixpkgs "$1"
  said=$(cargo vendor --offline --locked --versioned-dirs "$1/vendor" 2>&1 >/dev/null) || {
    printf '%s\n' "$said" >&2
    return 1
  }
  # The toolchain itself: what stands in front of it on PATH may ask HOME which one is meant.
  python3 -c 'import json, sys; print(json.dumps({"PATH": sys.argv[1]}))' "$(rustc --print sysroot)/bin:$PATH" \
    >"$1/host.json"
}

# Puts the directory $1 into the store, as pikaci does it; prints where it lies.
add_source() {
  nix store add-path --name source "$1"
}
