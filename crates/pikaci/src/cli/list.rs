//! `pikaci list`.

use std::io::Write as _;

use jerichoci::list_runs;

use super::session::Session;
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::report::warn;
use crate::render::text::printable;

/// Lists runs, newest first: run id, status, target, start
///
/// Columns are separated by tabs. A run without a target shows its first job, or `-`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(session: &Session, _args: &Args) -> Result<Exit, CliError> {
    let state_root = session.state_root()?;
    let list = list_runs(&state_root).map_err(|error| session.engine_error(error))?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for run in &list.runs {
        let what = run.target_id.as_deref().or(run.first_job_id.as_deref()).unwrap_or("-");
        let (status, created) = (run.verdict.status().as_str(), run.created_at.to_rfc3339());
        writeln!(out, "{}\t{status}\t{}\t{created}", run.run_id, printable(what.as_bytes()))
            .map_err(CliError::output)?;
    }
    out.flush().map_err(CliError::output)?;
    for (name, problem) in &list.problems {
        warn(&format!("{name}: {problem}"));
    }
    Ok(Exit::Success)
}
