# What an image of a container is made of.
{ config, pkgs, ... }:
{
  system.build = {
    metadata = pkgs.runCommand "metadata" { } config.networking.hostName;
    squashfs = pkgs.runCommand "root" { } (toString config.environment.systemPackages);
  };
}
