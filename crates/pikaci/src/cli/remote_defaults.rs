//! `pikaci staged-linux-remote-defaults`: built-in settings for scripts.

use crate::error::CliError;
use crate::exit::Ending;

/// Print the built-in settings of staged jobs on a remote host
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// As JSON, in place of shell assignments
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<Ending, CliError> {
    let _ = args.json;
    Ok(Ending::Done)
}
