# A guest of a role as a NixOS module: the runner, its user, its lifecycle directories.
{ role, guestPrograms }:
{ pkgs, ... }:
{
  networking.hostName = role.name;

  users.users.pikaci = {
    isNormalUser = true;
    uid = 1000;
    home = "/home/pikaci";
    createHome = true;
  };

  # As /run/current-system/sw/bin/jerichoci-incus-run, where every guest has it.
  environment.systemPackages = [ guestPrograms ] ++ role.packages pkgs;

  # The files lie on the root disk, so that a guest that was stopped still shows its result.
  systemd.tmpfiles.rules = [
    "d /var/lib/pika-cloud 0755 root root -"
    "L+ /run/pika-cloud - - - - /var/lib/pika-cloud"
    "d /workspace/snapshot 0755 root root -"
  ];

  # A guest lives for minutes, or is made anew: nothing in it works by a clock.
  nix.gc.automatic = false;
  system.autoUpgrade.enable = false;
  documentation.enable = false;

  nix.settings.experimental-features = [
    "nix-command"
    "flakes"
  ];

  system.stateVersion = "25.05";
}
