# The packages of nixpkgs that this repository uses, as derivations that build nothing of use.
{ lib, system }:
let
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
      inputs = map toString (attributes.nativeBuildInputs or [ ] ++ attributes.packages or [ ]);
      src = attributes.src or "";
      phases = [ (attributes.buildPhase or "") (attributes.installPhase or "") ];
    }
    // {
      meta = attributes.meta or { };
      nativeBuildInputs = attributes.nativeBuildInputs or [ ];
      overrideAttrs = change: derive (attributes // change ({ nativeBuildInputs = [ ]; } // attributes));
    };
  program = name: derive { inherit name; } // { version = "9999"; };
  packages = {
    inherit lib;
    cargo = program "cargo";
    cargo-deny = program "cargo-deny";
    cargo-nextest = program "cargo-nextest";
    clippy = program "clippy";
    git = program "git";
    just = program "just";
    mkShell = { packages }: derive { name = "shell"; inherit packages; };
    openssh = program "openssh";
    procps = program "procps";
    python3 = program "python3";
    rust-analyzer = program "rust-analyzer";
    rustPlatform.buildRustPackage =
      { cargoLock, ... }@attributes:
      assert builtins.length (builtins.fromTOML (builtins.readFile cargoLock.lockFile)).package > 0;
      derive attributes;
    rustc = program "rustc";
    rustfmt = program "rustfmt";
    shellcheck = program "shellcheck";
    stdenv.hostPlatform.isLinux = builtins.match ".*-linux" system != null;
    util-linux = program "util-linux";
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
