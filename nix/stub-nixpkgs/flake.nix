{
  description = "The part of nixpkgs that this repository uses, without any contents";

  # scripts/check-flake puts this in the place of nixpkgs, so that the wiring of flake.nix and nix/ is
  # evaluated without a network. A name that is not here is an error there: add it when nix/ uses it, and
  # only when nixpkgs has it.
  outputs =
    { self }:
    let
      lib = import ./lib.nix;
      packagesFor = system: import ./packages.nix { inherit lib system; };
      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "aarch64-darwin"
      ];
    in
    {
      lib = lib // {
        nixosSystem = import ./nixos.nix { inherit lib packagesFor; };
      };
      legacyPackages = lib.genAttrs systems packagesFor;
    };
}
