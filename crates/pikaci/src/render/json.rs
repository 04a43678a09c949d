//! `--output json`: the run record after the end of the run, pretty.

use std::io;

use jerichoci::model::event::JournalEntry;
use jerichoci::model::record::RunRecord;
use jerichoci::run::report::Reporter;

use super::{Sink, View, say_warnings};
use crate::output::note_to;

/// Says nothing until the end.
pub(crate) struct Json {
    out: Sink,
    err: Sink,
}

impl Json {
    pub(crate) fn new(out: Sink, err: Sink) -> Self {
        Self { out, err }
    }
}

impl Reporter for Json {
    fn report(&mut self, _entry: &JournalEntry) -> io::Result<()> {
        Ok(())
    }
}

impl View for Json {
    fn finish(&mut self, record: &RunRecord, told: bool) -> io::Result<()> {
        say_warnings(&mut self.err, record, &|_| false);
        say_message(&mut self.err, record);
        if !told {
            return Ok(());
        }
        let mut text = serde_json::to_vec_pretty(record)?;
        text.push(b'\n');
        self.out.write_all(&text)?;
        self.out.flush()
    }
}

/// The message of a run on standard error, for the outputs that people do not read.
pub(super) fn say_message(err: &mut Sink, record: &RunRecord) {
    if let Some(message) = &record.message {
        note_to(err, format_args!("{}: {}: {message}", record.run_id, record.verdict.word()));
    }
}
