//! `pikaci staged-linux-remote-defaults`.

use std::io::Write as _;

use jerichoci::run::outputs::staged_linux_remote_defaults;

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

pub(crate) fn run(args: &Args) -> Result<Exit, CliError> {
    let defaults = staged_linux_remote_defaults();
    if args.json {
        document::print(&defaults)?;
        return Ok(Exit::Success);
    }
    let lines = [
        ("ssh_binary", defaults.ssh_binary),
        ("ssh_nix_binary", defaults.ssh_nix_binary),
        ("ssh_host", defaults.ssh_host),
        ("remote_work_dir", defaults.remote_work_dir),
        ("remote_launcher_binary", defaults.remote_launcher_binary),
        ("remote_helper_binary", defaults.remote_helper_binary),
        ("store_uri", defaults.store_uri),
    ];
    let text: String = lines.iter().map(|(name, value)| format!("default_{name}='{value}'\n")).collect();
    std::io::stdout().write_all(text.as_bytes()).map_err(CliError::output)?;
    Ok(Exit::Success)
}
