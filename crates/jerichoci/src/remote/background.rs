//! Work beside everything else, which is waited for only so long.

use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use jericho_host::{CancelReason, CancelToken};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Work on a thread of its own. Dropped, it is told to end, and waited for.
#[derive(Debug)]
pub(super) struct Background<T> {
    cancel: CancelToken,
    /// Cancelled, what waits for its time begins.
    hurry: CancelToken,
    done: Receiver<T>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Background<T> {
    /// Starts it, with a token that ends it.
    pub(super) fn start(
        name: &str,
        work: impl FnOnce(&CancelToken) -> T + Send + 'static,
    ) -> io::Result<Self> {
        Self::start_after(Duration::ZERO, name, work, |_| {})
    }

    /// The same after a while, or as soon as [`Background::hurry`] is called, with what comes `then`, which nobody waits
    /// for. What is ended before is not begun.
    pub(super) fn start_after(
        pause: Duration,
        name: &str,
        work: impl FnOnce(&CancelToken) -> T + Send + 'static,
        then: impl FnOnce(&CancelToken) + Send + 'static,
    ) -> io::Result<Self> {
        let (cancel, hurry) = (CancelToken::new()?, CancelToken::new()?);
        let (tell, done) = channel();
        let (token, wake) = (cancel.clone(), hurry.clone());
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let mut fds = [&token, &wake].map(|token| PollFd::from_borrowed_fd(token.fd(), PollFlags::IN));
            let pause = Timespec::try_from(pause).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
            // An interruption by a signal makes the pause shorter, which nobody minds.
            let _ = poll(&mut fds, Some(&pause));
            if !token.is_cancelled() {
                // Nobody may want to know any more.
                let _ = tell.send(work(&token));
            }
            if !token.is_cancelled() {
                then(&token);
            }
        })?;
        Ok(Self { cancel, hurry, done, thread: Some(thread) })
    }

    /// Begins what waits for its time.
    pub(super) fn hurry(&self) {
        self.hurry.cancel(CancelReason::Requested);
    }

    /// Ends it when a token is cancelled.
    pub(super) fn heed(&self, cancel: &CancelToken) {
        let own = self.cancel.clone();
        cancel.on_cancel(move |reason| {
            own.cancel(reason);
        });
    }

    /// What came of it, within a time; nothing when it takes longer, and then it is ended.
    pub(super) fn finish(self, within: Duration) -> Option<T> {
        self.hurry();
        self.done.recv_timeout(within).ok()
    }
}

impl<T> Drop for Background<T> {
    fn drop(&mut self) {
        self.cancel.cancel(CancelReason::Requested);
        if let Some(thread) = self.thread.take() {
            // A panic there is not one here.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_it_is_told_before_what_comes_then_has_ended() {
        let then = |cancel: &CancelToken| {
            let _ = poll(&mut [PollFd::from_borrowed_fd(cancel.fd(), PollFlags::IN)], None);
        };
        let work = Background::start_after(Duration::ZERO, "work", |_| "done", then).unwrap();
        // Dropped, it ends the rest.
        assert_eq!(work.finish(Duration::from_secs(60)), Some("done"));
    }
}
