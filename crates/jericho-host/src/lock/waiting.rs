//! Waiting for a lock in a way that can be given up.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use super::{FileLock, LockError};
use crate::cancel::{CancelReason, CancelToken};

/// Why waiting for a lock has ended without one.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
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

enum Heard {
    Locked(Result<FileLock, LockError>),
    Cancelled(CancelReason),
}

/// Waits until nobody holds it exclusively, or, when it is not to be shared, nobody else at all; for at most `limit`.
///
/// The kernel cannot be asked for "this lock or that event", so a thread blocks in it. Given up,
/// it still waits; the lock it gets is released at once.
///
/// # Errors
/// [`WaitError`].
pub fn within(
    path: &Path,
    shared: bool,
    limit: Duration,
    cancel: &CancelToken,
) -> Result<FileLock, WaitError> {
    let lock = if shared { FileLock::shared_blocking } else { FileLock::exclusive_blocking };
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
        assert_eq!(super::super::holder(&path).as_deref(), Some("job `a` of run r"));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| within(&path, false, Duration::MAX, &other));
            drop(held);
            waiting.join().unwrap().unwrap();
        });
    }
}
