# shellcheck shell=bash
# What this Debian is: its release, its architecture, and where its packages come from.

debian_suite() {
  sed -n 's/^VERSION_CODENAME=//p' /etc/os-release
}

# As Linux and Incus name the architecture.
debian_machine() {
  local architecture
  architecture=$(dpkg --print-architecture)
  case $architecture in
    amd64) echo x86_64 ;;
    arm64) echo aarch64 ;;
    *) echo "$architecture" ;;
  esac
}

# The mirror that apt-get, as it is configured on this machine, takes the suite $1 from.
debian_mirror() {
  local mirror
  # shellcheck disable=SC2016  # the words in parentheses are apt-get's
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
    awk -v suite="$1" '$2 == suite && !found { print $1; found = 1 }')
  if [[ -z $mirror ]]; then
    # shellcheck disable=SC2016
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' | sed -n 1p)
  fi
  printf '%s\n' "$mirror"
}
