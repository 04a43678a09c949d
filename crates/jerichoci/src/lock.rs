//! Waiting for a file lock in a way that can be given up.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use jericho_host::CancelToken;
use jericho_host::lock::FileLock;
pub(crate) use jericho_host::lock::{WaitError, within};
use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};

/// Waits until nobody holds it exclusively.
pub(crate) fn shared(path: &Path, cancel: &CancelToken) -> Result<FileLock, WaitError> {
    match FileLock::try_shared(path)? {
        Some(lock) => Ok(lock),
        None => within(path, true, Duration::MAX, cancel),
    }
}

/// Waits until nobody else holds it.
pub(crate) fn exclusive(path: &Path, cancel: &CancelToken) -> Result<FileLock, WaitError> {
    match FileLock::try_exclusive(path)? {
        Some(lock) => Ok(lock),
        None => within(path, false, Duration::MAX, cancel),
    }
}

/// Whether a lock is on the file that has this name now.
pub(crate) fn is_at(lock: &FileLock, path: &Path) -> bool {
    let (Ok(held), Ok(named)) = (lock.file().metadata(), std::fs::metadata(path)) else { return false };
    (named.dev(), named.ino()) == (held.dev(), held.ino())
}

/// Notes in a locked file that it is in use now.
pub(crate) fn touch(lock: &FileLock) -> std::io::Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    Ok(futimens(lock.file(), &Timestamps { last_access: now, last_modification: now })?)
}
