#!/usr/bin/env bash
# Prepares or runs a staged Linux target on the build host; see --help.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

# shellcheck source=scripts/lib/pikaci-tools.sh
source "$root/scripts/lib/pikaci-tools.sh"
# shellcheck source=scripts/lib/build-host.sh
source "$root/scripts/lib/build-host.sh"

usage() {
  cat <<'END'
Usage: scripts/pikaci-staged-linux-remote.sh prepare TARGET
       scripts/pikaci-staged-linux-remote.sh run TARGET [--output human|json|jsonl]

prepare   builds the two prepared outputs of a staged target on the build host, from one snapshot of the tree, and
          leaves them in its store; prints their paths
run       runs the target with prepared outputs that are handed over on the build host, over SSH

The host and what is on it are those of JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_*, else the built-in ones of
`pikaci staged-linux-remote-defaults`.

Exit: of pikaci, ssh or nix; 2 wrong usage; 3 no pikaci.
END
}

fail_usage() {
  echo "pikaci-staged-linux-remote.sh: $*; see --help" >&2
  exit 2
}

# What of the host is told by variables, and the variables of its built-in values.
readonly SETTINGS=(
  "SSH_BINARY default_ssh_binary"
  "SSH_NIX_BINARY default_ssh_nix_binary"
  "SSH_HOST default_ssh_host"
  "SSH_REMOTE_WORK_DIR default_remote_work_dir"
  "SSH_REMOTE_LAUNCHER_BINARY default_remote_launcher_binary"
  "SSH_REMOTE_HELPER_BINARY default_remote_helper_binary"
)

# Gives each setting that has no value its built-in one.
export_settings() {
  local entry variable default
  load_pikaci_staged_linux_remote_defaults
  for entry in "${SETTINGS[@]}"; do
    variable=JERICHOCI_PREPARED_OUTPUT_FULFILL_${entry% *} default=${entry#* }
    if [[ -z ${!variable-} ]]; then
      printf -v "$variable" %s "${!default}"
    fi
    export "${variable?}"
  done
}

prepare() {
  local id options installable
  # shellcheck disable=SC2154  # set by load_pikaci_staged_linux_target_info
  load_pikaci_staged_linux_target_info "$1"
  export_settings
  : "${JERICHOCI_X86_64_REMOTE_STORE_URI:=ssh://$JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_HOST}"
  export JERICHOCI_X86_64_REMOTE_STORE_URI
  if command -v nix >/dev/null; then
    # shellcheck disable=SC2154
    "$root/scripts/pika-build-prewarm-workspace-deps.sh" --installable "$workspace_build_installable"
  else
    echo "there is no nix here: the host fetches all that it needs" >&2
  fi

  id=prepare-$(date -u +%Y%m%dT%H%M%SZ)-$$
  # shellcheck disable=SC2064  # as it is now
  trap "remove_snapshot $id" EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  options=(--keep-remote-snapshot)
  # shellcheck disable=SC2154
  for installable in "$workspace_deps_installable" "$workspace_build_installable"; do
    "$root/scripts/pika-build-run-workspace-deps.sh" --installable "$installable" --snapshot-id "$id" "${options[@]}"
    options=(--reuse-existing-snapshot)
  done
}

remove_snapshot() {
  remove_helper_snapshot "$JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_BINARY" "$JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_HOST" \
    "$JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_REMOTE_WORK_DIR" "$1" ||
    echo "the host keeps helpers/$1 in its work directory" >&2
}

run() {
  export_settings
  export JERICHOCI_PRE_MERGE_PIKA_RUST_SUBPROCESS_FULFILL=1
  export JERICHOCI_PREPARED_OUTPUT_FULFILL_INVOCATION=external_wrapper_command_v1
  export JERICHOCI_PREPARED_OUTPUT_FULFILL_LAUNCHER_TRANSPORT=ssh_launcher_transport_v1
  exec "$JERICHOCI_BIN" run "$@"
}

command=${1-}
case $command in
  -h | --help) usage && exit 0 ;;
  prepare | run) ;;
  '') fail_usage "what is to be done?" ;;
  *) fail_usage "unknown command $command" ;;
esac
target=${2-}
[[ -n $target && $target != -* ]] || fail_usage "$command which target?"
arguments=("$target")
if [[ $command == run && ${3-} == --output ]]; then
  case ${4-} in
    human | json | jsonl) arguments+=(--output "$4") ;;
    *) fail_usage "--output is human, json or jsonl" ;;
  esac
  shift 2
fi
(($# == 2)) || fail_usage "unknown argument $3"

resolve_pikaci_tools
log_pikaci_tool_resolution
"$command" "${arguments[@]}"
