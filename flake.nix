{
  description = "Jericho CI: runs the checks of a source tree the same way everywhere";

  # rustc must be as new as rust-version in Cargo.toml, hence the rolling branch.
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "aarch64-darwin"
      ];
      forEachSystem = f: lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
      pikaciFor = pkgs: pkgs.callPackage ./nix/package.nix { };
    in
    {
      packages = forEachSystem (
        pkgs:
        let
          pikaci = pikaciFor pkgs;
          guestPrograms = import ./nix/guest-programs.nix { inherit pikaci; };
        in
        {
          inherit pikaci;
          default = pikaci;
        }
        // lib.optionalAttrs pkgs.stdenv.hostPlatform.isLinux (
          { jericho-guest = guestPrograms; }
          // import ./nix/incus/images.nix {
            inherit nixpkgs pkgs guestPrograms;
            inherit (pkgs.stdenv.hostPlatform) system;
          }
        )
      );

      devShells = forEachSystem (pkgs: {
        default = pkgs.callPackage ./nix/dev-shell.nix { };
      });

      checks = forEachSystem (pkgs: import ./nix/checks.nix { inherit pkgs; pikaci = pikaciFor pkgs; });

      # The prepared outputs of the targets in jericho.toml that have them.
      ci.x86_64-linux = import ./nix/ci/linux-rust.nix { pkgs = nixpkgs.legacyPackages.x86_64-linux; };
    };
}
