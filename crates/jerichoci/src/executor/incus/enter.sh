#!/bin/sh
# Makes a guest ready for its job, as root, and becomes the runner. Its one argument is the request.
#
# JERICHO_WORKSPACE=copy: the snapshot lies in /workspace/.snapshot, and the job gets a copy that it may write.
# Exit codes of its own: 72 (no runner), 74 (no workspace).
set -u
system=/run/current-system/sw/bin
PATH=$system:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
user=1000
group=$(id -g $user 2>/dev/null) || group=100
for dir in /cargo-home /cargo-target /run/pika-cloud/xdg-state; do
  # A cache that is mounted there has an owner.
  [ -d "$dir" ] || { mkdir -p "$dir" && chown $user:"$group" "$dir"; }
done
# Shared memory: a system that boots brings its own.
[ -d /dev/shm ] || { mkdir -m 1777 /dev/shm && mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs /dev/shm; }
if [ "${JERICHO_WORKSPACE:-}" = copy ]; then
  {
    mkdir -p /workspace/snapshot &&
      cp -a /workspace/.snapshot/. /workspace/snapshot/ &&
      chown -R -h $user:"$group" /workspace/snapshot
  } || {
    echo "the workspace could not be copied" >&2
    exit 74
  }
fi
for bundle in /etc/ssl/certs/ca-bundle.crt /etc/ssl/certs/ca-certificates.crt; do
  [ -r "$bundle" ] || continue
  SSL_CERT_FILE=$bundle NIX_SSL_CERT_FILE=$bundle
  export SSL_CERT_FILE NIX_SSL_CERT_FILE
  break
done
runner=${0%/*}/jerichoci-incus-run
[ -x "$runner" ] || runner=$system/jerichoci-incus-run
tries=0
# A system that boots brings its programs into place while it does.
until [ -x "$runner" ]; do
  tries=$((tries + 1))
  if [ $tries -gt 400 ]; then
    echo "there is no $runner in this image" >&2
    exit 72
  fi
  sleep 0.05
done
exec "$runner" "$1"
