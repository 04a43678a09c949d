//! `pikaci list`.

use std::io::Write as _;

use jerichoci::{ReapOptions, list_runs};

use super::run::Interrupt;
use super::session::Session;
use crate::config::HostFlags;
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::report::warn;
use crate::render::text::printable;
use crate::targets::file::LOCAL;

/// Lists runs, newest first: run id, status, target, start
///
/// Columns are separated by tabs. A run without a target shows its first job, or `-`.
///
/// With --kept it lists the guests that are kept to be looked at: run, job, host, project, instance, until when.
/// The host of this machine is `local`. Hosts where guests were made are asked.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The guests that are kept to be looked at, in place of the runs
    #[arg(long)]
    kept: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, CliError> {
    if args.kept {
        return kept(session);
    }
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

fn kept(session: &Session) -> Result<Exit, CliError> {
    let (engine, _) = session.engine_with_hosts(&HostFlags::default())?;
    let interrupt = Interrupt::listen()?;
    let report = engine
        .kept_instances(&ReapOptions::default(), &interrupt.cancel)
        .map_err(|error| session.engine_error(error))?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for guest in &report.kept {
        let host = guest.host.as_deref().unwrap_or(LOCAL);
        let words = [&guest.run_id, &guest.job_id, host, &guest.project, &guest.instance];
        let words = words.map(|word| printable(word.as_bytes()));
        writeln!(out, "{}\t{}", words.join("\t"), guest.keep_until.to_rfc3339()).map_err(CliError::output)?;
    }
    out.flush().map_err(CliError::output)?;
    for problem in &report.problems {
        warn(problem);
    }
    if interrupt.cancel.is_cancelled() {
        return Ok(Exit::Cancelled);
    }
    Ok(if report.problems.is_empty() { Exit::Success } else { Exit::Infrastructure })
}
