//! Remembers what a reporter could say, so that the end of a run can say the rest.

use std::collections::HashSet;
use std::io::{self, Write};

use jerichoci::model::event::{JournalEntry, RunLifecycleEvent};
use jerichoci::model::outcome::Verdict;
use jerichoci::model::record::RunRecord;
use jerichoci::{NoReporter, Reporter};

use super::report::Format;
use super::text::printable;

/// A reporter, and what became of it.
pub(crate) struct Watched<'a> {
    reporter: Box<dyn Reporter + 'a>,
    format: Format,
    /// Warnings that people have been told.
    told: HashSet<String>,
    lost: Option<String>,
}

impl<'a> Watched<'a> {
    pub(crate) fn new(format: Format, reporter: Box<dyn Reporter + 'a>) -> Self {
        Self { reporter, format, told: HashSet::new(), lost: None }
    }

    /// Why standard output took no more; nothing when it took everything.
    pub(crate) fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// Tells people what the record says and they do not know yet: warnings in every form of
    /// output, and how the run ended where nothing else says so.
    pub(crate) fn say_rest(&self, err: &mut dyn Write, record: &RunRecord) {
        if self.format.is_quiet() && !matches!(record.verdict, Verdict::Failed(_)) {
            return;
        }
        let of_run = record.warnings.iter().map(|warning| (None, warning));
        let of_jobs =
            record.jobs.iter().flat_map(|job| job.warnings.iter().map(|warning| (Some(&job.id), warning)));
        let mut lines = Vec::new();
        for (job, warning) in of_run.chain(of_jobs).filter(|(_, warning)| !self.told.contains(*warning)) {
            let job = job.map(|job| format!("{job}: ")).unwrap_or_default();
            lines.push(format!("warning: {job}{warning}"));
        }
        let summed_up = self.format.is_human() && self.lost.is_none();
        if !summed_up && let Some(message) = &record.message {
            lines.push(format!("run {}: {}: {message}", record.run_id, record.verdict.word()));
        }
        for line in lines {
            // Without standard error there is nobody to tell.
            let _ = writeln!(err, "{}", printable(line.as_bytes()));
        }
    }
}

impl Reporter for Watched<'_> {
    fn report(&mut self, entry: &JournalEntry) -> io::Result<()> {
        if let (true, RunLifecycleEvent::Warning { message, .. }) = (self.format.is_human(), &entry.event) {
            self.told.insert(message.clone());
        }
        self.reporter.report(entry).inspect_err(|error| {
            self.lost = Some(error.to_string());
            // It is not called again, and what it shows must not stand in the way.
            self.reporter = Box::new(NoReporter);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> RunRecord {
        serde_json::from_value(serde_json::json!({
            "run_id": "20260401T120000Z-0a1b2c3d", "status": "failed", "failure_kind": "infrastructure",
            "rerun_of": null, "target_id": "t", "target_description": null, "source_root": "/s", "snapshot_dir": "",
            "created_at": "2026-04-01T12:00:00Z", "finished_at": null, "message": "the record is incomplete",
            "warnings": ["first\u{1b}", "second"],
            "jobs": [{
                "id": "j", "description": "j", "status": "passed", "executor": "host_local", "timeout_secs": 1,
                "host_log_path": "", "guest_log_path": "", "started_at": "2026-04-01T12:00:00Z",
                "warnings": ["of a job"]
            }]
        }))
        .unwrap()
    }

    fn said(watched: &Watched<'_>) -> String {
        let mut err = Vec::new();
        watched.say_rest(&mut err, &record());
        String::from_utf8(err).unwrap()
    }

    fn warning(message: &str) -> JournalEntry {
        let message = message.to_owned();
        let event = RunLifecycleEvent::Warning { run_id: String::new(), job_id: None, message };
        JournalEntry { seq: 1, time: "2026-04-01T12:00:00Z".parse().unwrap(), event }
    }

    #[test]
    fn the_end_tells_every_warning_once_and_the_message_where_nothing_else_does() {
        let json = Watched::new(Format::JSON, Box::new(NoReporter));
        insta::assert_snapshot!(said(&json), @r"
        warning: first\u{1b}
        warning: second
        warning: j: of a job
        run 20260401T120000Z-0a1b2c3d: errored: the record is incomplete
        ");
        let mut human = Watched::new(Format::HUMAN, Box::new(NoReporter));
        human.report(&warning("second")).unwrap();
        insta::assert_snapshot!(said(&human), @r"
        warning: first\u{1b}
        warning: j: of a job
        ");
    }

    #[test]
    fn an_output_that_was_lost_is_remembered_and_the_message_is_told() {
        let closed = |_: &JournalEntry| Err(io::ErrorKind::BrokenPipe.into());
        let mut human = Watched::new(Format::HUMAN, Box::new(closed));
        assert_eq!(human.lost(), None);
        human.report(&warning("second")).unwrap_err();
        assert_eq!(human.lost(), Some("broken pipe"));
        assert!(said(&human).ends_with("the record is incomplete\n"));
    }
}
