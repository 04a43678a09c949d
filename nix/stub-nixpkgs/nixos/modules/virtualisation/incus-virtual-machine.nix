# What an image of a virtual machine is made of.
{ config, pkgs, ... }:
{
  system.build = {
    metadata = pkgs.runCommand "metadata" { } config.networking.hostName;
    qemuImage = pkgs.runCommand "disk" { } (
      toString (config.environment.systemPackages ++ [ config.virtualisation.diskSize ])
    );
  };
}
