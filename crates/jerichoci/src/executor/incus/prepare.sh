# shellcheck shell=sh
# Makes a guest ready for its job, in the shell that becomes the runner.
#
# JERICHO_WORKSPACE=copy: the snapshot lies in /workspace/.snapshot, and the job gets a copy that it may write.
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
if [ "${JERICHO_WORKSPACE:-}" = copy ]; then
  mkdir -p /workspace/snapshot &&
    cp -a /workspace/.snapshot/. /workspace/snapshot/ &&
    chown -R -h 1000:"$jericho_group" /workspace/snapshot
else
  [ -r /workspace/snapshot ]
fi
