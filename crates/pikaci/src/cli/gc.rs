//! `pikaci gc`.

use std::io::Write as _;
use std::time::Duration;

use jerichoci::{GcPolicy, GcReport};

use super::run::Interrupt;
use super::session::Session;
use crate::config::{HostFlags, word};
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::report::{note, warn};
use crate::render::text::{bytes, counted};

/// Removes old runs, and what only they needed
///
/// A run stays when it is within all the limits that are given; without any, the newest 10 stay. A
/// run that goes on, or whose guest is kept, is never touched.
///
/// On the hosts of the user's file: snapshots beyond the disk budget, what jobs have left that nobody works on, and
/// runners and caches that were not used for two weeks. In each Incus where guests are made: volumes that no guest
/// sees. A host that cannot be reached is a warning.
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
    /// Of the hosts only this one, as in the user's file or for ssh; `local` for none. Can be given several times
    #[arg(long, value_name = "HOST", value_parser = word)]
    host: Vec<String>,
    #[command(flatten)]
    hosts: HostFlags,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, CliError> {
    // Outside of a source tree a state root can be collected too; what its hosts are is not known there.
    let (engine, hosts) = match session.source().is_err() && args.host.is_empty() {
        true => (session.engine()?, Vec::new()),
        false => {
            let (engine, operator) = session.engine_with_hosts(&args.hosts)?;
            (engine, operator.hosts_or(&args.host))
        }
    };
    let policy = policy(args);
    let interrupt = Interrupt::listen()?;
    let report = engine.gc_everywhere(&policy, &hosts, &interrupt.cancel);
    let report = report.map_err(|error| session.engine_error(error))?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    writeln!(out, "removed_runs={}", report.removed_runs.len()).map_err(CliError::output)?;
    for run in &report.removed_runs {
        writeln!(out, "{run}").map_err(CliError::output)?;
    }
    out.flush().map_err(CliError::output)?;
    for run in &report.kept_live {
        note(&format!("{run} goes on and was kept"));
    }
    for run in &report.kept_guests {
        note(&format!("{run} has a guest that is kept, and stays as long as that does"));
    }
    if !report.removed_caches.is_empty() {
        let verb = if args.dry_run { "would go" } else { "removed" };
        note(&format!("{} {verb}", counted(report.removed_caches.len(), "cache")));
    }
    let verb = if args.dry_run { "would free" } else { "freed" };
    note(&format!("{verb} {}", bytes(report.freed_bytes)));
    tell_elsewhere(&report, args.dry_run);
    if interrupt.cancel.is_cancelled() {
        return Ok(Exit::Cancelled);
    }
    for problem in &report.problems {
        warn(problem);
    }
    Ok(if report.problems.is_empty() { Exit::Success } else { Exit::Infrastructure })
}

/// What went on other machines: all of it where nothing has gone yet, else how much.
fn tell_elsewhere(report: &GcReport, dry_run: bool) {
    let verb = if dry_run { "would go" } else { "removed" };
    for host in &report.hosts {
        for path in host.removed.iter().filter(|_| dry_run) {
            note(&format!("{}: {path} {verb}", host.host));
        }
        let count = host.removed.len();
        let things = format!("{count} {}", if count == 1 { "directory" } else { "directories" });
        let freed = if dry_run { "which would free" } else { "which freed" };
        note(&format!("{}: {things} {verb}, {freed} {}", host.host, bytes(host.freed_bytes)));
    }
    for volume in &report.removed_volumes {
        note(&format!("{volume} {verb}"));
    }
    for problem in &report.unreachable {
        warn(problem);
    }
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
