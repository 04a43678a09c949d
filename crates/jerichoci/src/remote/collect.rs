//! What nobody needs on a host: its snapshots when the host becomes ready, beside everything else; the rest when
//! somebody asks.

use std::sync::Arc;
use std::time::Duration;

use jericho_host::{CancelToken, Host as _, SshHost};
use pika_cloud::ops::{Incus, Labels, OpsError, SocketHost, SshSockets};

use super::host::Ready;
use super::reap::Runs;
use super::sync::{self, Instances, Line, Remote, Report, SyncError};
use crate::causes::with_causes;
use crate::config::HostConfig;

/// A host, as a thread of its own needs it.
pub(super) struct Place {
    pub(super) ssh: Arc<SshHost>,
    pub(super) sockets: Arc<SshSockets>,
    pub(super) config: HostConfig,
    pub(super) ready: Ready,
    pub(super) engine_id: String,
}

/// What nobody needed, or what would go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Garbage {
    /// Snapshots, by their hashes.
    pub(crate) snapshots: Vec<String>,
    /// What jobs had left: `runs/<run>/jobs/<job>`.
    pub(crate) jobs: Vec<String>,
    /// Runners: `bin/<sha256>`.
    pub(crate) runners: Vec<String>,
    /// Caches: `cache/…`.
    pub(crate) caches: Vec<String>,
    pub(crate) freed_bytes: u64,
    /// What could not be looked at or removed, one line each.
    pub(crate) problems: Vec<String>,
}

/// What is collected, beside snapshots beyond the disk budget of the host.
pub(super) struct Wanted<'a> {
    pub(super) runs: &'a Runs,
    /// What was not used for so long goes.
    pub(super) unused: Duration,
    pub(super) dry_run: bool,
}

/// Removes what is beyond the disk budget of the host and in nobody's use. What goes wrong is told in one
/// line; nothing is told of work that was ended.
pub(super) fn snapshots(place: &Place, cancel: &CancelToken) -> Option<String> {
    let error = try_snapshots(place, false, cancel).err()?;
    let is_ended = cancel.is_cancelled() || matches!(error, SyncError::Cancelled(_));
    (!is_ended).then(|| not_collected(place, "snapshots", &error))
}

/// Removes all that nobody needs: jobs of this engine that nobody works on, snapshots beyond the disk budget, and what
/// was not used for a while.
pub(super) fn all(place: &Place, wanted: &Wanted<'_>, cancel: &CancelToken) -> Garbage {
    let dry_run = wanted.dry_run;
    let reaped = super::reap::reap(&place.ssh, &place.ready, &place.engine_id, wanted.runs, dry_run, cancel);
    let jobs = reaped.jobs.iter().filter_map(|job| job.split_once('/'));
    let mut garbage = Garbage {
        jobs: jobs.map(|(run, job)| format!("runs/{run}/jobs/{job}")).collect(),
        problems: reaped.problems,
        ..Garbage::default()
    };
    match try_snapshots(place, dry_run, cancel) {
        Ok(report) => {
            garbage.snapshots = report.removed.iter().map(ToString::to_string).collect();
            garbage.freed_bytes += report.freed;
        }
        Err(error) => garbage.problems.push(not_collected(place, "snapshots", &error)),
    }
    let tidied =
        own_line().and_then(|line| sync::tidy(&remote(place, &line), wanted.unused, dry_run, cancel));
    match tidied {
        Ok(tidied) => {
            // One of this engine's own that is old is found twice by who only looks.
            garbage.jobs.extend(tidied.jobs);
            garbage.jobs.sort();
            garbage.jobs.dedup();
            garbage.runners = tidied.runners;
            garbage.caches = tidied.caches;
            garbage.freed_bytes += tidied.freed;
            let host = place.ssh.label();
            garbage.problems.extend(tidied.problems.iter().map(|problem| format!("{host}: {problem}")));
        }
        Err(error) => garbage.problems.push(not_collected(place, "runners and caches", &error)),
    }
    if !dry_run {
        super::reap::sweep(&place.ssh, &place.ready, cancel);
    }
    garbage
}

fn not_collected(place: &Place, what: &str, error: &SyncError) -> String {
    format!("{what} on {} were not collected: {}", place.ssh.label(), with_causes(error))
}

/// Not that of the jobs, which do not wait for this.
fn own_line() -> Result<Line, SyncError> {
    Line::new().map_err(|error| SyncError::System("cannot make a line to a host", error))
}

fn remote<'a>(place: &'a Place, line: &'a Line) -> Remote<'a> {
    Remote {
        ssh: &place.ssh,
        work_dir: &place.ready.work_dir,
        runner: &place.ready.runner,
        engine_id: &place.engine_id,
        line,
        min_free: 0,
    }
}

fn try_snapshots(place: &Place, dry_run: bool, cancel: &CancelToken) -> Result<Report, SyncError> {
    let line = own_line()?;
    let remote = remote(place, &line);
    let run = |instances: &[Instances]| {
        sync::collect(&remote, place.config.disk_budget, instances, dry_run, cancel)
    };
    let report = run(&[])?;
    if report.projects.is_empty() {
        return Ok(report);
    }
    // Guests that were ended without a word of their engine. An Incus that cannot be asked keeps them alive.
    let sockets: Arc<dyn SocketHost> = Arc::clone(&place.sockets) as _;
    let incus = Incus::new(sockets, place.config.incus.socket.clone(), cancel);
    let known = report.projects.iter().filter_map(|project| {
        let names = match incus.list(project, &Labels::new()) {
            Ok(listed) => listed.into_iter().map(|one| one.instance.name).collect(),
            Err(OpsError::ProjectMissing { .. }) => Vec::new(),
            Err(_) => return None,
        };
        Some(Instances { project: project.clone(), names })
    });
    let known: Vec<Instances> = known.collect();
    if known.is_empty() {
        return Ok(report);
    }
    let more = run(&known)?;
    // Who only looks has counted the first ones again.
    let removed =
        if dry_run { more.removed.clone() } else { [report.removed, more.removed.clone()].concat() };
    let freed = if dry_run { more.freed } else { report.freed + more.freed };
    Ok(Report { removed, freed, ..more })
}
