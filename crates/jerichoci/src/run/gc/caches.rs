//! The caches of a state root: which there are, when each was last used, and whether one is in use.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jericho_host::lock::FileLock;

use super::usage::disk_usage;
use crate::causes::with_causes;
use crate::executor::workspace::CACHE_LOCK;
use crate::run::layout::Layout;

/// One cache, which goes as a whole.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    pub(super) dir: PathBuf,
    /// Locked by whoever uses it.
    lock: PathBuf,
    /// Of the file that is written at a use.
    pub(super) used: SystemTime,
}

/// All caches that are worth collecting. Without a sign of use a directory is not one, or is
/// just being made.
pub(super) fn all(layout: &Layout) -> Vec<Cache> {
    let mut caches = Vec::new();
    let mut add = |dir: PathBuf, lock: PathBuf, used: PathBuf| {
        if let Ok(used) = fs::metadata(used).and_then(|meta| meta.modified()) {
            caches.push(Cache { dir, lock, used });
        }
    };
    for slot in subdirectories(&layout.trees()) {
        // Its last user wrote the state when it let go.
        add(slot.clone(), slot.join("lock"), slot.join("state"));
    }
    let jobs = subdirectories(&layout.host_local()).into_iter().flat_map(|scope| subdirectories(&scope));
    let named = subdirectories(&layout.named_caches());
    let shells = subdirectories(&layout.dev_env());
    for dir in jobs.chain(named).chain(shells) {
        add(dir.clone(), dir.join(CACHE_LOCK), dir.join(CACHE_LOCK));
    }
    if layout.cargo_home().is_dir() {
        add(layout.cargo_home(), layout.cargo_home_lock(), layout.cargo_home_lock());
    }
    caches
}

impl Cache {
    /// Removes it, or says what that would free. Nothing when somebody uses it.
    pub(super) fn remove(&self, dry_run: bool) -> Result<Option<u64>, String> {
        let lock = match FileLock::try_exclusive(&self.lock) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Ok(None),
            // Somebody else collects at the same time.
            Err(_) if !self.dir.exists() => return Ok(None),
            Err(error) => return Err(with_causes(&error)),
        };
        let bytes = disk_usage(&self.dir);
        if !dry_run {
            jericho_host::fs::remove_tree(&self.dir)
                .map_err(|error| format!("{}: {error}", self.dir.display()))?;
        }
        drop(lock);
        Ok(Some(bytes))
    }
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
