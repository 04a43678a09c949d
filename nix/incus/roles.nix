# The guest images by role. Names and sizes are those of crates/pika-incus-guest-role; a test compares them.
{
  jericho-runner = {
    attributes = [
      "pikaci-runner-incus-image"
      "pikaci-incus-dev-image"
    ];
    alias = "jericho/dev";
    name = "pikaci-incus-dev";
    diskSizeMiB = 12288;
    # What jobs of CI call by name.
    packages = pkgs: [
      pkgs.bash
      pkgs.coreutils
      pkgs.curl
      pkgs.file
      pkgs.git
      pkgs.jq
      pkgs.gnumake
      pkgs.openssh
      pkgs.python3
      pkgs.rsync
      pkgs.stdenv.cc
      pkgs.unzip
      pkgs.xz
      pkgs.zip
      pkgs.zstd
    ];
  };

  managed-openclaw = {
    attributes = [
      "managed-openclaw-incus-image"
      "pika-agent-incus-dev-image"
    ];
    alias = "pika-agent/dev";
    name = "pika-agent-incus-dev";
    diskSizeMiB = 8192;
    # What a managed agent works with.
    packages = pkgs: [
      pkgs.bash
      pkgs.coreutils
      pkgs.curl
      pkgs.file
      pkgs.git
      pkgs.jq
      pkgs.nodejs
      pkgs.openssh
      pkgs.python3
      pkgs.ripgrep
      pkgs.rsync
      pkgs.tmux
      pkgs.unzip
      pkgs.xz
      pkgs.zstd
    ];
  };
}
