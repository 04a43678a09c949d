#!/bin/sh
# Starts the relay before a socket, where a runner of the engine is there.
#   $1 work directory, $2 name of the runner, $3 the socket, then a kind of processor and a hash for each runner that will do.
dir=$1 name=$2 socket=$3
shift 3
arch=$(uname -m)
while [ $# -ge 2 ]; do
  file=$dir/bin/$2/$name
  if [ "$1" = "$arch" ] && [ -f "$file" ] && [ ! -L "$file" ] && [ -O "$file" ] && [ -x "$file" ]; then
    exec "$file" relay --to "$socket" "$dir"
  fi
  shift 2
done
exit 3
