# The packages of nixpkgs that this repository uses, as derivations that build nothing of use.
#
# Where host.json lies beside this file, what `stdenv.mkDerivation` makes is built in earnest with the programs of
# this machine: `PATH` in it says where they are, and `vendor/` has the crates. scripts/build-staged puts both there.
{ lib, system }:
let
  host =
    if builtins.pathExists ./host.json then builtins.fromJSON (builtins.readFile ./host.json) else null;
  derive =
    attributes:
    let
      name = attributes.name or "${attributes.pname}-${attributes.version}";
    in
    derivation {
      inherit name system;
      builder = "/bin/sh";
      args = [ "-c" "echo ${name} > $out" ];
      # What the real builder would take in: a wrong list or path fails here.
      inputs = map toString (
        attributes.nativeBuildInputs or [ ] ++ attributes.buildInputs or [ ] ++ attributes.packages or [ ]
      );
      src = attributes.src or "";
      script = attributes.script or "";
      phases = [ (attributes.buildPhase or "") (attributes.installPhase or "") ];
    }
    // {
      meta = attributes.meta or { };
      nativeBuildInputs = attributes.nativeBuildInputs or [ ];
      overrideAttrs = change: derive (attributes // change ({ nativeBuildInputs = [ ]; } // attributes));
    };
  isLockFile = path: builtins.length (builtins.fromTOML (builtins.readFile path)).package > 0;
  program = name: derive { inherit name; } // { version = "9999"; };
  packages = {
    inherit lib;
    bash = program "bash";
    cargo = program "cargo";
    cargo-deny = program "cargo-deny";
    cargo-nextest = program "cargo-nextest";
    clippy = program "clippy";
    coreutils = program "coreutils";
    curl = program "curl";
    file = program "file";
    git = program "git";
    glibc.static = program "glibc-static";
    gnumake = program "gnumake";
    jq = program "jq";
    just = program "just";
    mkShell = { packages }: derive { name = "shell"; inherit packages; };
    nodejs = program "nodejs";
    openssh = program "openssh";
    procps = program "procps";
    python3 = program "python3";
    ripgrep = program "ripgrep";
    rsync = program "rsync";
    runCommand = name: _: script: derive { inherit name script; };
    rust-analyzer = program "rust-analyzer";
    rustPlatform = {
      buildRustPackage =
        { cargoLock, ... }@attributes:
        assert isLockFile cargoLock.lockFile;
        derive attributes;
      importCargoLock =
        { lockFile }:
        assert isLockFile lockFile;
        if host == null then program "cargo-vendor-dir" else "${./vendor}";
    };
    rustc = program "rustc";
    rustfmt = program "rustfmt";
    shellcheck = program "shellcheck";
    stdenv = {
      cc = program "cc";
      hostPlatform = {
        inherit system;
        isLinux = builtins.match ".*-linux" system != null;
      };
      mkDerivation =
        { buildCommand, ... }@attributes:
        if host == null then
          attributes // derive attributes
        else
          derivation (
            attributes
            // {
              inherit system;
              inherit (host) PATH;
              builder = "/bin/sh";
              args = [ "-c" "exec bash -euc \"$buildCommand\"" ];
            }
          );
    };
    tmux = program "tmux";
    unzip = program "unzip";
    util-linux = program "util-linux";
    xz = program "xz";
    zip = program "zip";
    zstd = program "zstd";
    callPackage =
      file: overrides:
      let
        f = import file;
        known = builtins.intersectAttrs (builtins.functionArgs f) packages;
      in
      # As in nixpkgs: a result that is a set of derivations would get these as well.
      f (known // overrides) // { override = _: throw "not here"; overrideDerivation = _: throw "not here"; };
  };
in
packages
