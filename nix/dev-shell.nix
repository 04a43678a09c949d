# The shell of `nix develop`: what scripts/test and daily work need.
{
  cargo,
  cargo-deny,
  cargo-nextest,
  clippy,
  git,
  just,
  lib,
  mkShell,
  openssh,
  procps,
  python3,
  rust-analyzer,
  rustc,
  rustfmt,
  shellcheck,
  stdenv,
  util-linux,
}:
mkShell {
  packages = [
    cargo
    cargo-deny
    cargo-nextest
    clippy
    git
    just
    python3
    rust-analyzer
    rustc
    rustfmt
    shellcheck
  ]
  ++ lib.optionals stdenv.hostPlatform.isLinux [
    openssh
    procps
    util-linux
  ];
}
