# The functions and values of nixpkgs.lib that this repository uses.
rec {
  assertMsg = condition: message: condition || throw message;
  foldl' = builtins.foldl';
  genAttrs = names: f: builtins.listToAttrs (map (name: { inherit name; value = f name; }) names);
  licenses = {
    asl20 = { };
    mit = { };
  };
  optionalAttrs = condition: set: if condition then set else { };
  optionals = condition: list: if condition then list else [ ];
  platforms.unix = [ ];
  versionAtLeast = a: b: builtins.compareVersions a b >= 0;
  fileset = {
    # Every path must exist; the source is then the root as a whole.
    toSource =
      { root, fileset }:
      builtins.deepSeq (map toString fileset) (builtins.path { name = "source"; path = root; });
    unions =
      paths: map (path: if builtins.pathExists path then path else throw "${toString path} is missing") paths;
  };
}
