//! `pikaci explain`.

use super::session::Session;
use crate::error::CliError;
use crate::exit::Exit;

/// Says what differs between two runs: source, definitions, settings, verdicts, durations
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The two runs
    #[arg(long, num_args = 2, value_names = ["RUN_A", "RUN_B"], required = true)]
    diff: Vec<String>,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, CliError> {
    match args.diff.as_slice() {
        [a, b] => super::diff::run(session, a, b, args.json),
        _ => Err(CliError::usage("--diff takes two runs").hint(session.typed(["list"]))),
    }
}
