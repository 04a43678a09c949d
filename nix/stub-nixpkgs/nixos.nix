# nixosSystem for modules that set plain values: it knows the options that this repository sets, and no other.
{ lib, packagesFor }:
{ system, modules }:
let
  options = {
    documentation.enable = builtins.isBool;
    environment.systemPackages = builtins.isList;
    networking.hostName = builtins.isString;
    nix.gc.automatic = builtins.isBool;
    nix.settings.experimental-features = builtins.isList;
    system.autoUpgrade.enable = builtins.isBool;
    system.build = builtins.isAttrs;
    system.stateVersion = builtins.isString;
    systemd.tmpfiles.rules = builtins.isList;
    users.users = builtins.isAttrs;
    virtualisation.diskSize = builtins.isInt;
  };

  # The values with those that are wrong, or not of an option, as errors.
  checked =
    path: known: values:
    builtins.mapAttrs (
      name: value:
      let
        here = "${path}${name}";
        option = known.${name} or (throw "the stub of nixpkgs knows no option ${here}");
      in
      if builtins.isAttrs option then
        checked "${here}." option value
      else if option value then
        value
      else
        throw "the option ${here} has a value of another type"
    ) values;

  merge =
    a: b:
    a
    // builtins.mapAttrs (
      name: value:
      if !(a ? ${name}) then
        value
      else if builtins.isAttrs value then
        merge a.${name} value
      else if builtins.isList value then
        a.${name} ++ value
      else
        throw "two modules set ${name}"
    ) b;

  arguments = {
    inherit config lib;
    pkgs = packagesFor system;
  };
  load =
    module:
    let
      value = if builtins.isAttrs module || builtins.isFunction module then module else import module;
    in
    if builtins.isFunction value then value arguments else value;
  config = checked "" options (lib.foldl' merge { } (map load modules));

  # A build takes in everything that is set, as a real one does.
  isSet = builtins.deepSeq (builtins.removeAttrs config [ "system" ]) (
    builtins.seq (map toString config.environment.systemPackages) config.system.stateVersion
  );
in
{
  config = builtins.seq isSet config;
}
