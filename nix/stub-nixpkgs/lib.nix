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
  fileset =
    let
      within = dir: path: path == dir || builtins.substring 0 (builtins.stringLength dir + 1) path == dir + "/";
      # A set of files is a list of these. Every path must exist.
      part =
        path: keep:
        if builtins.pathExists path then
          {
            path = toString path;
            inherit keep;
          }
        else
          throw "${toString path} is missing";
      # Whether a part has any file below a directory: one without is left out, as by the real one.
      holds =
        part: dir:
        let
          entries = builtins.readDir dir;
          holdsEntry =
            name:
            let
              path = "${dir}/${name}";
            in
            if entries.${name} == "directory" then holds part path else part.keep path;
        in
        builtins.any holdsEntry (builtins.attrNames entries);
      parts = set: if builtins.isList set then set else [ (part set (_: true)) ];
    in
    {
      fileFilter = keep: dir: [ (part dir (path: keep { name = baseNameOf path; })) ];
      toSource =
        { root, fileset }:
        let
          wanted =
            path: type: part:
            if type == "directory" then
              within path part.path || within part.path path && holds part path
            else
              within part.path path && part.keep path;
        in
        builtins.path {
          name = "source";
          path = root;
          filter = path: type: builtins.any (wanted path type) (parts fileset);
        };
      unions = sets: builtins.concatLists (map parts sets);
    };
  replaceStrings = builtins.replaceStrings;
}
