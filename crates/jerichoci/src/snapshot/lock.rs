//! Waiting for a file lock in a way that can be given up.

use std::path::Path;
use std::sync::mpsc;

use jericho_host::lock::{FileLock, LockError};
use jericho_host::{CancelReason, CancelToken};

use super::error::SnapshotError;

/// Waits until nobody holds it exclusively.
pub(crate) fn shared(path: &Path, cancel: &CancelToken) -> Result<FileLock, SnapshotError> {
    match FileLock::try_shared(path)? {
        Some(lock) => Ok(lock),
        None => wait(path, FileLock::shared_blocking, cancel),
    }
}

/// Waits until nobody else holds it.
pub(crate) fn exclusive(path: &Path, cancel: &CancelToken) -> Result<FileLock, SnapshotError> {
    match FileLock::try_exclusive(path)? {
        Some(lock) => Ok(lock),
        None => wait(path, FileLock::exclusive_blocking, cancel),
    }
}

enum Heard {
    Locked(Result<FileLock, LockError>),
    Cancelled(CancelReason),
}

/// The kernel cannot be asked for "this lock or that event", so a thread blocks in it. Given up,
/// it still waits; the lock it gets is released at once.
fn wait(
    path: &Path,
    lock: impl Fn(&Path) -> Result<FileLock, LockError> + Send + 'static,
    cancel: &CancelToken,
) -> Result<FileLock, SnapshotError> {
    let (tell, heard) = mpsc::channel();
    let told = tell.clone();
    cancel.on_cancel(move |reason| drop(told.send(Heard::Cancelled(reason))));
    let path = path.to_path_buf();
    std::thread::spawn(move || drop(tell.send(Heard::Locked(lock(&path)))));
    match heard.recv() {
        Ok(Heard::Locked(locked)) => Ok(locked?),
        Ok(Heard::Cancelled(reason)) => Err(SnapshotError::Cancelled(reason)),
        Err(mpsc::RecvError) => Err(SnapshotError::Panicked),
    }
}
