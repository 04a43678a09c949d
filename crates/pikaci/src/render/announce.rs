//! Lines for people from a thread that must never wait, such as the one that hears signals.

use std::io::Write as _;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Says lines above the live view when there is one, else on standard error.
#[derive(Debug, Clone, Default)]
pub(crate) struct Announcer(Arc<Mutex<Option<Sender<String>>>>);

impl Announcer {
    /// From now on lines go to the live view at the other end.
    pub(super) fn attach(&self, live: Sender<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(live);
    }

    /// From now on lines go to standard error.
    pub(super) fn detach(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Says one line. Where nobody reads it is dropped.
    pub(crate) fn say(&self, line: &str) {
        let live = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if live.as_ref().is_some_and(|live| live.send(line.to_owned()).is_ok()) {
            return;
        }
        let stderr = std::io::stderr();
        let mut ready = [PollFd::new(&stderr, PollFlags::OUT)];
        // A pipe that is ready takes a page without waiting.
        if poll(&mut ready, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|count| count > 0) {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }
}
