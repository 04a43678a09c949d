# Starts the entry program of a guest. Arguments: seconds to wait for the guest's system, state directory, logs
# directory, result file, status file, request file, request, program.
#
# A system that boots brings its program and its state directory into place while it does: they are waited for.
set -u
wait=$1 state=$2 logs=$3 result=$4 status=$5 request=$6 text=$7 program=$8
tries=0
until [ -x "$program" ] && [ -d "$state/." ]; do
  # An image that knows nothing of the state directory gets one on its root disk: /run may be in memory.
  if [ -x "$program" ] && [ ! -e "$state" ] && [ "$tries" -ge 20 ]; then
    mkdir -p /var/lib/pika-cloud "${state%/*}" && ln -sn /var/lib/pika-cloud "$state"
  fi
  tries=$((tries + 1))
  if [ "$tries" -gt $((wait * 20)) ]; then
    echo "pika-cloud: no program $program, or no directory $state, after $wait s" >&2
    exit 127
  fi
  sleep 0.05
done
mkdir -p "$logs" || exit 126
# What an earlier attempt left must not be taken for the outcome of this one.
rm -f "$result" "$status" || exit 126
if [ -n "$text" ]; then
  (umask 077 && printf '%s' "$text" >"$request.new" && mv -f "$request.new" "$request") || exit 126
  exec "$program" "$request"
fi
exec "$program"
