//! The live view: lines on a terminal that are redrawn in place while a run goes on.
//!
//! A thread redraws ten times a second, when there is something new; what is to stay is written
//! above. Nothing is drawn in the first tenth, so a short run never flickers.

mod area;
mod board;
mod last_line;
mod rows;

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use jericho_host::{Clock as _, SystemClock};
use jerichoci::model::record::JobRecord;

use super::announce::Announcer;
use super::paint::Paint;
use area::Area;

/// How often the view is redrawn.
const TICK: Duration = Duration::from_millis(100);

/// A view on the terminal that standard error is.
pub(super) struct Live {
    area: Arc<Mutex<Area>>,
    announcer: Announcer,
    notices: Option<Sender<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Live {
    /// Of a run of so many jobs, when that is known. Lines of the announcer go above it until it
    /// is dropped.
    pub(super) fn start(announcer: Announcer, paint: Paint, total: Option<usize>) -> Self {
        let area = Arc::new(Mutex::new(Area::new(SystemClock.monotonic(), paint, total)));
        let (notices, incoming) = channel::<String>();
        let shared = Arc::clone(&area);
        // Without a thread the lines above are all there is to see.
        let thread = std::thread::Builder::new().name("live".to_owned()).spawn(move || {
            loop {
                match incoming.recv_timeout(TICK) {
                    Ok(line) => {
                        let mut area = lock(&shared);
                        area.board().end_was_asked_for();
                        area.above(SystemClock.monotonic(), || super::report::note(&line));
                    }
                    Err(RecvTimeoutError::Timeout) => lock(&shared).redraw(SystemClock.monotonic()),
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        });
        announcer.attach(notices.clone());
        Self { area, announcer, notices: Some(notices), thread: thread.ok() }
    }

    pub(super) fn job_started(&self, job: &JobRecord) {
        lock(&self.area).board().job_started(job, SystemClock.monotonic());
    }

    pub(super) fn job_again(&self, job_id: &str, attempt: u32) {
        lock(&self.area).board().job_again(job_id, attempt, SystemClock.monotonic());
    }

    pub(super) fn job_ended(&self, job: &JobRecord) {
        lock(&self.area).board().job_ended(job);
    }

    pub(super) fn prepare_started(&self, node: &str) {
        lock(&self.area).board().prepare_started(node, SystemClock.monotonic());
    }

    pub(super) fn prepare_ended(&self, node: &str) {
        lock(&self.area).board().ended(node);
    }

    /// Writes what is to stay, above the view.
    pub(super) fn above<T>(&self, write: impl FnOnce() -> T) -> T {
        lock(&self.area).above(SystemClock.monotonic(), write)
    }

    /// Takes the view away.
    pub(super) fn end(&mut self) {
        self.announcer.detach();
        self.notices = None;
        if let Some(thread) = self.thread.take() {
            // A panic there changes nothing here.
            let _ = thread.join();
        }
        lock(&self.area).clear();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.end();
    }
}

/// What is shown is for the eye alone: a panic in between changes nothing that matters.
fn lock(area: &Mutex<Area>) -> MutexGuard<'_, Area> {
    area.lock().unwrap_or_else(PoisonError::into_inner)
}
