#!/usr/bin/env bash
# Builds one prepared output on the build host, from the tree as it is here; see --help.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

# shellcheck source=scripts/lib/source.sh
source "$root/scripts/lib/source.sh"
# shellcheck source=scripts/lib/build-host.sh
source "$root/scripts/lib/build-host.sh"

usage() {
  cat <<'END'
Usage: scripts/pika-build-run-workspace-deps.sh [OPTION...]

Uploads the source tree to WORK_DIR/helpers/ID/snapshot on the build host, builds one prepared output there and
prints its store path.

  --installable I              such as .#ci.x86_64-linux.workspaceDeps, which is the default, or the value of
                               JERICHOCI_X86_64_REMOTE_INSTALLABLE
  --remote-host HOST           JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_HOST, else pika-build
  --remote-work-dir DIR        ..._SSH_REMOTE_WORK_DIR, else /var/tmp/jerichoci-prepared-output
  --ssh-binary PROGRAM         ..._SSH_BINARY, else /usr/bin/ssh
  --remote-nix-binary PROGRAM  ..._SSH_NIX_BINARY, else nix; nix-store is taken from the same place
  --snapshot-id ID             helper-<UTC time>-<pid> unless it is given
  --keep-remote-snapshot       leave the snapshot there
  --reuse-existing-snapshot    build from what lies there under ID, upload and remove nothing
  -h, --help                   print this

Exit: 0 built; 2 wrong usage; else that of what failed: 255 of ssh, 100 of a builder.
END
}

fail_usage() {
  echo "pika-build-run-workspace-deps.sh: $*; see --help" >&2
  exit 2
}

installable=${JERICHOCI_X86_64_REMOTE_INSTALLABLE:-.#ci.x86_64-linux.workspaceDeps}
host=${JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_HOST:-pika-build}
work_dir=${JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_REMOTE_WORK_DIR:-/var/tmp/jerichoci-prepared-output}
ssh=${JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_BINARY:-/usr/bin/ssh}
nix=${JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_NIX_BINARY:-nix}
id=helper-$(date -u +%Y%m%dT%H%M%SZ)-$$
keep=no
reuse=no
while (($#)); do
  case $1 in
    --installable | --remote-host | --remote-work-dir | --ssh-binary | --remote-nix-binary | --snapshot-id)
      [[ -n ${2-} ]] || fail_usage "$1 has no value"
      case $1 in
        --installable) installable=$2 ;;
        --remote-host) host=$2 ;;
        --remote-work-dir) work_dir=$2 ;;
        --ssh-binary) ssh=$2 ;;
        --remote-nix-binary) nix=$2 ;;
        --snapshot-id) id=$2 ;;
      esac
      shift
      ;;
    --keep-remote-snapshot) keep=yes ;;
    --reuse-existing-snapshot) reuse=yes ;;
    -h | --help) usage && exit 0 ;;
    *) fail_usage "unknown argument $1" ;;
  esac
  shift
done

readonly OUTPUT='^\.#(ci\.x86_64-linux\.(workspace|(agentContracts|fixture|notifications|pikaFollowup|pikachat|rmp)Workspace)(Deps|Build))$'
[[ $installable =~ $OUTPUT ]] || fail_usage "$installable is not a prepared output of a staged target"
attribute=${BASH_REMATCH[1]}
[[ $work_dir == /* ]] || fail_usage "the work directory $work_dir is not absolute"
[[ $host != -* ]] || fail_usage "$host is not a host"
is_snapshot_id "$id" || fail_usage "$id is not a snapshot id"
helper=$work_dir/helpers/$id

# The files of the tree but those that no output of these is made from.
wanted_files() {
  if [[ $attribute == *.pikaFollowup* ]]; then
    source_files | grep -zv '^ios/'
  else
    source_files | grep -zvE '^(ios|android)/'
  fi
}

# The rename comes last: what has its name is whole, and what was there before stays.
# shellcheck disable=SC2016  # for the shell of the host
readonly UPLOAD='set -eu
helper=$1 staging=$1/$2
mkdir -p "$staging"
trap '\''rm -rf -- "$staging"'\'' EXIT
trap "exit 1" HUP INT TERM
tar -xf - -C "$staging"
printf "%s\n" "{\"schema_version\":1}" >"$staging/jerichoci-snapshot.json"
[ -e "$helper/snapshot" ] || mv -- "$staging" "$helper/snapshot"'

# Evaluated where it lies in the store: `path:` of a directory is copied at every evaluation. Without the marker, as
# a run adds it, so that a flake which reads itself gives a run the same output. The input ends when whoever asked
# is gone, and the build ends with it.
# shellcheck disable=SC2016
readonly BUILD='set -eu
tree=$1 attribute=$2 nix=$3
case $nix in
  */*) nix_store=${nix%/*}/nix-store ;;
  *) nix_store=nix-store ;;
esac
grep -q schema_version "$tree/jerichoci-snapshot.json" 2>/dev/null || {
  echo "$tree on this host is no complete snapshot" >&2
  exit 1
}
run_nix() { "$nix" --extra-experimental-features "nix-command flakes" "$@"; }
source=$(TREE=$tree run_nix eval --impure --raw --expr "let tree = builtins.getEnv \"TREE\"; in builtins.path {
  path = tree; name = \"source\"; filter = path: type: path != \"\${tree}/jerichoci-snapshot.json\"; }" </dev/null)
hash=$(run_nix hash path "$source" | sed "s/+/%2B/g; s,/,%2F,g; s/=/%3D/g")
derivation=$(run_nix path-info --no-update-lock-file --derivation "path:$source?narHash=$hash#$attribute")
[ -n "$derivation" ] || exit 1
exec 3<&0
"$nix_store" --realise "$derivation" </dev/null 3<&- &
build=$!
{ cat <&3 >/dev/null; kill -TERM "$build"; } 2>/dev/null &
watch=$!
exec 3<&-
code=0
wait "$build" || code=$?
kill "$watch" 2>/dev/null || true
exit "$code"'

if [[ $reuse == no ]]; then
  if [[ $keep == no ]]; then
    # An ordinary end and a signal alike; what the host says then changes nothing.
    trap 'remove_helper_snapshot "$ssh" "$host" "$work_dir" "$id" || echo "$host keeps $helper" >&2' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
  fi
  (
    cd "$root"
    wanted_files | tar --create --null --no-recursion --files-from=- --file=-
  ) | on_build_host "$ssh" "$host" "$UPLOAD" "$helper" ".pikaci-sync-snapshot-$$-$(date +%N)"
fi
# Its input is open as long as this script lives.
exec 3> >(on_build_host "$ssh" "$host" "$BUILD" "$helper/snapshot" "$attribute" "$nix")
wait "$!"
