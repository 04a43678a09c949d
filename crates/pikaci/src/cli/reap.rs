//! `pikaci reap`.

use std::io::Write as _;

use jerichoci::{ReapOptions, ReapReport};

use super::run::Interrupt;
use super::session::Session;
use crate::config::{HostFlags, word};
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::report::{note, warn};
use crate::render::text::{counted, printable};

/// Ends what nobody owns any more: what engines that died have left running
///
/// On this machine, on every host of the user's file, and wherever this state root has ever made guests.
/// Processes, guests and directories of runs that somebody works on are never touched, and neither are those of
/// other state roots or guests that are kept to be looked at. Every run does the same for what it meets.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Of the hosts only this one, as in the user's file or for ssh; `local` for none. Can be given several times
    #[arg(long, value_name = "HOST", value_parser = word)]
    host: Vec<String>,
    /// Also guests of other state roots whose time is up: that of their job, and an hour more
    #[arg(long)]
    expired: bool,
    /// Say what would be ended, and end nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    hosts: HostFlags,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, CliError> {
    let (engine, operator) = session.engine_with_hosts(&args.hosts)?;
    let hosts = operator.hosts_or(&args.host);
    let options = ReapOptions { hosts, expired: args.expired, dry_run: args.dry_run };
    let interrupt = Interrupt::listen()?;
    let report = engine.reap_all(&options, &interrupt.cancel).map_err(|error| session.engine_error(error))?;
    tell(&report).map_err(CliError::output)?;
    if interrupt.cancel.is_cancelled() {
        return Ok(Exit::Cancelled);
    }
    Ok(if report.problems.is_empty() { Exit::Success } else { Exit::Infrastructure })
}

/// What was ended stands on standard output, one line each.
fn tell(report: &ReapReport) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let runs = report.runs.iter().map(|run| format!("run {run}"));
    let processes = report.processes.iter().map(|process| format!("process {process}"));
    let jobs = report.jobs.iter().map(|job| format!("job {job}"));
    let mut ended = 0;
    for line in runs.chain(processes).chain(jobs).chain(report.instances.iter().cloned()) {
        writeln!(out, "{}", printable(line.as_bytes()))?;
        ended += 1;
    }
    out.flush()?;
    if !report.kept.is_empty() {
        let guests = counted(report.kept.len(), "guest");
        note(&format!("{guests} kept to be looked at: pikaci list --kept"));
    }
    for problem in &report.problems {
        warn(problem);
    }
    if ended == 0 && report.problems.is_empty() {
        note("nothing was left by anybody");
    }
    Ok(())
}
