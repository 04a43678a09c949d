# What of this repository its builds take in; an edit elsewhere rebuilds nothing.
{ lib }:
let
  sourceOf =
    paths:
    lib.fileset.toSource {
      root = ../.;
      fileset = lib.fileset.unions paths;
    };
  cargo = [
    ../Cargo.lock
    ../Cargo.toml
  ];
  crates = cargo ++ [
    ../crates
    ../jericho.toml
  ];
in
{
  # What decides which dependencies there are, and how they are compiled.
  manifests = sourceOf (cargo ++ [ (lib.fileset.fileFilter (file: file.name == "Cargo.toml") ../crates) ]);
  package = sourceOf crates;
  # Tests compare the documentation with what it is about.
  tests = sourceOf (
    crates
    ++ [
      ../.config
      ../ci
      ../clippy.toml
      ../docs
      ../rustfmt.toml
    ]
  );
}
