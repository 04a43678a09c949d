//! Who works on a run: the lock alone says alive; the file says who it is, or was.

use std::fs::{self, File, TryLockError};
use std::io;
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
    /// Takes a run that was just made and says who this is. The file gets its name when it is
    /// locked and signed: whoever finds it finds it held.
    ///
    /// # Errors
    /// When the file system has no locks, or the file cannot be made.
    pub(crate) fn take_new(run: &RunLayout, process: ProcessIdentity) -> Result<Self, EngineError> {
        let path = run.owner();
        let unnamed = path.with_extension("json.tmp");
        let lock = FileLock::exclusive_blocking(&unnamed)?;
        let mut this = Self { _lock: lock, path: unnamed.clone() };
        this.sign(process)?;
        fs::rename(&unnamed, &path).map_err(file_error("make", &path))?;
        this.path = path;
        Ok(this)
    }

    /// Takes a run that nobody works on; nothing when somebody does.
    ///
    /// # Errors
    /// When the file system has no locks, or the file cannot be made.
    pub fn try_take(run: &RunLayout) -> Result<Option<Self>, EngineError> {
        let path = run.owner();
        let Some(lock) = FileLock::try_exclusive(&path)? else { return Ok(None) };
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

/// Whether an engine works on the run. Only looks: nothing is made or written, so it can be
/// asked about a state root of somebody else.
///
/// An engine holds the lock exclusively from before its first record until after its last. While
/// this looks it holds the lock shared for a moment, so whoever wants it exclusively waits for it
/// or tries again. What cannot be found out counts as alive: a run is never condemned by mistake.
#[must_use]
pub fn is_alive(run: &RunLayout) -> bool {
    let file = match File::open(run.owner()) {
        Ok(file) => file,
        Err(error) => return error.kind() != io::ErrorKind::NotFound,
    };
    loop {
        match file.try_lock_shared() {
            Ok(()) => return false,
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return true,
        }
    }
}
