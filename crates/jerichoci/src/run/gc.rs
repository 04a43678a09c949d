//! Collects what nobody needs: runs beyond those that are kept, snapshots without a run, caches
//! that nobody used for a while. Never touches a run that an engine works on.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use jericho_host::CancelToken;
use jericho_host::fs::remove_tree;
use jericho_host::lock::FileLock;

use super::layout::{Layout, RunLayout};
use super::list::list_runs;
use super::owner::{Ownership, is_alive};
use super::snapshots::{Snapshots, kept_by};
use super::store::{file_error, refuse_links};
use crate::causes::with_causes;
use crate::engine::{Engine, EngineError};
use crate::executor::workspace::CACHE_LOCK;
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
    /// more, caches go first, the one that was used longest ago first, then runs, the oldest first.
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
    /// Cache directories, relative to the state root.
    pub removed_caches: Vec<String>,
    /// Bytes on the disk.
    pub freed_bytes: u64,
    /// What could not be collected, one line each.
    pub problems: Vec<String>,
}

/// Collects under the engine's state root.
pub(crate) fn collect(engine: &Engine, policy: &GcPolicy) -> Result<GcReport, EngineError> {
    let layout = Layout::new(&engine.config.state_root);
    let mut report = GcReport::default();
    if !layout.runs().is_dir() {
        return Ok(report);
    }
    refuse_links(&layout)?;
    if !policy.dry_run {
        report.problems.extend(super::reap::reap(engine)?.problems);
    }
    let runs = newest_first(&layout)?;
    let mut kept = Vec::new();
    let mut gone = Vec::new();
    for (position, id) in runs.into_iter().enumerate() {
        let too_many = position >= policy.keep_runs;
        let too_old = policy.max_age.is_some_and(|limit| older_than(engine, &id, limit));
        if too_many || too_old { gone.push(id) } else { kept.push(id) }
    }
    for id in gone.into_iter().rev() {
        let run = layout.run(&id);
        match remove_run(&run, policy.dry_run) {
            Ok(Some(bytes)) => {
                report.freed_bytes += bytes;
                report.removed_runs.push(id.to_string());
                if policy.dry_run {
                    continue;
                }
            }
            Ok(None) => {
                report.kept_live.push(id.to_string());
                kept.push(id);
            }
            // Somebody else collects at the same time.
            Err(_) if !run.dir().exists() => {}
            Err(error) => {
                report.problems.push(format!("run {id}: {}", with_causes(&error)));
                kept.push(id);
            }
        }
    }
    collect_snapshots(engine, &layout, &kept, policy, &mut report);
    collect_caches(engine, &layout, policy, &mut report);
    Ok(report)
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
    let Some(start) = second_of(id) else { return false };
    let age = engine.clock.now().signed_duration_since(start);
    age.to_std().is_ok_and(|age| age > limit)
}

/// The second in which a run started, by its id.
fn second_of(id: &RunId) -> Option<DateTime<Utc>> {
    let start = chrono::NaiveDateTime::parse_from_str(id.as_str().get(..16)?, "%Y%m%dT%H%M%SZ");
    start.ok().map(|start| start.and_utc())
}

/// Removes one run; nothing when an engine works on it.
fn remove_run(run: &RunLayout, dry_run: bool) -> Result<Option<u64>, EngineError> {
    if dry_run {
        return Ok((!is_alive(run)).then(|| disk_usage(run.dir())));
    }
    // Held until the directory is gone, so that nobody takes the run in between.
    let Some(_ownership) = Ownership::try_take(run)? else { return Ok(None) };
    let bytes = disk_usage(run.dir());
    remove_tree(run.dir()).map_err(file_error("remove", run.dir()))?;
    Ok(Some(bytes))
}

fn collect_snapshots(
    engine: &Engine,
    layout: &Layout,
    kept: &[RunId],
    policy: &GcPolicy,
    report: &mut GcReport,
) {
    // Also what a run that began a moment ago stands on. What cannot be read is no licence to
    // remove: then nothing is collected.
    let live = || -> std::io::Result<HashSet<ContentHash>> {
        let ids = match policy.dry_run {
            true => kept.to_vec(),
            false => run_ids(layout).map_err(std::io::Error::other)?,
        };
        let mut live = HashSet::new();
        for id in &ids {
            live.extend(kept_by(&layout.run(id))?);
        }
        Ok(live)
    };
    let cancel = match CancelToken::new() {
        Ok(cancel) => cancel,
        Err(error) => return report.problems.push(format!("snapshots: {error}")),
    };
    let collected = Snapshots::open(engine, layout)
        .and_then(|snapshots| Ok(snapshots.store().collect(live, policy.dry_run, &cancel)?));
    match collected {
        Ok(collected) => report.freed_bytes += collected.bytes,
        Err(error) => report.problems.push(format!("snapshots: {}", with_causes(&error))),
    }
}

fn collect_caches(engine: &Engine, layout: &Layout, policy: &GcPolicy, report: &mut GcReport) {
    for slot in subdirectories(&layout.trees()) {
        // Its last user wrote the state when it let go.
        collect_cache(engine, layout, &slot, ("lock", "state"), policy, report);
    }
    for scope in subdirectories(&layout.cache().join("host-local")) {
        for job in subdirectories(&scope) {
            collect_cache(engine, layout, &job, (CACHE_LOCK, CACHE_LOCK), policy, report);
        }
    }
}

/// Collects one cache directory, when its lock is free and what is written at its last use is old.
fn collect_cache(
    engine: &Engine,
    layout: &Layout,
    dir: &Path,
    (lock, used): (&str, &str),
    policy: &GcPolicy,
    report: &mut GcReport,
) {
    if !unused_for(engine, &dir.join(used), policy.cache_max_age) {
        return;
    }
    let lock = match FileLock::try_exclusive(&dir.join(lock)) {
        Ok(Some(lock)) => lock,
        Ok(None) => return,
        Err(error) => return report.problems.push(with_causes(&error)),
    };
    report.freed_bytes += disk_usage(dir);
    report.removed_caches.extend(dir.strip_prefix(layout.root()).map(|path| path.display().to_string()));
    if !policy.dry_run
        && let Err(error) = remove_tree(dir)
    {
        report.problems.push(format!("{}: {error}", dir.display()));
    }
    drop(lock);
}

fn unused_for(engine: &Engine, lock: &Path, limit: Duration) -> bool {
    let Ok(used) = fs::metadata(lock).and_then(|meta| meta.modified()) else { return false };
    let age = engine.clock.now().signed_duration_since(chrono::DateTime::<chrono::Utc>::from(used));
    age.to_std().is_ok_and(|age| age > limit)
}

fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut dirs: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    dirs.sort();
    dirs
}

/// Bytes that a tree takes on the disk, without what it links to.
fn disk_usage(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    let own = meta.blocks() * 512;
    if !meta.is_dir() {
        return own;
    }
    let Ok(entries) = fs::read_dir(path) else { return own };
    own + entries.filter_map(Result::ok).map(|entry| disk_usage(&entry.path())).sum::<u64>()
}
