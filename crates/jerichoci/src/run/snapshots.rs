//! The snapshots of a state root as a run uses them: take one or find one again, and keep it
//! for as long as the run's record is kept.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jericho_host::CancelToken;
use jericho_host::fs::remove_tree;

use super::layout::{Layout, RunLayout};
use super::read::load_run_record;
use super::store::{file_error, read_json, refuse_links, write_json};
use crate::causes::with_causes;
use crate::engine::{Engine, EngineError};
use crate::model::id::RunId;
use crate::model::job::JobSpec;
use crate::model::staged::StagedLinuxSnapshotProfile;
use crate::snapshot::metadata::{TreeState, write_published_tree};
use crate::snapshot::{
    ContentHash, EarlyListing, Manifest, Pin, Profile, Snapshot, SourceSpec, Store, StoreDirs,
};
use crate::snapshot::{MARKER, SnapshotMetadata};

/// A snapshot that a run stands on.
#[derive(Debug)]
pub(crate) struct RunSnapshot {
    pub(crate) hash: String,
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) git_head: Option<String>,
    pub(crate) git_dirty: Option<bool>,
    pub(crate) git_branch: Option<String>,
    pub(crate) warnings: Vec<String>,
    _pin: PinOf,
}

/// Keeps a snapshot from being collected until the run's own link does.
#[derive(Debug)]
#[expect(dead_code, reason = "held, never read")]
enum PinOf {
    Taken(Box<Snapshot>),
    Found(Pin),
}

/// Where a snapshot comes from.
#[derive(Debug)]
pub(crate) enum SourceOf<'a> {
    /// The source tree, with the listing of it that was begun.
    Tree(SourceSpec, Option<EarlyListing>),
    /// The store, by its content hash.
    Recorded(&'a str),
}

/// What a run of these jobs takes a snapshot of.
pub(crate) fn source_spec(engine: &Engine, layout: &Layout, jobs: &[JobSpec]) -> SourceSpec {
    SourceSpec {
        root: engine.config.source_root.clone(),
        state_root: Some(layout.root().to_path_buf()),
        profile: profile_of(jobs),
        facts: true,
        env: engine.config.caller_environment.clone(),
    }
}

/// The snapshots of one state root.
#[derive(Debug)]
pub(crate) struct Snapshots<'a> {
    engine: &'a Engine,
    store: Arc<Store>,
}

impl<'a> Snapshots<'a> {
    pub(crate) fn open(engine: &'a Engine, layout: &Layout) -> Result<Self, EngineError> {
        let dirs = StoreDirs {
            store: layout.store(),
            snapshots: layout.snapshots(),
            stat_cache: layout.stat_cache(),
        };
        let store = Store::open(dirs, Arc::clone(&engine.clock))?;
        Ok(Self { engine, store: Arc::new(store) })
    }

    pub(crate) fn store(&self) -> Arc<Store> {
        Arc::clone(&self.store)
    }

    pub(crate) fn get(&self, of: SourceOf<'_>, cancel: &CancelToken) -> Result<RunSnapshot, String> {
        match of {
            SourceOf::Tree(source, early) => self.take(&source, early, cancel),
            SourceOf::Recorded(hash) => self.find(hash, cancel),
        }
    }

    fn take(
        &self,
        source: &SourceSpec,
        early: Option<EarlyListing>,
        cancel: &CancelToken,
    ) -> Result<RunSnapshot, String> {
        let taken = self.store.take_listed(source, early, cancel);
        let snapshot = taken.map_err(|error| with_causes(&error))?;
        Ok(RunSnapshot {
            hash: snapshot.hash.to_string(),
            manifest: Arc::clone(&snapshot.manifest),
            git_head: snapshot.facts.as_ref().and_then(|facts| facts.head.clone()),
            git_dirty: snapshot.facts.as_ref().and_then(|facts| facts.dirty),
            git_branch: snapshot.facts.as_ref().and_then(|facts| facts.branch.clone()),
            warnings: snapshot.warnings.iter().map(ToString::to_string).collect(),
            _pin: PinOf::Taken(Box::new(snapshot)),
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
            git_branch: None,
            warnings: Vec::new(),
            _pin: PinOf::Found(pin),
        })
    }

    /// Ties a snapshot to a run: `manifest` keeps it from being collected, and `snapshot` is a
    /// directory with the marker, in whose place the whole tree comes when somebody asks for it.
    pub(crate) fn link(&self, run: &RunLayout, snapshot: &RunSnapshot) -> Result<(), EngineError> {
        let link = run.manifest();
        let target = PathBuf::from("../../snapshots").join(&snapshot.hash).join("manifest");
        symlink(target, &link).map_err(file_error("make", &link))?;
        let dir = run.snapshot();
        fs::create_dir(&dir).map_err(file_error("make", &dir))?;
        let marker = SnapshotMetadata {
            source_root: self.engine.config.source_root.to_string_lossy().into_owned(),
            snapshot_dir: dir.to_string_lossy().into_owned(),
            git_head: snapshot.git_head.clone(),
            git_dirty: snapshot.git_dirty,
            created_at: self.engine.clock.now(),
            content_hash: snapshot.hash.parse().ok(),
            git_branch: snapshot.git_branch.clone(),
            tree: Some(TreeState::OnDemand),
        };
        write_json(&dir.join(MARKER), &marker, false)
    }
}

/// The snapshot that a run keeps from being collected; none before it has one.
pub(crate) fn kept_by(run: &RunLayout) -> std::io::Result<Option<ContentHash>> {
    let target = match fs::read_link(run.manifest()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let name = target.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    Ok(name.and_then(|name| name.parse().ok()))
}

/// The source tree of a run, written out in the place of its marker when it is not there.
pub(crate) fn tree_of(engine: &Engine, run_id: &RunId) -> Result<PathBuf, EngineError> {
    let layout = Layout::new(&engine.config.state_root);
    refuse_links(&layout)?;
    load_run_record(layout.root(), run_id)?;
    let run = layout.run(run_id);
    let dir = run.snapshot();
    let refuse = |why: &str| EngineError::NotRepeatable { run_id: run_id.to_string(), why: why.to_owned() };
    let Some(hash) = kept_by(&run).map_err(file_error("read", &run.manifest()))? else {
        // A run of an earlier system has the tree itself, or none.
        return if dir.join(MARKER).exists() { Ok(dir) } else { Err(refuse("it has no snapshot")) };
    };
    // A file of the marker's name that is no marker is the source's own: the tree is there.
    let marker = match read_json::<SnapshotMetadata>(&dir.join(MARKER)) {
        Ok(marker) if marker.tree == Some(TreeState::OnDemand) => marker,
        _ => return Ok(dir),
    };
    let cancel = CancelToken::new().map_err(file_error("make", Path::new("eventfd")))?;
    let snapshots = Snapshots::open(engine, &layout)?;
    let _pin = snapshots.store.pin(&hash, &cancel)?;
    let manifest = snapshots.store.load(&hash)?.ok_or_else(|| refuse("its snapshot is gone"))?;
    let staged = run.dir().join(format!("snapshot.tmp-{}", engine.ids.fresh()));
    let written = write_published_tree(&snapshots.store, &manifest, &marker, &staged, &cancel)
        .map_err(EngineError::Snapshot)
        .and_then(|()| exchange(&staged, &dir).map_err(file_error("replace", &dir)));
    // What is in the staged place now is the marker alone, or a tree that failed.
    let removed = remove_tree(&staged).map_err(file_error("remove", &staged));
    written.and(removed).map(|()| dir)
}

/// Swaps two directories, so that readers always find one.
fn exchange(a: &Path, b: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        // Not every file system can.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            remove_tree(b)?;
            fs::rename(a, b)
        }
        Err(errno) => Err(errno.into()),
    }
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
