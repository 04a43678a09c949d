//! Work beside everything else, which is waited for only so long.

use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use jericho_host::{CancelReason, CancelToken};

/// Work on a thread of its own. Dropped, it is told to end, and waited for.
#[derive(Debug)]
pub(super) struct Background<T> {
    cancel: CancelToken,
    done: Receiver<T>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Background<T> {
    /// Starts it, with a token that ends it.
    pub(super) fn start(
        name: &str,
        work: impl FnOnce(&CancelToken) -> T + Send + 'static,
    ) -> io::Result<Self> {
        let cancel = CancelToken::new()?;
        let (tell, done) = channel();
        let token = cancel.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Nobody may want to know any more.
            let _ = tell.send(work(&token));
        })?;
        Ok(Self { cancel, done, thread: Some(thread) })
    }

    /// What came of it, within a time; nothing when it takes longer, and then it is ended.
    pub(super) fn finish(self, within: Duration) -> Option<T> {
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
