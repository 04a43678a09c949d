//! A token that is cancelled by itself after a while.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use jericho_host::{CancelReason, CancelToken};

/// A token with a limit. The limit ends with it.
pub(crate) struct Limited {
    token: CancelToken,
    passed: Arc<AtomicBool>,
    end: Sender<Duration>,
}

impl Limited {
    /// Cancelled after `limit`.
    pub(crate) fn of(limit: Duration) -> io::Result<Self> {
        let token = CancelToken::new()?;
        let passed = Arc::new(AtomicBool::new(false));
        let (end, ended) = channel::<Duration>();
        let (theirs, flag) = (token.clone(), Arc::clone(&passed));
        std::thread::Builder::new().name("limit".to_owned()).spawn(move || {
            let mut limit = limit;
            loop {
                match ended.recv_timeout(limit) {
                    Ok(another) => limit = another,
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => break,
                }
            }
            flag.store(true, Ordering::SeqCst);
            theirs.cancel(CancelReason::Requested);
        })?;
        Ok(Self { token, passed, end })
    }

    /// Cancelled after `limit`, and with `outer`.
    pub(crate) fn within(limit: Duration, outer: &CancelToken) -> io::Result<Self> {
        let this = Self::of(limit)?;
        let token = this.token.clone();
        outer.on_cancel(move |reason| _ = token.cancel(reason));
        Ok(this)
    }

    /// Cancelled when `outer` is forced, too.
    pub(crate) fn hears_force(&self, outer: &CancelToken) {
        let token = self.token.clone();
        outer.on_cancel(move |reason| {
            if reason == CancelReason::Forced {
                token.cancel(reason);
            }
        });
    }

    /// What, when it is called, puts this limit in the place of the one so far.
    pub(crate) fn renewal(&self, limit: Duration) -> impl FnOnce() + 'static {
        let end = self.end.clone();
        // One that has passed cannot be renewed.
        move || _ = end.send(limit)
    }

    pub(crate) fn token(&self) -> &CancelToken {
        &self.token
    }

    /// Whether the limit is what has cancelled it.
    pub(crate) fn has_passed(&self) -> bool {
        self.passed.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_and_an_outer_token_both_cancel() {
        let outer = CancelToken::new().unwrap();
        let limited = Limited::within(Duration::MAX, &outer).unwrap();
        outer.cancel(CancelReason::Signal);
        assert_eq!((limited.token().reason(), limited.has_passed()), (Some(CancelReason::Signal), false));
        let limited = Limited::of(Duration::ZERO).unwrap();
        let (tell, told) = channel();
        limited.token().on_cancel(move |reason| tell.send(reason).unwrap());
        assert_eq!(told.recv(), Ok(CancelReason::Requested));
        assert!(limited.has_passed());
    }
}
