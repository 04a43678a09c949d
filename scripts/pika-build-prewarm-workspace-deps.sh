#!/usr/bin/env bash
# Copies what a prepared output is built from to the store of the build host; see --help.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"

usage() {
  cat <<'END'
Usage: scripts/pika-build-prewarm-workspace-deps.sh [--store-uri URI] [--installable I]

Copies the derivation of a prepared output with its sources, and those of its inputs that this machine has, to
a store, so that the host does not fetch them again. Needs nix here.

  --store-uri URI   JERICHOCI_X86_64_REMOTE_STORE_URI, else ssh://HOST with the host of
                    JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_HOST, else ssh://pika-build
  --installable I   JERICHOCI_X86_64_REMOTE_INSTALLABLE, else .#ci.x86_64-linux.workspaceDeps
  -h, --help        print this

Exit: 0 copied, 2 wrong usage, else that of nix.
END
}

fail_usage() {
  echo "pika-build-prewarm-workspace-deps.sh: $*; see --help" >&2
  exit 2
}

store=${JERICHOCI_X86_64_REMOTE_STORE_URI:-ssh://${JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_HOST:-pika-build}}
installable=${JERICHOCI_X86_64_REMOTE_INSTALLABLE:-.#ci.x86_64-linux.workspaceDeps}
while (($#)); do
  case $1 in
    --store-uri | --installable)
      [[ -n ${2-} ]] || fail_usage "$1 has no value"
      if [[ $1 == --store-uri ]]; then store=$2; else installable=$2; fi
      shift
      ;;
    -h | --help) usage && exit 0 ;;
    *) fail_usage "unknown argument $1" ;;
  esac
  shift
done

run_nix() {
  nix --extra-experimental-features 'nix-command flakes' "$@"
}

derivation=$(run_nix path-info --no-update-lock-file --derivation "$installable")
if [[ -z $derivation ]]; then
  echo "$installable has no derivation" >&2
  exit 1
fi
paths=("$derivation")
# What it is built from and is here already: fetched crates, compilers.
while IFS= read -r input; do
  [[ $input == *.drv || ! -e $input ]] || paths+=("$input")
done < <(nix-store --query --references "$derivation" |
  xargs --no-run-if-empty nix-store --query --outputs 2>/dev/null | sort -u)
run_nix copy --to "$store" --derivation "$derivation"
if ((${#paths[@]} > 1)); then
  run_nix copy --to "$store" "${paths[@]:1}"
fi
