# shellcheck shell=bash
# Finds pikaci and its two helpers for scripts, and reads what they print.
#
#   resolve_pikaci_tools                            sets and exports the programs, or says what is missing
#   log_pikaci_tool_resolution                      says on standard error where they come from
#   read_pikaci_json_fields FIELD...                from the JSON object on standard input into pikaci_json_fields
#   load_pikaci_staged_linux_remote_defaults        sets default_ssh_host and so on
#   load_pikaci_staged_linux_target_info TARGET     sets target_id, workspace_deps_installable and so on

# Each program, and the variable that names it.
readonly PIKACI_TOOLS=(
  "JERICHOCI_BIN pikaci"
  "JERICHOCI_PREPARED_OUTPUT_FULFILL_BINARY pikaci-fulfill-prepared-output"
  "JERICHOCI_PREPARED_OUTPUT_FULFILL_LAUNCHER_BINARY pikaci-launch-fulfill-prepared-output"
)

pikaci_tools_log() {
  printf '[pikaci-tools] %s\n' "$*" >&2
}

# Sets the three variables of PIKACI_TOOLS, JERICHOCI_PACKAGE_ROOT (what holds bin/) and JERICHOCI_TOOL_RESOLUTION
# (env, path or nix-build), and exports them. In this order: all three variables are set; PATH, with
# JERICHOCI_USE_PATH_TOOLS=1; the flake of the source tree this script belongs to. Fails with 3.
resolve_pikaci_tools() {
  local entry variable program path given=()
  for entry in "${PIKACI_TOOLS[@]}"; do
    variable=${entry% *}
    [[ -z ${!variable-} ]] || given+=("$variable")
  done
  if ((${#given[@]} == ${#PIKACI_TOOLS[@]})); then
    JERICHOCI_TOOL_RESOLUTION="env"
  else
    if ((${#given[@]})); then
      pikaci_tools_log "not all of the three programs are named, so this is ignored: ${given[*]}"
    fi
    if [[ ${JERICHOCI_USE_PATH_TOOLS:-0} == 1 ]]; then
      JERICHOCI_TOOL_RESOLUTION=path
    else
      JERICHOCI_TOOL_RESOLUTION=nix-build
      build_pikaci_package || return 3
    fi
    for entry in "${PIKACI_TOOLS[@]}"; do
      variable=${entry% *} program=${entry#* }
      if [[ $JERICHOCI_TOOL_RESOLUTION == nix-build ]]; then
        path=$JERICHOCI_PACKAGE_ROOT/bin/$program
      elif ! path=$(type -P "$program"); then
        pikaci_tools_log "$program is not on PATH; unset JERICHOCI_USE_PATH_TOOLS to build it"
        return 3
      fi
      printf -v "$variable" %s "$path"
    done
  fi
  for entry in "${PIKACI_TOOLS[@]}"; do
    variable=${entry% *}
    if [[ ! -f ${!variable} || ! -x ${!variable} ]]; then
      pikaci_tools_log "${!variable} ($variable) is not a program"
      return 3
    fi
    export "${variable?}"
  done
  if [[ $JERICHOCI_TOOL_RESOLUTION != nix-build ]]; then
    JERICHOCI_PACKAGE_ROOT=$(cd "$(dirname "$JERICHOCI_BIN")/.." && pwd -P)
  fi
  export JERICHOCI_PACKAGE_ROOT JERICHOCI_TOOL_RESOLUTION
}

# Builds the package of the flake that this file belongs to; sets JERICHOCI_PACKAGE_ROOT.
build_pikaci_package() {
  local tree json
  if ! command -v nix >/dev/null; then
    pikaci_tools_log "there is no nix to build pikaci with; put the programs on PATH and set JERICHOCI_USE_PATH_TOOLS=1"
    return 1
  fi
  tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P) || return
  pikaci_tools_log "nix build $tree#pikaci"
  json=$(nix --extra-experimental-features 'nix-command flakes' build --no-link --json "$tree#pikaci") || return
  JERICHOCI_PACKAGE_ROOT=$(python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["outputs"]["out"])' <<<"$json")
}

log_pikaci_tool_resolution() {
  pikaci_tools_log "resolution=${JERICHOCI_TOOL_RESOLUTION:?} package=${JERICHOCI_PACKAGE_ROOT:?} pikaci=${JERICHOCI_BIN:?}"
}

# Fails when a field is missing or is neither a text without control characters, a number nor null (which is empty).
read_pikaci_json_fields() {
  local values
  # shellcheck disable=SC2034  # read by callers
  pikaci_json_fields=()
  values=$(python3 -c '
import json, sys
try:
    document = json.load(sys.stdin)
except ValueError as error:
    sys.exit(f"[pikaci-tools] this is not JSON: {error}")
for name in sys.argv[1:]:
    if not isinstance(document, dict) or name not in document:
        sys.exit(f"[pikaci-tools] the document has no field {name}")
    value = document[name]
    if value is None:
        value = ""
    elif isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or any(ord(c) < 32 for c in value):
        sys.exit(f"[pikaci-tools] the field {name} is not one line of text")
    print(value)
' "$@") || return
  mapfile -t pikaci_json_fields <<<"$values"
}

# load_pikaci_json PREFIX DOCUMENT FIELD...: sets PREFIX and each field's name to its value.
load_pikaci_json() {
  local prefix=$1 document=$2 index
  shift 2
  read_pikaci_json_fields "$@" <<<"$document" || return
  for ((index = 1; index <= $#; index++)); do
    printf -v "$prefix${!index}" %s "${pikaci_json_fields[index - 1]}"
  done
}

load_pikaci_staged_linux_remote_defaults() {
  local document
  document=$("${JERICHOCI_BIN:?}" staged-linux-remote-defaults --json) || return
  load_pikaci_json default_ "$document" ssh_binary ssh_nix_binary ssh_host remote_work_dir \
    remote_launcher_binary remote_helper_binary store_uri
}

load_pikaci_staged_linux_target_info() {
  local document
  document=$("${JERICHOCI_BIN:?}" staged-linux-target-info "$1" --json) || return
  load_pikaci_json '' "$document" target_id target_description shared_prepare_node_prefix \
    shared_prepare_description workspace_deps_output_name workspace_build_output_name \
    workspace_output_system workspace_deps_installable workspace_build_installable
}
