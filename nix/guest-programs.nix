# The programs of guests, jerichoci-incus-run and pika-cloud-lifecycle, for images that have Nix's libraries.
# What is sent to other guests is built static by scripts/build-guest.
{ pikaci }:
pikaci.overrideAttrs (package: {
  pname = "jericho-guest";
  cargoBuildFlags = [ "--package=jericho-guest" ];
  meta = package.meta // {
    description = "Runs one request in a guest and writes the lifecycle files";
    mainProgram = "jerichoci-incus-run";
  };
})
