# shellcheck shell=bash
# Puts a built image into an Incus and moves an alias to it. What is there already is not sent again.

# shellcheck source=scripts/lib/incus-api.sh
source "$(dirname "${BASH_SOURCE[0]}")/incus-api.sh"

# role_image_parts ARTIFACT: sets image_metadata and image_root to its files; the latter is empty for an image
# that is one file. image_part is what Incus calls the second.
role_image_parts() {
  local artifact=$1 name
  image_metadata='' image_root='' image_part=rootfs
  if [[ -f $artifact ]]; then
    image_metadata=$artifact
    return
  fi
  if [[ ! -d $artifact ]]; then
    echo "no image at $artifact" >&2
    return 1
  fi
  for name in metadata.tar.xz metadata.tar; do
    [[ -n $image_metadata || ! -f $artifact/$name ]] || image_metadata=$artifact/$name
  done
  for name in rootfs.squashfs rootfs.tar.xz; do
    [[ -n $image_root || ! -f $artifact/$name ]] || image_root=$artifact/$name
  done
  if [[ -z $image_root && -f $artifact/disk.qcow2 ]]; then
    image_root=$artifact/disk.qcow2 image_part=rootfs.img
  fi
  if [[ -z $image_metadata || -z $image_root ]]; then
    echo "$artifact has no image in it: metadata.tar.xz with rootfs.squashfs or disk.qcow2" >&2
    return 1
  fi
  role_image_whole "$image_metadata" && role_image_whole "$image_root"
}

# Whether a file of an image has its end: Incus takes a part of one, and no guest starts of it. What is wrong is on
# standard error.
role_image_whole() {
  local file=$1 size is_whole=yes
  size=$(stat -L -c %s -- "$file")
  case $file in
    *.squashfs)
      # Its superblock says how long it is.
      [[ $size -ge 96 && $(head -c 4 -- "$file" | tr -d '\0') == hsqs ]] &&
        (($(od -A n -t u8 -j 40 -N 8 -- "$file") <= size)) || is_whole=''
      ;;
    *.xz) [[ $size -ge 32 && $(tail -c 2 -- "$file" | tr -d '\0') == YZ ]] || is_whole='' ;;
    *) ((size > 0)) || is_whole='' ;;
  esac
  [[ -z $is_whole ]] || return 0
  echo "$file is not a whole image: it has $size bytes, as if it had not been copied or built to its end" >&2
  return 1
}

# role_image_import SOCKET PROJECT ALIAS ARTIFACT: prints the fingerprint. What is wrong is on standard error.
role_image_import() {
  local socket=$1 project=$2 alias=$3 artifact=$4
  local image_metadata image_root image_part query fingerprint code=0
  role_image_parts "$artifact" || return 1
  query="project=$(incus_quoted "$project")"
  fingerprint=$(cat -- "$image_metadata" ${image_root:+"$image_root"} | sha256sum)
  fingerprint=${fingerprint%% *}
  incus_api "$socket" GET "/1.0/images/$fingerprint?$query" >/dev/null || code=$?
  if ((code == 4)); then
    echo "sending $(du -chL -- "$image_metadata" ${image_root:+"$image_root"} | sed -n '$s/\t.*//p')" >&2
    role_image_send "$socket" "$query" "$fingerprint" || return 1
  elif ((code)); then
    return 1
  else
    echo "image ${fingerprint:0:12} is there" >&2
  fi
  role_image_alias "$socket" "$query" "$alias" "$fingerprint" || return 1
  printf '%s\n' "$fingerprint"
}

# role_image_access SOCKET PROJECT WHERE: whether the Incus answers, trusts this user and has the project.
role_image_access() {
  local answer code=0
  answer=$(incus_api "$1" GET /1.0) || {
    echo "hint: is there an Incus at $3, and is this account in the group incus-admin?" >&2
    return 1
  }
  if [[ $answer != *'"auth":"trusted"'* ]]; then
    echo "Incus does not trust this account; it must be root or in the group incus-admin" >&2
    return 1
  fi
  incus_api "$1" GET "/1.0/projects/$(incus_quoted "$2")" >/dev/null || code=$?
  if ((code == 4)); then
    echo "Incus has no project $2" >&2
    echo "hint: scripts/setup-build-host --project $2, run as root on that machine, makes it; or name another by --project" >&2
  fi
  return "$code"
}

# role_image_send SOCKET QUERY FINGERPRINT: uploads the parts. Incus counts the hash of what arrives, and keeps
# nothing that has another one.
role_image_send() {
  local answer form=()
  if [[ -n $image_root ]]; then
    form=(-F "metadata=@\"$image_metadata\"" -F "$image_part=@\"$image_root\"")
  else
    form=(-H 'Content-Type: application/octet-stream' -T "$image_metadata")
  fi
  answer=$(curl --silent --show-error --unix-socket "$1" -X POST -H Expect: -H "X-Incus-fingerprint: $3" \
    "${form[@]}" "http://incus/1.0/images?$2") || return 1
  if ! answer=$(incus_ended "$1" "$answer" 2>&1); then
    # Somebody else may have sent the same meanwhile.
    if ! incus_api "$1" GET "/1.0/images/$3?$2" >/dev/null 2>&1; then
      echo "Incus does not take the image: $answer" >&2
      return 1
    fi
  fi
  if ! incus_api "$1" GET "/1.0/images/$3?$2" >/dev/null; then
    echo "Incus took an image that is not the one that was sent" >&2
    return 1
  fi
}

# role_image_alias SOCKET QUERY ALIAS FINGERPRINT: one request makes the alias or moves it, so that there is no moment
# without it. An image that loses its last alias by that is removed.
role_image_alias() {
  local path answer old code=0
  path="/1.0/images/aliases/$(incus_quoted "$3")?$2"
  answer=$(incus_api "$1" GET "$path") || code=$?
  if ((code == 4)); then
    incus_api "$1" POST "/1.0/images/aliases?$2" "{\"name\":\"$3\",\"target\":\"$4\"}" >/dev/null || return 1
    echo "alias $3: ${4:0:12}" >&2
    return
  fi
  ((code == 0)) || return 1
  old=$(incus_text target "$answer")
  [[ $old != "$4" ]] || return 0
  incus_api "$1" PUT "$path" "{\"target\":\"$4\",\"description\":\"\"}" >/dev/null || return 1
  echo "alias $3: ${4:0:12}, was ${old:0:12}" >&2
  role_image_sweep "$1" "$2" "$old"
}

# role_image_sweep SOCKET QUERY FINGERPRINT: removes an image that no alias names.
role_image_sweep() {
  local answer
  if answer=$(incus_api "$1" GET "/1.0/images/$3?$2") && [[ $answer == *'"aliases":[]'* ]]; then
    incus_api "$1" DELETE "/1.0/images/$3?$2" >/dev/null || echo "image ${3:0:12} is left" >&2
  fi
}

# role_image_forget SOCKET PROJECT ALIAS: removes an alias, and the image that has no other one.
role_image_forget() {
  local query path answer
  query="project=$(incus_quoted "$2")"
  path="/1.0/images/aliases/$(incus_quoted "$3")?$query"
  answer=$(incus_api "$1" GET "$path") || return 0
  incus_api "$1" DELETE "$path" >/dev/null || return 1
  role_image_sweep "$1" "$query" "$(incus_text target "$answer")"
}
