//! Snapshots on a host that nobody needs: looked for when the host becomes ready, beside everything else.

use std::sync::Arc;

use jericho_host::{CancelToken, SshHost};
use pika_cloud::ops::{Incus, Labels, OpsError, SocketHost, SshSockets};

use super::host::Ready;
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

/// Removes what is beyond the disk budget of the host and in nobody's use. What goes wrong is told in one
/// line; nothing is told of work that was ended.
pub(super) fn collect(place: &Place, cancel: &CancelToken) -> Option<String> {
    let error = try_collect(place, cancel).err()?;
    let is_ended = cancel.is_cancelled() || matches!(error, SyncError::Cancelled(_));
    let host = place.ssh.as_ref();
    let told = format!(
        "snapshots on {} were not collected: {}",
        jericho_host::Host::label(host),
        with_causes(&error)
    );
    (!is_ended).then_some(told)
}

fn try_collect(place: &Place, cancel: &CancelToken) -> Result<Report, SyncError> {
    // Not that of the jobs, which do not wait for this.
    let line = Line::new().map_err(|error| SyncError::System("cannot make a line to a host", error))?;
    let remote = Remote {
        ssh: &place.ssh,
        work_dir: &place.ready.work_dir,
        runner: &place.ready.runner,
        engine_id: &place.engine_id,
        line: &line,
        min_free: 0,
    };
    let run =
        |instances: &[Instances]| sync::collect(&remote, place.config.disk_budget, instances, false, cancel);
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
    if known.is_empty() { Ok(report) } else { run(&known) }
}
