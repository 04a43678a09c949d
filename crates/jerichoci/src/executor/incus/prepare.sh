# shellcheck shell=sh
# Makes a guest ready for its job, in the shell that becomes the runner.
#
# JERICHO_WORKSPACE: the snapshot lies in /workspace/.snapshot, and the job gets a copy that it may write (copy), or
# that only root may (read-only).
# JERICHO_CACHES: where its caches are, one a line; JERICHO_SOURCE: which source this is.
PATH=/run/current-system/sw/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
jericho_group=$(id -g 1000 2>/dev/null) || jericho_group=100
for jericho_dir in /cargo-home /cargo-target /run/pika-cloud/xdg-state; do
  # A cache that is mounted there has an owner.
  [ -d "$jericho_dir" ] || { mkdir -p "$jericho_dir" && chown 1000:"$jericho_group" "$jericho_dir"; }
done
# Shared memory: a system that boots brings its own.
[ -d /dev/shm ] || { mkdir -m 1777 /dev/shm && mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs /dev/shm; }
for jericho_bundle in /etc/ssl/certs/ca-bundle.crt /etc/ssl/certs/ca-certificates.crt; do
  [ -r "$jericho_bundle" ] || continue
  SSL_CERT_FILE=$jericho_bundle NIX_SSL_CERT_FILE=$jericho_bundle
  export SSL_CERT_FILE NIX_SSL_CERT_FILE
  break
done
case ${JERICHO_WORKSPACE:-} in
  copy)
    mkdir -p /workspace/snapshot &&
      cp -a /workspace/.snapshot/. /workspace/snapshot/ &&
      chown -R -h 1000:"$jericho_group" /workspace/snapshot
    ;;
  read-only)
    # Root's, whoever has the files of the snapshot: its modes let nobody else write.
    mkdir -p /workspace/snapshot && (umask 022 && cp -RP /workspace/.snapshot/. /workspace/snapshot/)
    ;;
  *)
    [ -r /workspace/snapshot ]
    ;;
esac || exit 74
if [ -n "${JERICHO_CACHES:-}" ]; then
  # A cache may hold what was built of another source, later than the times that the files of this one have: who
  # goes by times would take it for this one's. So they get that of the moment when the cache first met this source
  # after another one, which the cache keeps: of equal sources nothing is built twice.
  jericho_met=
  jericho_now=
  while IFS= read -r jericho_cache; do
    jericho_mark=$jericho_cache/.jericho-source
    if [ "$(cat "$jericho_mark" 2>/dev/null)" != "$JERICHO_SOURCE" ]; then
      # Never through a link that a job has left. One that others share may be marked at the same time.
      rm -rf "$jericho_mark"
      (set -C && printf '%s\n' "$JERICHO_SOURCE" >"$jericho_mark") 2>/dev/null || jericho_now=yes
    fi
    if [ -z "$jericho_met" ] || [ -n "$(find "$jericho_mark" -newer "$jericho_met" 2>/dev/null)" ]; then
      jericho_met=$jericho_mark
    fi
  done <<EOF
$JERICHO_CACHES
EOF
  # Only those: caches that lie in the workspace keep their times. Without a file to go by, it is the present.
  [ -z "$jericho_now" ] || jericho_met=
  (cd /workspace/.snapshot && find . -type f -exec sh -c \
    'cd /workspace/snapshot && met=$1 && shift && touch -c ${met:+-r "$met"} -- "$@"' sh "$jericho_met" {} +)
fi
