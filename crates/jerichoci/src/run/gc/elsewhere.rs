//! What nobody needs elsewhere: on hosts, and in the Incus of each machine where guests are made.

use jericho_host::CancelToken;

use super::{GcPolicy, GcReport, collect};
use crate::engine::{Engine, EngineError};
use crate::executor::incus::collect_volumes;
use crate::run::known;
use crate::run::layout::Layout;
use crate::run::reap::{ReapOptions, reaper};
use crate::run::store::file_error;

/// What was collected on a host, as paths below its work directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostGcReport {
    /// The host, by the name that jobs use.
    pub host: String,
    /// Everything that went, sorted by kind.
    pub removed: Vec<String>,
    /// Bytes on its disk.
    pub freed_bytes: u64,
}

/// Collects under the engine's state root, on these hosts, and volumes of Incus here and there.
pub(crate) fn everywhere(
    engine: &Engine,
    policy: &GcPolicy,
    hosts: &[String],
    cancel: &CancelToken,
) -> Result<GcReport, EngineError> {
    let mut report = collect(engine, policy, cancel)?;
    let layout = Layout::new(&engine.config.state_root);
    // Guests of dead engines are ended by the collection of this machine, and told by `reap`.
    let options = ReapOptions { hosts: hosts.to_vec(), dry_run: true, ..ReapOptions::default() };
    let Some((reaper, places)) = reaper(engine, &options, cancel)? else { return Ok(report) };
    let own = reaper.places().map_err(file_error("read", layout.root()))?;
    let runs = known::runs_of(&layout);
    let mut unreachable = Vec::new();
    for name in hosts {
        if cancel.is_cancelled() {
            return Ok(report);
        }
        match reaper.hosts.collect(name, &runs, policy.cache_max_age, policy.dry_run, cancel) {
            Ok(garbage) => {
                let snapshots = garbage.snapshots.iter().map(|hash| format!("snapshots/{hash}"));
                let rest = [garbage.jobs, garbage.runners, garbage.caches].concat();
                report.hosts.push(HostGcReport {
                    host: name.clone(),
                    removed: snapshots.chain(rest).collect(),
                    freed_bytes: garbage.freed_bytes,
                });
                report.problems.extend(garbage.problems);
            }
            Err(error) => {
                report.unreachable.push(error.told());
                unreachable.push(name.clone());
            }
        }
    }
    for place in places {
        let is_asked = |host: &String| hosts.contains(host) && !unreachable.contains(host);
        if cancel.is_cancelled() || !place.host.as_ref().is_none_or(is_asked) {
            continue;
        }
        let collected = reaper.incus(&place, cancel).and_then(|incus| {
            let config = match &place.host {
                None => engine.config.incus.clone(),
                Some(host) => engine.config.hosts.get(host).incus,
            };
            let now = incus.time()?.unwrap_or_else(|| engine.clock.now());
            let whose = (place.project.as_str(), config.profile.as_str(), reaper.hosts.engine_id());
            Ok(collect_volumes(&incus, whose, now, policy.cache_max_age, policy.dry_run)?)
        });
        match collected {
            Ok(volumes) => {
                let told =
                    |name| format!("volume {name} in project {} on {}", place.project, place.host_name());
                report.removed_volumes.extend(volumes.into_iter().map(told));
            }
            // An Incus of this machine that is gone has nothing of ours; and where this engine has never made a
            // guest there need not be any.
            Err(_) if place.host.is_none() && !place.socket.exists() => {}
            Err(_) if !own.contains(&place) => {}
            Err(problem) => report.unreachable.push(format!(
                "volumes in the Incus project {} on {}: {}",
                place.project,
                place.host_name(),
                reaper.explain(&place, &problem, cancel)
            )),
        }
    }
    Ok(report)
}
