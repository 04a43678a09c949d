//! Who works on a run: the lock alone says alive; the file says who it is, or was.

use std::fs;
use std::path::PathBuf;

use jericho_host::lock::FileLock;
use jericho_host::sys::ProcessIdentity;
use serde::{Deserialize, Serialize};

use super::layout::RunLayout;
use super::store::file_error;
use crate::engine::EngineError;
use crate::model::version;

/// `owner.json`: the process that works, or worked, on a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerRecord {
    /// [`version::OWNER`].
    pub schema_version: u32,
    /// Process id, boot and start time.
    #[serde(flatten)]
    pub process: ProcessIdentity,
}

/// The right to write the records of one run. Dropped with the process, however it ends.
#[derive(Debug)]
pub struct Ownership {
    _lock: FileLock,
    path: PathBuf,
}

impl Ownership {
    /// Takes a run that nobody works on; nothing when somebody does.
    ///
    /// # Errors
    /// When the file system has no locks, or the file cannot be made.
    pub fn try_take(run: &RunLayout) -> Result<Option<Self>, EngineError> {
        let path = run.owner();
        let Some(lock) = FileLock::try_exclusive(&path).map_err(EngineError::Lock)? else { return Ok(None) };
        Ok(Some(Self { _lock: lock, path }))
    }

    /// Says who this is. The lock is on this very file, so it is written in place.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn sign(&self, process: ProcessIdentity) -> Result<(), EngineError> {
        let record = OwnerRecord { schema_version: version::OWNER, process };
        let text = serde_json::to_vec_pretty(&record).unwrap_or_default();
        fs::write(&self.path, text).map_err(file_error("write", &self.path))
    }
}

/// Whether an engine works on the run now.
#[must_use]
pub fn is_alive(run: &RunLayout) -> bool {
    // A run without the file was recorded by an earlier system, or never came that far. It is
    // opened for reading only: readers do not write, and may have no right to.
    let Ok(file) = fs::File::open(run.owner()) else { return false };
    matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock))
}
