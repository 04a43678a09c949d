//! Waiting for a file lock in a way that can be given up.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use jericho_host::lock::{FileLock, LockError};
use jericho_host::{CancelReason, CancelToken};
use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WaitError {
    /// It cannot be had at all.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The caller's token was cancelled.
    #[error("cancelled: {0}")]
    Cancelled(CancelReason),
    /// It took too long.
    #[error("it was not free within {} s", .0.as_secs())]
    TooLong(Duration),
    /// The waiting thread panicked: a defect of this program.
    #[error("internal error: the thread that waits for a lock panicked")]
    Panicked,
}

/// Waits until nobody holds it exclusively.
pub(crate) fn shared(path: &Path, cancel: &CancelToken) -> Result<FileLock, WaitError> {
    match FileLock::try_shared(path)? {
        Some(lock) => Ok(lock),
        None => wait(path, FileLock::shared_blocking, Duration::MAX, cancel),
    }
}

/// Waits until nobody else holds it.
pub(crate) fn exclusive(path: &Path, cancel: &CancelToken) -> Result<FileLock, WaitError> {
    match FileLock::try_exclusive(path)? {
        Some(lock) => Ok(lock),
        None => wait(path, FileLock::exclusive_blocking, Duration::MAX, cancel),
    }
}

/// Waits until nobody holds it exclusively, or nobody else at all, for at most `limit`.
pub(crate) fn within(
    path: &Path,
    shared: bool,
    limit: Duration,
    cancel: &CancelToken,
) -> Result<FileLock, WaitError> {
    let lock = if shared { FileLock::shared_blocking } else { FileLock::exclusive_blocking };
    wait(path, lock, limit, cancel)
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

enum Heard {
    Locked(Result<FileLock, LockError>),
    Cancelled(CancelReason),
}

/// The kernel cannot be asked for "this lock or that event", so a thread blocks in it. Given up,
/// it still waits; the lock it gets is released at once.
fn wait(
    path: &Path,
    lock: impl Fn(&Path) -> Result<FileLock, LockError> + Send + 'static,
    limit: Duration,
    cancel: &CancelToken,
) -> Result<FileLock, WaitError> {
    let (tell, heard) = mpsc::channel();
    let told = tell.clone();
    cancel.on_cancel(move |reason| drop(told.send(Heard::Cancelled(reason))));
    let path = path.to_path_buf();
    std::thread::spawn(move || drop(tell.send(Heard::Locked(lock(&path)))));
    match heard.recv_timeout(limit) {
        Ok(Heard::Locked(locked)) => Ok(locked?),
        Ok(Heard::Cancelled(reason)) => Err(WaitError::Cancelled(reason)),
        Err(mpsc::RecvTimeoutError::Timeout) => Err(WaitError::TooLong(limit)),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(WaitError::Panicked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_a_lock_is_given_up_on_cancel_and_goes_on_until_then() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = FileLock::try_exclusive(&path).unwrap().unwrap();
        let cancel = CancelToken::new().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| within(&path, false, Duration::MAX, &cancel));
            cancel.cancel(CancelReason::Requested);
            let error = waiting.join().unwrap().unwrap_err();
            assert!(matches!(error, WaitError::Cancelled(CancelReason::Requested)), "{error}");
        });
        let other = CancelToken::new().unwrap();
        let error = within(&path, false, Duration::from_millis(10), &other).unwrap_err();
        assert!(matches!(error, WaitError::TooLong(_)), "{error}");
        held.sign("job `a` of run r");
        assert_eq!(jericho_host::lock::holder(&path).as_deref(), Some("job `a` of run r"));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| within(&path, false, Duration::MAX, &other));
            drop(held);
            waiting.join().unwrap().unwrap();
        });
    }
}
