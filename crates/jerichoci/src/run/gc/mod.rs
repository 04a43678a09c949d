//! Collects what nobody needs: runs beyond those that are kept, snapshots without a run, caches
//! that nobody used for a while, and what is too much altogether. Never touches a run that an
//! engine works on, one that has a guest to be looked at, or a cache that a job uses.

mod caches;
mod elsewhere;
mod usage;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::time::Duration;

use chrono::{DateTime, Utc};
use jericho_host::CancelToken;
use jericho_host::fs::remove_tree;

pub use elsewhere::HostGcReport;
pub(crate) use elsewhere::everywhere;
use usage::disk_usage;

use super::layout::{Layout, RunLayout};
use super::list::list_runs;
use super::owner::{Ownership, is_alive};
use super::prepare::roots::has_kept_guest;
use super::snapshots::{Snapshots, kept_by};
use super::store::{file_error, refuse_links};
use crate::causes::with_causes;
use crate::engine::{Engine, EngineError};
use crate::model::id::RunId;
use crate::snapshot::ContentHash;

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcPolicy {
    /// The newest runs, this many.
    pub keep_runs: usize,
    /// Of these, only the ones that are not older than this.
    pub max_age: Option<Duration>,
    /// Runs, snapshots and caches together may take this many bytes on the disk. When they take
    /// more, runs and caches go in the order of their last use, the one that was used longest ago
    /// first, until they do not; what is in use stays.
    pub max_bytes: Option<u64>,
    /// Caches of jobs that were used within this time.
    pub cache_max_age: Duration,
    /// Say what would go, and let it be.
    pub dry_run: bool,
}

impl Default for GcPolicy {
    /// Ten runs of any age, caches of the last two weeks.
    fn default() -> Self {
        Self {
            keep_runs: 10,
            max_age: None,
            max_bytes: None,
            cache_max_age: Duration::from_secs(14 * 24 * 3600),
            dry_run: false,
        }
    }
}

/// What went, or would go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Runs, oldest first.
    pub removed_runs: Vec<String>,
    /// Runs that would have gone but have an engine working on them.
    pub kept_live: Vec<String>,
    /// Runs that would have gone but have a guest that is kept: it sees the source and the prepared outputs of its run.
    pub kept_guests: Vec<String>,
    /// Cache directories, relative to the state root.
    pub removed_caches: Vec<String>,
    /// Bytes on the disk.
    pub freed_bytes: u64,
    /// What runs, snapshots and caches take, or would take, afterwards; only known when there is a
    /// limit. More than the limit when what is in use takes more.
    pub left_bytes: Option<u64>,
    /// What could not be collected, one line each.
    pub problems: Vec<String>,
    /// What went on hosts.
    pub hosts: Vec<HostGcReport>,
    /// Volumes of Incus, as `volume <name> in project <project> on <host>`.
    pub removed_volumes: Vec<String>,
    /// Hosts, and places of Incus, that could not be looked at, one line each.
    pub unreachable: Vec<String>,
}

/// Collects under the engine's state root.
pub(crate) fn collect(
    engine: &Engine,
    policy: &GcPolicy,
    cancel: &CancelToken,
) -> Result<GcReport, EngineError> {
    let layout = Layout::new(&engine.config.state_root);
    let mut report = GcReport::default();
    if !layout.runs().is_dir() {
        return Ok(report);
    }
    refuse_links(&layout)?;
    if !policy.dry_run {
        report.problems.extend(super::reap::reap_here(engine, cancel)?.problems);
    }
    let mut this = Collection { engine, layout: &layout, policy, kept: Vec::new(), report };
    let mut gone = Vec::new();
    for (position, id) in newest_first(&layout)?.into_iter().enumerate() {
        let too_many = position >= policy.keep_runs;
        let too_old = policy.max_age.is_some_and(|limit| older_than(engine, &id, limit));
        if too_many || too_old { gone.push(id) } else { this.kept.push(id) }
    }
    for id in gone.into_iter().rev() {
        this.remove_run(id);
    }
    let mut caches = caches::all(&layout);
    caches.retain(|cache| {
        let old = is_older(engine, cache.used.into(), policy.cache_max_age);
        !(old && this.remove_cache(cache).is_some())
    });
    let store_bytes = this.collect_snapshots();
    if let Some(limit) = policy.max_bytes {
        this.shrink(limit, caches, store_bytes);
    }
    Ok(this.report)
}

/// A collection under way.
struct Collection<'a> {
    engine: &'a Engine,
    layout: &'a Layout,
    policy: &'a GcPolicy,
    kept: Vec<RunId>,
    report: GcReport,
}

/// What can go when there is too much.
enum Item {
    Run(RunId),
    Cache(caches::Cache),
}

impl Collection<'_> {
    /// Removes one run, unless an engine works on it or a guest of it is kept. Returns the bytes that it took.
    fn remove_run(&mut self, id: RunId) -> Option<u64> {
        let run = self.layout.run(&id);
        match remove_run(&run, self.engine.clock.now(), self.policy.dry_run) {
            Ok(Removal::Done(bytes)) => {
                self.report.freed_bytes += bytes;
                self.report.removed_runs.push(id.to_string());
                return Some(bytes);
            }
            Ok(Removal::IsLive) => {
                self.report.kept_live.push(id.to_string());
                self.kept.push(id);
            }
            Ok(Removal::HasGuest) => {
                self.report.kept_guests.push(id.to_string());
                self.kept.push(id);
            }
            // Somebody else collects at the same time.
            Err(_) if !run.dir().exists() => {}
            Err(error) => {
                self.report.problems.push(format!("run {id}: {}", with_causes(&error)));
                self.kept.push(id);
            }
        }
        None
    }

    /// Removes one cache, unless it is in use. Returns the bytes that it took.
    fn remove_cache(&mut self, cache: &caches::Cache) -> Option<u64> {
        match cache.remove(self.policy.dry_run) {
            Ok(bytes) => {
                let bytes = bytes?;
                let name = cache.dir.strip_prefix(self.layout.root()).unwrap_or(&cache.dir);
                self.report.removed_caches.push(name.display().to_string());
                self.report.freed_bytes += bytes;
                Some(bytes)
            }
            Err(problem) => {
                self.report.problems.push(problem);
                None
            }
        }
    }

    /// Removes what was used longest ago until the rest takes no more than `limit`. `dead` bytes
    /// of the store are as good as gone.
    fn shrink(&mut self, limit: u64, caches: Vec<caches::Cache>, mut dead: u64) {
        let layout = self.layout;
        let store = |dead: u64| {
            let bytes = disk_usage(&layout.store()) + disk_usage(&layout.snapshots());
            if self.policy.dry_run { bytes.saturating_sub(dead) } else { bytes }
        };
        let mut of_store = store(dead);
        // Of caches that a dry run has let be, nothing is there any more.
        let of_caches =
            |caches: &[caches::Cache]| caches.iter().map(|cache| disk_usage(&cache.dir)).sum::<u64>();
        let mut of_items = of_caches(&caches)
            + disk_usage(&layout.stat_cache())
            + self.kept.iter().map(|id| disk_usage(layout.run(id).dir())).sum::<u64>();
        // A dev shell is small, and jobs stand on it without holding its lock.
        let worth_it = |cache: &caches::Cache| !cache.dir.starts_with(layout.dev_env());
        let mut items: Vec<(DateTime<Utc>, Item)> = caches
            .into_iter()
            .filter(worth_it)
            .map(|cache| (cache.used.into(), Item::Cache(cache)))
            .collect();
        let stay = self.report.kept_live.iter().chain(&self.report.kept_guests);
        let stay: HashSet<String> = stay.cloned().collect();
        let idle = std::mem::take(&mut self.kept);
        for id in idle {
            match second_of(&id) {
                Some(start) if !stay.contains(id.as_str()) && !is_alive(&layout.run(&id)) => {
                    items.push((start, Item::Run(id)));
                }
                _ => self.kept.push(id),
            }
        }
        // The last one is the oldest.
        items.sort_by_key(|(used, _)| std::cmp::Reverse(*used));
        while of_store + of_items > limit {
            let Some((_, item)) = items.pop() else { break };
            match item {
                Item::Cache(cache) => of_items -= self.remove_cache(&cache).unwrap_or_default().min(of_items),
                Item::Run(id) => {
                    let Some(bytes) = self.remove_run(id) else { continue };
                    of_items -= bytes.min(of_items);
                    // The snapshot went too, if it was the last run of it.
                    let others = items.iter().filter_map(|(_, item)| match item {
                        Item::Run(id) => Some(id.clone()),
                        Item::Cache(_) => None,
                    });
                    let kept = self.kept.clone();
                    self.kept.extend(others);
                    let before = self.report.freed_bytes;
                    let dead_now = self.collect_snapshots();
                    if self.policy.dry_run {
                        // Counted before.
                        self.report.freed_bytes = before + dead_now.saturating_sub(dead);
                        dead = dead_now;
                    }
                    self.kept = kept;
                    of_store = store(dead_now);
                }
            }
        }
        self.report.left_bytes = Some(of_store + of_items);
    }

    /// Collects the snapshots that no kept run has. Returns the bytes that they took.
    fn collect_snapshots(&mut self) -> u64 {
        // Also what a run that began a moment ago stands on. What cannot be read is no licence to
        // remove: then nothing is collected.
        let (layout, dry_run) = (self.layout, self.policy.dry_run);
        let live = || -> std::io::Result<HashSet<ContentHash>> {
            let ids = match dry_run {
                true => self.kept.clone(),
                false => run_ids(layout).map_err(std::io::Error::other)?,
            };
            let mut live = HashSet::new();
            for id in &ids {
                live.extend(kept_by(&layout.run(id))?);
            }
            Ok(live)
        };
        let collected = CancelToken::new().map_err(|error| error.to_string()).and_then(|cancel| {
            let snapshots = Snapshots::open(self.engine, layout).map_err(|error| with_causes(&error))?;
            snapshots.store().collect(live, dry_run, &cancel).map_err(|error| with_causes(&error))
        });
        match collected {
            Ok(collected) => {
                self.report.freed_bytes += collected.bytes;
                collected.bytes
            }
            Err(problem) => {
                self.report.problems.push(format!("snapshots: {problem}"));
                0
            }
        }
    }
}

/// All runs in the order in which a list shows them. Ids alone tell no more than the second.
fn newest_first(layout: &Layout) -> Result<Vec<RunId>, EngineError> {
    let listed = list_runs(layout.root())?.runs;
    let started: HashMap<String, DateTime<Utc>> =
        listed.into_iter().map(|run| (run.run_id, run.created_at)).collect();
    let mut runs = run_ids(layout)?;
    runs.sort_by_cached_key(|id| {
        let start = started.get(id.as_str()).copied().or_else(|| second_of(id));
        std::cmp::Reverse((start, id.clone()))
    });
    Ok(runs)
}

fn run_ids(layout: &Layout) -> Result<Vec<RunId>, EngineError> {
    let dir = layout.runs();
    let entries = fs::read_dir(&dir).map_err(file_error("read", &dir))?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
    let mut ids = Vec::new();
    for name in names {
        let name = name.map_err(file_error("read", &dir))?;
        ids.extend(name.to_str().and_then(|name| name.parse().ok()));
    }
    Ok(ids)
}

fn older_than(engine: &Engine, id: &RunId, limit: Duration) -> bool {
    second_of(id).is_some_and(|start| is_older(engine, start, limit))
}

fn is_older(engine: &Engine, time: DateTime<Utc>, limit: Duration) -> bool {
    let age = engine.clock.now().signed_duration_since(time);
    age.to_std().is_ok_and(|age| age > limit)
}

/// The second in which a run started, by its id.
fn second_of(id: &RunId) -> Option<DateTime<Utc>> {
    let start = chrono::NaiveDateTime::parse_from_str(id.as_str().get(..16)?, "%Y%m%dT%H%M%SZ");
    start.ok().map(|start| start.and_utc())
}

/// What became of a run.
enum Removal {
    /// It is gone, or would be; the bytes that it took.
    Done(u64),
    /// An engine works on it.
    IsLive,
    /// A person wants to look at a guest of it.
    HasGuest,
}

/// Removes one run, unless somebody needs it.
fn remove_run(run: &RunLayout, now: DateTime<Utc>, dry_run: bool) -> Result<Removal, EngineError> {
    if dry_run {
        return Ok(if is_alive(run) {
            Removal::IsLive
        } else if has_kept_guest(run, now) {
            Removal::HasGuest
        } else {
            Removal::Done(disk_usage(run.dir()))
        });
    }
    // Held until the directory is gone, so that nobody takes the run in between.
    let Some(_ownership) = Ownership::try_take(run)? else { return Ok(Removal::IsLive) };
    if has_kept_guest(run, now) {
        return Ok(Removal::HasGuest);
    }
    let bytes = disk_usage(run.dir());
    let mut again = 0..10;
    loop {
        match remove_tree(run.dir()) {
            // Somebody who looked at the run before it was taken has put a file there meanwhile.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && again.next().is_some() => {}
            removed => break removed.map_err(file_error("remove", run.dir()))?,
        }
    }
    Ok(Removal::Done(bytes))
}
