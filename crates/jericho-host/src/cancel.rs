//! One cancel token: the only thing that travels against the flow.
//!
//! A token is shared by everything that belongs to one piece of work. It is cancelled with a
//! [`CancelReason`]; a later, stronger reason replaces a weaker one, never the other way round.
//! Waiting is by file descriptor ([`CancelToken::fd`]) or by callback, never by polling.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

/// Why work is ended early. Ordered: a later one outweighs an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CancelReason {
    /// A sibling failed and the run is fail-fast.
    SiblingFailed,
    /// Nobody listens any more: standard output was closed, or a reporter failed.
    ReporterFailed,
    /// The records can no longer be written, for example on a full disk.
    RecordsFailed,
    /// Somebody asked for it from outside (`pikaci cancel`).
    Requested,
    /// SIGINT or SIGTERM, the first one.
    Signal,
    /// The second signal: end at once, without grace.
    Forced,
}

impl fmt::Display for CancelReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SiblingFailed => "another job failed",
            Self::ReporterFailed => "the output was closed",
            Self::RecordsFailed => "the records could not be written",
            Self::Requested => "cancel was requested",
            Self::Signal => "a signal asked to end",
            Self::Forced => "a second signal asked to end at once",
        })
    }
}

type Callback = Box<dyn Fn(CancelReason) + Send>;

struct Inner {
    state: Mutex<State>,
    cancelled: OwnedFd,
    forced: OwnedFd,
}

#[derive(Default)]
struct State {
    reason: Option<CancelReason>,
    callbacks: Vec<Callback>,
}

/// A handle to one cancellation; clones are the same token.
#[derive(Clone)]
pub struct CancelToken(Arc<Inner>);

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CancelToken").field(&self.reason()).finish()
    }
}

impl CancelToken {
    /// A token that nobody cancelled yet.
    ///
    /// # Errors
    /// When the process has no file descriptors left.
    pub fn new() -> std::io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self(Arc::new(Inner {
            state: Mutex::default(),
            cancelled: eventfd(0, flags)?,
            forced: eventfd(0, flags)?,
        })))
    }

    /// Cancels, or strengthens an earlier cancellation. Returns whether this changed the reason.
    pub fn cancel(&self, reason: CancelReason) -> bool {
        // A panicking callback must not make the token unusable: the state itself is one word.
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.reason.is_some_and(|known| known >= reason) {
            return false;
        }
        state.reason = Some(reason);
        // Never read, so these stay readable for every waiter. Adding 1 to an eventfd fails
        // only at its maximum, which a handful of reasons cannot reach.
        let one = 1u64.to_ne_bytes();
        let _ = rustix::io::write(&self.0.cancelled, &one);
        if reason == CancelReason::Forced {
            let _ = rustix::io::write(&self.0.forced, &one);
        }
        for callback in &state.callbacks {
            callback(reason);
        }
        true
    }

    /// The strongest reason so far.
    #[must_use]
    pub fn reason(&self) -> Option<CancelReason> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).reason
    }

    /// Whether anybody cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.reason().is_some()
    }

    /// Readable once cancelled, and for ever after. Do not read from it.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.cancelled.as_fd()
    }

    /// Readable once [`CancelReason::Forced`]. Do not read from it.
    #[must_use]
    pub fn forced_fd(&self) -> BorrowedFd<'_> {
        self.0.forced.as_fd()
    }

    /// Calls `callback` at every change of the reason; at once when there is one already.
    /// It runs on the cancelling thread with the token locked: send a message, do no work, and
    /// do not touch the token.
    pub fn on_cancel(&self, callback: impl Fn(CancelReason) + Send + 'static) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = state.reason {
            callback(reason);
        }
        state.callbacks.push(Box::new(callback));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readable(fd: BorrowedFd<'_>) -> bool {
        let mut fds = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    }

    #[test]
    fn a_stronger_reason_replaces_a_weaker_one_and_never_the_reverse() {
        let token = CancelToken::new().unwrap();
        assert!(!readable(token.fd()));
        assert!(token.cancel(CancelReason::Signal));
        assert!(!token.cancel(CancelReason::SiblingFailed));
        assert_eq!(token.reason(), Some(CancelReason::Signal));
        assert!(readable(token.fd()) && !readable(token.forced_fd()));
        assert!(token.clone().cancel(CancelReason::Forced));
        assert!(readable(token.fd()) && readable(token.forced_fd()));
    }

    #[test]
    fn a_late_callback_hears_the_reason_at_once() {
        let token = CancelToken::new().unwrap();
        token.cancel(CancelReason::Requested);
        let (tx, rx) = std::sync::mpsc::channel();
        token.on_cancel(move |reason| tx.send(reason).unwrap());
        assert_eq!(rx.try_recv(), Ok(CancelReason::Requested));
        token.cancel(CancelReason::Forced);
        assert_eq!(rx.try_recv(), Ok(CancelReason::Forced));
    }
}
