//! `pikaci staged-linux-remote-defaults`.

use std::io::Write as _;

use serde::Serialize;

use crate::error::CliError;
use crate::exit::Exit;
use crate::render::document;

/// Prints the built-in settings of the build host
///
/// Text is assignments that a shell can read. The environment is not applied.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Where staged Linux jobs run when nothing else is said.
#[derive(Debug, Serialize)]
struct Defaults {
    ssh_binary: &'static str,
    ssh_nix_binary: &'static str,
    ssh_host: &'static str,
    remote_work_dir: &'static str,
    remote_launcher_binary: &'static str,
    remote_helper_binary: &'static str,
    store_uri: &'static str,
}

const DEFAULTS: Defaults = Defaults {
    ssh_binary: "/usr/bin/ssh",
    ssh_nix_binary: "nix",
    ssh_host: "pika-build",
    remote_work_dir: "/var/tmp/jerichoci-prepared-output",
    remote_launcher_binary: "/run/current-system/sw/bin/pikaci-launch-fulfill-prepared-output",
    remote_helper_binary: "/run/current-system/sw/bin/pikaci-fulfill-prepared-output",
    store_uri: "ssh://pika-build",
};

pub(crate) fn run(args: &Args) -> Result<Exit, CliError> {
    if args.json {
        document::print(&DEFAULTS)?;
        return Ok(Exit::Success);
    }
    let lines = [
        ("ssh_binary", DEFAULTS.ssh_binary),
        ("ssh_nix_binary", DEFAULTS.ssh_nix_binary),
        ("ssh_host", DEFAULTS.ssh_host),
        ("remote_work_dir", DEFAULTS.remote_work_dir),
        ("remote_launcher_binary", DEFAULTS.remote_launcher_binary),
        ("remote_helper_binary", DEFAULTS.remote_helper_binary),
        ("store_uri", DEFAULTS.store_uri),
    ];
    let text: String = lines.iter().map(|(name, value)| format!("default_{name}='{value}'\n")).collect();
    std::io::stdout().write_all(text.as_bytes()).map_err(CliError::output)?;
    Ok(Exit::Success)
}
