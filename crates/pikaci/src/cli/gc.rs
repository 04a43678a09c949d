//! `pikaci gc`.

use std::io::Write as _;

use jerichoci::GcPolicy;

use super::session::Session;
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::report::{note, warn};
use crate::render::text::bytes;

/// Removes old runs, and what only they needed
///
/// A run that goes on is never touched.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Keep this many of the newest runs
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = super::usage::from_zero)]
    keep_runs: usize,
    /// Say what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, CliError> {
    let engine = session.engine()?;
    let policy = GcPolicy { keep_runs: args.keep_runs, dry_run: args.dry_run, ..GcPolicy::default() };
    let report = engine.gc(&policy).map_err(|error| session.engine_error(error))?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    writeln!(out, "removed_runs={}", report.removed_runs.len()).map_err(CliError::output)?;
    for run in &report.removed_runs {
        writeln!(out, "{run}").map_err(CliError::output)?;
    }
    out.flush().map_err(CliError::output)?;
    for run in &report.kept_live {
        note(&format!("{run} goes on and was kept"));
    }
    let verb = if args.dry_run { "would free" } else { "freed" };
    note(&format!("{verb} {}", bytes(report.freed_bytes)));
    for problem in &report.problems {
        warn(problem);
    }
    Ok(if report.problems.is_empty() { Exit::Success } else { Exit::Infrastructure })
}
