//! An answer that does not come is given up: what is asked hears a token of its own, which is cancelled when the
//! caller's is, or when the time is over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jericho_host::{CancelReason, CancelToken, HostError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Asks something; nothing when there was no answer within the limit.
pub(super) fn within<T>(
    limit: Duration,
    cancel: &CancelToken,
    ask: impl FnOnce(&CancelToken) -> Result<T, HostError>,
) -> Result<Option<T>, HostError> {
    let token = || CancelToken::new().map_err(|error| HostError::System("cannot make a token", error));
    let (own, done) = (token()?, token()?);
    let late = AtomicBool::new(false);
    let answer = std::thread::scope(|scope| {
        let watch = || watch(limit, cancel, &own, &done, &late);
        let watcher = std::thread::Builder::new().name("answer".to_owned()).spawn_scoped(scope, watch);
        let _done = Done(&done);
        // Without a thread of its own nobody looks at the time.
        if watcher.is_ok() { ask(&own) } else { ask(cancel) }
    });
    match answer {
        Err(HostError::Cancelled(_)) if late.load(Ordering::SeqCst) => Ok(None),
        other => other.map(Some),
    }
}

/// For messages.
pub(super) fn no_answer(limit: Duration) -> String {
    format!("no answer within {} s", limit.as_secs_f32())
}

/// Ends the watcher, also when the question panics.
struct Done<'a>(&'a CancelToken);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.cancel(CancelReason::Requested);
    }
}

fn watch(limit: Duration, cancel: &CancelToken, own: &CancelToken, done: &CancelToken, late: &AtomicBool) {
    let timeout = i64::try_from(limit.as_secs())
        .map(|tv_sec| Timespec { tv_sec, tv_nsec: limit.subsec_nanos().into() });
    let wait = |fd, timeout: Option<&Timespec>| loop {
        let mut fds = [fd, done.fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        // Interrupted it begins anew: then the limit is longer, which nobody minds.
        match poll(&mut fds, timeout) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other,
        }
    };
    let came = wait(cancel.fd(), timeout.as_ref().ok());
    if done.is_cancelled() {
        return;
    }
    if came == Ok(0) {
        late.store(true, Ordering::SeqCst);
        own.cancel(CancelReason::Requested);
        return;
    }
    if let Some(reason) = cancel.reason() {
        own.cancel(reason);
        let _ = wait(cancel.forced_fd(), None);
        if cancel.reason() == Some(CancelReason::Forced) {
            own.cancel(CancelReason::Forced);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers when it is cancelled.
    fn hear(token: &CancelToken) -> Result<(), HostError> {
        let fd = token.fd();
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], None).unwrap();
        Err(HostError::Cancelled(token.reason().unwrap()))
    }

    #[test]
    fn an_answer_is_an_answer_and_none_in_time_is_none() {
        let cancel = CancelToken::new().unwrap();
        assert_eq!(within(Duration::MAX, &cancel, |_| Ok(7)).unwrap(), Some(7));
        assert!(within(Duration::from_millis(1), &cancel, hear).unwrap().is_none());
        let broken = within(Duration::MAX, &cancel, |_| -> Result<(), _> {
            Err(HostError::NotFound { program: "x".into() })
        });
        assert!(matches!(broken, Err(HostError::NotFound { .. })));
    }

    #[test]
    fn who_is_asked_hears_the_callers_token() {
        let cancel = CancelToken::new().unwrap();
        cancel.cancel(CancelReason::Signal);
        let heard = within(Duration::MAX, &cancel, hear);
        assert!(matches!(heard, Err(HostError::Cancelled(CancelReason::Signal))));
    }
}
