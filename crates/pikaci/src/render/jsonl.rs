//! `--output jsonl`: events, one a line, as they happen.

use std::io::{self, Write};

use jerichoci::Reporter;
use jerichoci::model::event::JournalEntry;

/// Prints the four kinds of events that every reader knows, or all.
pub(super) struct Jsonl<W> {
    out: W,
    all: bool,
}

impl<W: Write + Send> Jsonl<W> {
    pub(super) const fn new(out: W, all: bool) -> Self {
        Self { out, all }
    }
}

impl<W: Write + Send> Reporter for Jsonl<W> {
    fn report(&mut self, entry: &JournalEntry) -> io::Result<()> {
        if !self.all && !entry.event.is_classic() {
            return Ok(());
        }
        // One write a line: a reader never waits in the middle of one.
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        self.out.write_all(&line)?;
        self.out.flush()
    }
}
