# The prepared outputs of the target pre-merge-jericho-linux: the compiled dependencies of this workspace, and its
# tests with the programs that run them in a guest. See docs/nix.md.
#
# The test binaries are static: a guest needs nothing of the Nix store that they come from.
{ pkgs }:
let
  inherit (pkgs) lib;
  sources = import ../sources.nix { inherit lib; };

  # Programs in bin/ of the build output: which tests each of them runs, as PACKAGE/KIND/NAME of cargo's targets.
  # One that selects nothing fails the build.
  lanes = {
    run-jericho-unit-tests = [
      "*/lib/*"
      "*/bin/*"
    ];
    run-jericho-contract-tests = [
      "jerichoci/test/records*"
      "pika-cloud/test/*"
      "pika-incus-guest-role/test/*"
      "pikaci/test/catalog"
    ];
  };

  payload =
    {
      role,
      kind,
      mount,
      attributes,
    }:
    pkgs.stdenv.mkDerivation (
      attributes
      // {
        name = "jericho-${role}";
        nativeBuildInputs = [
          pkgs.cargo
          pkgs.python3
          pkgs.rustc
        ];
        buildInputs = [ pkgs.glibc.static ];
        vendor = pkgs.rustPlatform.importCargoLock { lockFile = ../../Cargo.lock; };
        staged = ./staged.py;
        JERICHOCI_PAYLOAD_MANIFEST_KIND = kind;
        JERICHOCI_PAYLOAD_MANIFEST_MOUNT_NAME = mount;
        JERICHOCI_PAYLOAD_MANIFEST_GUEST_PATH = "/staged/linux-rust/${role}";
        buildCommand = "source ${./build.sh}; build_${lib.replaceStrings [ "-" ] [ "_" ] role}";
      }
    );
in
rec {
  workspaceDeps = payload {
    role = "workspace-deps";
    kind = "staged_linux_workspace_deps_v1";
    mount = "workspace_deps_root";
    attributes.src = sources.manifests;
  };
  workspaceBuild = payload {
    role = "workspace-build";
    kind = "staged_linux_workspace_build_v1";
    mount = "workspace_build_root";
    attributes = {
      src = sources.tests;
      deps = workspaceDeps;
      lanes = builtins.toJSON lanes;
      wrapper = ./run-tests.sh;
    };
  };
}
