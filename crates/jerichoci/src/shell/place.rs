//! What a shell stands on: the snapshot of its run, and a directory that goes with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jericho_host::lock::FileLock;
use jericho_host::{CancelToken, Host as _, LocalHost};

use super::Shell;
use super::workspace::GRACE;
use crate::engine::EngineError;
use crate::executor::process::JOB_TAG;
use crate::executor::workspace::RunSource;
use crate::lock;
use crate::model::id::RunId;
use crate::run::layout::Layout;
use crate::run::read::load_run_record;
use crate::run::snapshots::{RunSnapshot, Snapshots, SourceOf};
use crate::run::store::{file_error, refuse_links};

/// In each of them, held while its shell is open.
const LOCK: &str = "lock";

/// What the name of one ends with that is being removed.
const GONE: &str = ".gone";

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
    let lock = layout.shells().join(id.as_str()).join(LOCK);
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
        refuse_links(layout)?;
        let path = layout.shells().join(id.as_str());
        let lock = path.join(LOCK);
        let held = loop {
            std::fs::create_dir_all(&path).map_err(file_error("make", &path))?;
            match FileLock::exclusive_blocking(&lock) {
                // A sweep that was faster has removed the directory, and with it this file.
                Ok(held) if lock::is_at(&held, &lock) => break held,
                Err(error) if path.exists() => return Err(error.into()),
                _ => {}
            }
        };
        sweep_behind(layout);
        Ok(Self { path, _lock: held })
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = jericho_host::fs::remove_tree(&aside(&self.path));
    }
}

/// Ends what shells have left that were killed, and removes it until the token is cancelled. What is not removed is tried
/// again by the next.
pub(crate) fn sweep(layout: &Layout, cancel: &CancelToken) {
    for dir in left(layout) {
        if cancel.is_cancelled() {
            break;
        }
        let _ = jericho_host::fs::remove_tree(&dir);
    }
}

/// The same for who has something else to do: many gigabytes may lie there.
pub(crate) fn sweep_behind(layout: &Layout) {
    let left = left(layout);
    if left.is_empty() {
        return;
    }
    // Without a thread the next one does it.
    let _ = std::thread::Builder::new().name("sweeper".to_owned()).spawn(move || {
        for dir in left {
            let _ = jericho_host::fs::remove_tree(&dir);
        }
    });
}

/// Ends what shells have left that were killed, and says what is to be removed of it: nobody takes it for theirs.
fn left(layout: &Layout) -> Vec<PathBuf> {
    let mut left = Vec::new();
    for entry in std::fs::read_dir(layout.shells()).into_iter().flatten().flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let Some(name) = name.to_str() else { continue };
        if name.strip_suffix(GONE).is_some_and(|id| id.parse::<RunId>().is_ok()) {
            left.push(path);
            continue;
        }
        let lock = path.join(LOCK);
        // One that is just being made has no lock yet.
        if let (Ok(id), true) = (name.parse::<RunId>(), lock.exists())
            && let Ok(Some(held)) = FileLock::try_exclusive(&lock)
            && lock::is_at(&held, &lock)
        {
            let _ = LocalHost::new().end_tagged(JOB_TAG, &format!("{id}/"), GRACE);
            left.push(aside(&path));
        }
    }
    left
}

/// Gives a directory, whose lock is held, a name that says that it is to go: one that is removed in part may have lost its
/// lock.
fn aside(path: &Path) -> PathBuf {
    let mut gone = path.as_os_str().to_owned();
    gone.push(GONE);
    match std::fs::rename(path, &gone) {
        Ok(()) => gone.into(),
        Err(_) => path.to_path_buf(),
    }
}
