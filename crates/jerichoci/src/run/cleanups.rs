//! What jobs that have ended had left to do, in the background of their run.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use jericho_host::{CancelReason, CancelToken};

use super::dispatch::Message;
use crate::executor::after::{Cleaned, Cleanup, Fate};

/// The clean-ups of one run.
#[derive(Debug)]
pub(super) struct Cleanups {
    begun: AtomicUsize,
    /// Absent where there are no descriptors left: then nothing can be hurried.
    hurry: Option<CancelToken>,
}

impl Cleanups {
    pub(super) fn new() -> Self {
        Self { begun: AtomicUsize::new(0), hurry: CancelToken::new().ok() }
    }

    /// How many will tell how they ended. That of a job has begun before the job is told.
    pub(super) fn begun(&self) -> usize {
        self.begun.load(Ordering::Acquire)
    }

    /// They have had their time.
    pub(super) fn hurry(&self) {
        if let Some(token) = &self.hurry {
            token.cancel(CancelReason::Requested);
        }
    }

    /// Does one at once.
    pub(super) fn now(&self, cleanup: Cleanup, fate: Fate) -> Cleaned {
        self.hurry.as_ref().map_or_else(without_descriptors, |token| cleanup.carry_out(fate, token))
    }

    /// Does one in the background, and tells how it ended.
    pub(super) fn begin(&self, cleanup: Cleanup, job: Option<usize>, tell: Sender<Message>) {
        self.begun.fetch_add(1, Ordering::AcqRel);
        let done = move |cleaned| drop(tell.send(Message::CleanedUp { job, cleaned }));
        let Some(token) = self.hurry.clone() else { return done(without_descriptors()) };
        let failed = done.clone();
        let thread = std::thread::Builder::new().name("clean-up".to_owned());
        if let Err(error) = thread.spawn(move || done(cleanup.carry_out(Fate::Remove, &token))) {
            let warnings = vec![format!("no thread to clean up: {error}")];
            failed(Cleaned { warnings, ..Cleaned::default() });
        }
    }
}

fn without_descriptors() -> Cleaned {
    let warnings = vec!["no descriptors left to clean up with".to_owned()];
    Cleaned { warnings, ..Cleaned::default() }
}
