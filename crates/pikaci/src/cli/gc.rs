//! `pikaci gc`.

use std::io::Write as _;
use std::time::Duration;

use jerichoci::GcPolicy;

use super::session::Session;
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::report::{note, warn};
use crate::render::text::{bytes, counted};

/// Removes old runs, and what only they needed
///
/// A run stays when it is within all the limits that are given; without any, the newest 10 stay. A
/// run that goes on is never touched.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Keep this many of the newest runs [default: 10, when there is no other limit]
    #[arg(long, value_name = "N", value_parser = super::usage::from_zero)]
    keep_runs: Option<usize>,
    /// Keep the runs of this time, for example 14d or 36h
    #[arg(long, value_name = "AGE", value_parser = super::measures::age)]
    max_age: Option<Duration>,
    /// Keep runs, snapshots and caches below this size, for example 20GiB. What was used longest ago goes first
    #[arg(long, value_name = "SIZE", value_parser = super::measures::size)]
    max_size: Option<u64>,
    /// Say what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, CliError> {
    let engine = session.engine()?;
    let policy = policy(args);
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
    if !report.removed_caches.is_empty() {
        let verb = if args.dry_run { "would go" } else { "removed" };
        note(&format!("{} {verb}", counted(report.removed_caches.len(), "cache")));
    }
    let verb = if args.dry_run { "would free" } else { "freed" };
    note(&format!("{verb} {}", bytes(report.freed_bytes)));
    for problem in &report.problems {
        warn(problem);
    }
    Ok(if report.problems.is_empty() { Exit::Success } else { Exit::Infrastructure })
}

/// Each limit is in force when it is given: `--max-age 14d` alone keeps all runs of two weeks.
fn policy(args: &Args) -> GcPolicy {
    let standard = GcPolicy::default();
    let keep_runs = match (args.keep_runs, args.max_age, args.max_size) {
        (Some(count), _, _) => count,
        (None, None, None) => standard.keep_runs,
        (None, _, _) => usize::MAX,
    };
    GcPolicy { keep_runs, max_age: args.max_age, max_bytes: args.max_size, dry_run: args.dry_run, ..standard }
}
