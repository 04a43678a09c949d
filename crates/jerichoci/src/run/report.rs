//! Who is told what happens.

use std::io;
use std::sync::Arc;

use super::watch::OutputWatch;
use crate::model::event::JournalEntry;

/// Is told every event, after it was stored. A failing reporter cancels the run in good order;
/// it never loses records.
pub trait Reporter: Send {
    /// Takes one event.
    ///
    /// # Errors
    /// Anything: the run is cancelled, and this reporter is not called again.
    fn report(&mut self, entry: &JournalEntry) -> io::Result<()>;

    /// Who is shown the output of jobs while they run; asked once, at the start of the run.
    fn watch(&self) -> Option<Arc<dyn OutputWatch>> {
        None
    }
}

/// A reporter that is not interested.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoReporter;

impl Reporter for NoReporter {
    fn report(&mut self, _entry: &JournalEntry) -> io::Result<()> {
        Ok(())
    }
}

impl<F: FnMut(&JournalEntry) -> io::Result<()> + Send> Reporter for F {
    fn report(&mut self, entry: &JournalEntry) -> io::Result<()> {
        self(entry)
    }
}
