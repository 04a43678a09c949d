# The package pikaci: the command and its two helpers for prepared outputs. The tests run as a check of their own
# (checks.nix), so that a host which only installs the package does not build them.
{
  lib,
  rustPlatform,
  rustc,
}:
let
  workspace = (builtins.fromTOML (builtins.readFile ../Cargo.toml)).workspace.package;
in
assert lib.assertMsg (lib.versionAtLeast rustc.version workspace.rust-version)
  "rustc ${rustc.version} is older than ${workspace.rust-version}: update the input nixpkgs";
rustPlatform.buildRustPackage {
  pname = "pikaci";
  inherit (workspace) version;

  src = (import ./sources.nix { inherit lib; }).package;
  cargoLock.lockFile = ../Cargo.lock;

  cargoBuildFlags = [ "--package=pikaci" ];
  doCheck = false;

  meta = {
    description = "Runs the checks of a source tree the same way everywhere";
    license = [
      lib.licenses.mit
      lib.licenses.asl20
    ];
    mainProgram = "pikaci";
    platforms = lib.platforms.unix;
  };
}
