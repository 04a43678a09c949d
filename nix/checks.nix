# The checks of `nix flake check`: formatting, lints, tests. Each is the package with another build.
{ pkgs, pikaci }:
let
  cargoCheck =
    name: tools: command:
    pikaci.overrideAttrs (package: {
      pname = "pikaci-${name}";
      src = (import ./sources.nix { inherit (pkgs) lib; }).tests;
      nativeBuildInputs = package.nativeBuildInputs ++ tools;
      buildPhase = command;
      installPhase = "touch $out";
      # The hooks of the package look for programs, and there are none.
      dontFixup = true;
    });
in
{
  fmt = cargoCheck "fmt" [ pkgs.rustfmt ] "cargo fmt --all --check";
  clippy = cargoCheck "clippy" [ pkgs.clippy ] "cargo clippy --workspace --all-targets --frozen -- -D warnings";
  # Without CI=true: the sandbox has no root, and the tests that need it are for scripts/test.
  tests = cargoCheck "tests" [
    pkgs.cargo-nextest
    pkgs.git
    pkgs.openssh
    pkgs.procps
  ] "HOME=$TMPDIR cargo nextest run --workspace --frozen";
}
