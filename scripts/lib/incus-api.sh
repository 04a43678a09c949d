# shellcheck shell=bash
# Asks an Incus over its socket, with curl; and reaches the socket of another machine through ssh.

# incus_api SOCKET METHOD PATH [BODY]: prints the answer; an operation is waited for. Code 1 and the words of
# Incus for an error, 4 and no words for what is not there.
incus_api() {
  local answer
  answer=$(curl --silent --show-error --unix-socket "$1" -X "$2" ${4:+--data "$4"} "http://incus$3") || return 1
  incus_ended "$1" "$answer"
}

# incus_ended SOCKET ANSWER: as incus_api, of an answer that is there.
incus_ended() {
  local answer=$2
  if [[ $answer == *'"type":"async"'* ]]; then
    local operation=${answer#*\"operation\":\"}
    answer=$(curl --silent --show-error --unix-socket "$1" "http://incus${operation%%\"*}/wait") || return 1
    if [[ $answer == *'"status":"Failure"'* ]]; then
      incus_text err "$answer" >&2
      return 1
    fi
  fi
  if [[ $answer == *'"type":"error"'* ]]; then
    [[ $answer != *'"error_code":404'* ]] || return 4
    incus_text error "$answer" >&2
    return 1
  fi
  if [[ $answer != *'"type":"sync"'* ]]; then
    echo "no answer of Incus: ${answer:0:200}" >&2
    return 1
  fi
  printf '%s\n' "$answer"
}

# incus_text KEY JSON: prints the first text of that key, as it is escaped in JSON.
incus_text() {
  sed -n -E 's/.*"'"$1"'":"(([^"\\]|\\.)*)".*/\1/p' <<<"${2//,\"/$'\n'\"}" | sed -n 1p
}

# Prints a name as a part of a path or the value of a query.
incus_quoted() {
  local name=$1 quoted='' c
  local LC_ALL=C
  while [[ -n $name ]]; do
    c=${name:0:1}
    name=${name:1}
    case $c in
      [A-Za-z0-9._~-]) quoted+=$c ;;
      *) printf -v c '%%%02X' "'$c" && quoted+=$c ;;
    esac
  done
  printf '%s\n' "$quoted"
}

# The socket of this machine's Incus, as its own client finds it.
incus_socket() {
  if [[ -n ${INCUS_SOCKET:-} ]]; then
    printf '%s\n' "$INCUS_SOCKET"
  else
    printf '%s\n' "${INCUS_DIR:-/var/lib/incus}/unix.socket"
  fi
}

# incus_forward_begin DIR HOST SOCKET: makes DIR/incus the socket of another machine. It stays until incus_forward_end.
incus_forward_begin() {
  # No connection of the user's is joined, so that none is ended; -f returns once the forward is there.
  "${JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_BINARY:-ssh}" -f -N -M -S "$1/ctl" -o BatchMode=yes -o ConnectTimeout=5 \
    -o ServerAliveInterval=15 -o ServerAliveCountMax=4 -o ExitOnForwardFailure=yes -o ControlPersist=no \
    -L "$1/incus:$3" -- "$2" </dev/null
}

incus_forward_end() {
  "${JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_BINARY:-ssh}" -S "$1/ctl" -O exit -- "$2" </dev/null >/dev/null 2>&1 || true
}
