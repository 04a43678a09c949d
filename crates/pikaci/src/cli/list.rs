//! `pikaci list`: the runs of a state root.

use crate::config::Config;
use crate::error::CliError;
use crate::exit::Ending;
use crate::output::{note, print};
use crate::render::status::list_line;

/// List the runs, newest first
///
/// A line a run, tab separated: run id, status, target (else its first job, else `-`), start.
/// A run whose record is damaged is a warning on standard error.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_args: &Args, config: &Config) -> Result<Ending, CliError> {
    let list = jerichoci::list_runs(&config.state_root()?.value)?;
    for (run, problem) in &list.problems {
        note(format_args!("warning: {run}: {problem}"));
    }
    print(list.runs.iter().map(list_line).collect::<String>())?;
    Ok(Ending::Done)
}
