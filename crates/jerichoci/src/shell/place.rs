//! What a shell stands on: the snapshot of its run, and a directory that goes with it.

use std::path::PathBuf;
use std::sync::Arc;

use jericho_host::lock::FileLock;
use jericho_host::{Host as _, LocalHost};

use super::Shell;
use super::workspace::GRACE;
use crate::engine::EngineError;
use crate::executor::process::JOB_TAG;
use crate::executor::workspace::RunSource;
use crate::model::id::RunId;
use crate::run::layout::Layout;
use crate::run::read::load_run_record;
use crate::run::snapshots::{RunSnapshot, Snapshots, SourceOf};
use crate::run::store::file_error;

/// Below the state root: the directories of shells.
const SHELLS: &str = "shells";

/// In each of them, held while its shell is open.
const LOCK: &str = "lock";

/// The snapshot of the run, held for as long as the first of the two.
pub(super) fn source(shell: &Shell<'_>) -> Result<(RunSnapshot, RunSource), EngineError> {
    let (engine, layout, run_id) = (shell.engine, shell.layout(), &shell.request.run_id);
    let refuse = |why: String| EngineError::NotRepeatable { run_id: run_id.to_string(), why };
    let record = load_run_record(layout.root(), run_id)?;
    let hash = record.snapshot_hash.ok_or_else(|| refuse("it has no snapshot".to_owned()))?;
    let snapshots = Snapshots::open(engine, &layout)?;
    let snapshot = snapshots
        .get(SourceOf::Recorded(&hash), shell.cancel)
        .map_err(|why| shell.cancelled().unwrap_or_else(|| refuse(why)))?;
    let source = RunSource::new(
        snapshots.store(),
        Arc::clone(&snapshot.manifest),
        snapshot.hash.clone(),
        layout.trees(),
        layout.cargo_home(),
        record.source_root,
        Arc::clone(&engine.host),
    )
    .on_commit(record.git_head, None);
    Ok((snapshot, source))
}

/// Whether the directory of a shell is there, and its shell is open.
pub(crate) fn is_open(layout: &Layout, id: &RunId) -> bool {
    let lock = layout.root().join(SHELLS).join(id.as_str()).join(LOCK);
    // What cannot be looked at is left alone.
    lock.try_exists().unwrap_or(true) && !matches!(FileLock::try_exclusive(&lock), Ok(Some(_)))
}

/// A directory that goes when this does; what a shell has left that was killed goes with the next one.
pub(super) struct Dir {
    pub(super) path: PathBuf,
    _lock: FileLock,
}

impl Dir {
    pub(super) fn make(layout: &Layout, id: &RunId) -> Result<Self, EngineError> {
        let shells = layout.root().join(SHELLS);
        let path = shells.join(id.as_str());
        std::fs::create_dir_all(&path).map_err(file_error("make", &path))?;
        let lock = FileLock::exclusive_blocking(&path.join(LOCK))?;
        sweep(layout);
        Ok(Self { path, _lock: lock })
    }
}

/// Ends and removes what shells have left that were killed. What cannot be removed is tried again by the next.
pub(crate) fn sweep(layout: &Layout) {
    for other in std::fs::read_dir(layout.root().join(SHELLS)).into_iter().flatten().flatten() {
        let id = other.file_name().to_str().and_then(|name| name.parse::<RunId>().ok());
        let other = other.path();
        // One that is just being made has no lock yet.
        let made = other.join(LOCK).exists();
        if let (Some(id), true) = (id, made)
            && let Ok(Some(_lock)) = FileLock::try_exclusive(&other.join(LOCK))
        {
            let _ = LocalHost::new().end_tagged(JOB_TAG, &format!("{id}/"), GRACE);
            let _ = jericho_host::fs::remove_tree(&other);
        }
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = jericho_host::fs::remove_tree(&self.path);
    }
}
