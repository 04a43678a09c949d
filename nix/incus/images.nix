# The guest images as packages: for each role a virtual machine under each of its names, and a container.
#
# Each is a directory with metadata.tar.xz and disk.qcow2 or rootfs.squashfs, which
# scripts/incus-role-image.sh imports.
{
  nixpkgs,
  pkgs,
  system,
  guestPrograms,
}:
let
  inherit (nixpkgs) lib;
  roles = import ./roles.nix;
  modules = "${nixpkgs}/nixos/modules/virtualisation";

  buildOf =
    role: more:
    (lib.nixosSystem {
      inherit system;
      modules = [ (import ./guest.nix { inherit role guestPrograms; }) ] ++ more;
    }).config.system.build;

  # Names of the files that nixpkgs makes have changed over time; there is one of each kind.
  gather =
    name: metadata: root: pattern: file:
    pkgs.runCommand name { } ''
      mkdir -p $out
      cp "$(find ${metadata}/ -name '*.tar.xz' | head -n 1)" $out/metadata.tar.xz
      cp "$(find ${root}/ -name '${pattern}' | head -n 1)" $out/${file}
    '';

  machine =
    role:
    let
      build = buildOf role [
        "${modules}/incus-virtual-machine.nix"
        { virtualisation.diskSize = role.diskSizeMiB; }
      ];
    in
    gather role.name build.metadata build.qemuImage "*.qcow2" "disk.qcow2";

  container =
    role:
    let
      build = buildOf role [ "${modules}/lxc-container.nix" ];
    in
    gather "${role.name}-container" build.metadata build.squashfs "*.squashfs" "rootfs.squashfs";

  named =
    role:
    lib.genAttrs role.attributes (_: machine role)
    // {
      "${builtins.head role.attributes}-container" = container role;
    };
in
lib.foldl' (all: role: all // named role) { } (builtins.attrValues roles)
