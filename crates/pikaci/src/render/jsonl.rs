//! `--output jsonl`: the events of the run, one a line, as they happen.

use std::io;

use jerichoci::model::event::JournalEntry;
use jerichoci::model::record::RunRecord;
use jerichoci::run::report::Reporter;

use super::json::say_message;
use super::{Sink, View, say_warnings};

/// Writes each event when it happens, and flushes it.
pub(crate) struct Jsonl {
    out: Sink,
    err: Sink,
    all: bool,
}

impl Jsonl {
    /// `all` adds the kinds that strict readers do not know.
    pub(crate) fn new(out: Sink, err: Sink, all: bool) -> Self {
        Self { out, err, all }
    }
}

impl Reporter for Jsonl {
    fn report(&mut self, entry: &JournalEntry) -> io::Result<()> {
        if !self.all && !entry.event.is_classic() {
            return Ok(());
        }
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        self.out.write_all(&line)?;
        self.out.flush()
    }
}

impl View for Jsonl {
    fn finish(&mut self, record: &RunRecord, _told: bool) -> io::Result<()> {
        say_warnings(&mut self.err, record, &|_| false);
        say_message(&mut self.err, record);
        Ok(())
    }
}
