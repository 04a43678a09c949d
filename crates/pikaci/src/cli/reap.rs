//! `pikaci reap`.

use std::io::Write as _;

use jerichoci::model::record::KeptInstanceRecord;
use jerichoci::{ReapOptions, ReapReport};
use serde::Serialize;

use super::run::Interrupt;
use super::session::Session;
use crate::config::{HostFlags, word};
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::document;
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
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hosts: HostFlags,
}

const SCHEMA_VERSION: u32 = 1;

#[derive(Debug, Serialize)]
struct Document<'a> {
    schema_version: u32,
    /// Whether nothing was ended yet.
    dry_run: bool,
    /// In the order of the lines.
    ended: Vec<Ended<'a>>,
    /// Guests that a person wants to look at.
    kept: &'a [KeptInstanceRecord],
    /// Guests of other state roots whose time is up; `--expired` ends them.
    outlived: Vec<&'a str>,
    /// What could not be looked at or ended, one line each.
    problems: &'a [String],
}

/// What was ended, or would be: a line of the other output.
#[derive(Debug, Serialize)]
struct Ended<'a> {
    /// `run`, `process`, `job` (of a host) or `instance` (a guest).
    kind: &'static str,
    what: &'a str,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, CliError> {
    let (engine, operator) = session.engine_with_hosts(&args.hosts)?;
    let hosts = operator.hosts_or(&args.host);
    let only = !args.host.is_empty();
    let options = ReapOptions { hosts, only, expired: args.expired, dry_run: args.dry_run };
    let interrupt = Interrupt::listen()?;
    let report = engine.reap_all(&options, &interrupt.cancel).map_err(|error| session.engine_error(error))?;
    if args.json {
        let (kept, problems) = (&report.kept, &report.problems);
        let (schema_version, dry_run, ended) = (SCHEMA_VERSION, args.dry_run, ended(&report));
        let outlived = report.outlived.iter().map(|guest| bare(guest)).collect();
        document::print(&Document { schema_version, dry_run, ended, kept, outlived, problems })?;
    } else {
        tell(&report).map_err(CliError::output)?;
    }
    if interrupt.cancel.is_cancelled() {
        return Ok(Exit::Cancelled);
    }
    Ok(if report.problems.is_empty() { Exit::Success } else { Exit::Infrastructure })
}

const INSTANCE: &str = "instance";

/// What is said of a guest, whose kind is the first of the words.
fn bare(what: &str) -> &str {
    what.strip_prefix(INSTANCE).map_or(what, str::trim_start)
}

fn ended(report: &ReapReport) -> Vec<Ended<'_>> {
    let of = |kind, all| <[String]>::iter(all).map(move |what| Ended { kind, what });
    let runs = of("run", &report.runs).chain(of("process", &report.processes)).chain(of("job", &report.jobs));
    let instances = report.instances.iter().map(|what| Ended { kind: INSTANCE, what: bare(what) });
    runs.chain(instances).collect()
}

/// What was ended stands on standard output, one line each.
fn tell(report: &ReapReport) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let ended = ended(report);
    for Ended { kind, what } in &ended {
        writeln!(out, "{kind} {}", printable(what.as_bytes()))?;
    }
    out.flush()?;
    if !report.kept.is_empty() {
        let guests = counted(report.kept.len(), "guest");
        note(&format!("{guests} kept to be looked at: pikaci list --kept"));
    }
    if !report.outlived.is_empty() {
        let guests = counted(report.outlived.len(), "guest");
        note(&format!("{guests} of other state roots whose time is up: pikaci reap --expired"));
    }
    for problem in &report.problems {
        warn(problem);
    }
    if ended.is_empty() && report.outlived.is_empty() && report.problems.is_empty() {
        note("nothing was left by anybody");
    }
    Ok(())
}
