//! `--output human`: a line a job on standard output, everything else on standard error.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io;

use jerichoci::model::event::{JournalEntry, RunLifecycleEvent};
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::model::record::{JobRecord, RunRecord};
use jerichoci::run::report::Reporter;

use super::{Sink, View, printable, say_warnings, tail, words};
use crate::config::CommandLine;
use crate::output::note_to;

/// Opens the log of a job in which its failure is most likely told.
pub(crate) type OpenLog = Box<dyn Fn(&JobRecord) -> Option<File> + Send>;

/// Tells a person what happens.
pub(crate) struct Human {
    out: Sink,
    err: Sink,
    /// Spells commands so that they can be typed where this one was.
    commands: CommandLine,
    open_log: OpenLog,
    /// Jobs that have their line.
    shown: HashSet<String>,
    /// Warnings that were told when they happened.
    warned: HashSet<String>,
}

impl Human {
    pub(crate) fn new(out: Sink, err: Sink, commands: CommandLine, open_log: OpenLog) -> Self {
        Self { out, err, commands, open_log, shown: HashSet::new(), warned: HashSet::new() }
    }

    fn say(&mut self, line: fmt::Arguments<'_>) {
        note_to(&mut self.err, line);
    }

    /// The line for programs first: it decides whether anybody still listens.
    fn line(&mut self, line: fmt::Arguments<'_>) -> io::Result<()> {
        let mut text = printable::text(&line.to_string());
        text.push('\n');
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    fn job_ended(&mut self, run_id: &str, job: &JobRecord, told: bool) -> io::Result<()> {
        if told {
            self.line(format_args!("{run_id} {} {}", job.id, job.verdict.status().as_str()))?;
        }
        self.shown.insert(job.id.clone());
        let after = match (job.verdict, job.duration_ms) {
            (Verdict::Skipped, _) | (_, None) => String::new(),
            (_, Some(ms)) => format!(" in {}", words::duration(ms)),
        };
        let message = beyond(job.verdict.word(), job.message.as_deref());
        self.say(format_args!("{}: {}{after}{message}", job.id, job.verdict.word()));
        if job.leaky() {
            self.say(format_args!("{}: left behind, and ended: {}", job.id, job.leaked.join(", ")));
        }
        if matches!(job.verdict, Verdict::Failed(kind) if kind != FailureKind::Cancelled) {
            self.show_log(run_id, job);
        }
        Ok(())
    }

    fn show_log(&mut self, run_id: &str, job: &JobRecord) {
        let Some(mut log) = (self.open_log)(job) else { return };
        let Ok(lines) = tail::last_lines(&mut log) else { return };
        if lines.is_empty() {
            return;
        }
        for line in lines {
            self.say(format_args!("  | {line}"));
        }
        let command = self.commands.of(&["logs", run_id, "--job", &job.id]);
        self.say(format_args!("  all of it: {command}"));
    }
}

/// What a message says that the word before it does not.
fn beyond(word: &str, message: Option<&str>) -> String {
    message.filter(|message| *message != word).map(|message| format!(": {message}")).unwrap_or_default()
}

impl Reporter for Human {
    fn report(&mut self, entry: &JournalEntry) -> io::Result<()> {
        match &entry.event {
            RunLifecycleEvent::RunStarted { run_id, target_id, rerun_of, .. } => {
                let target = target_id.as_deref().unwrap_or("-");
                match rerun_of {
                    Some(first) => self.say(format_args!("{run_id}: {target}, again as in {first}")),
                    None => self.say(format_args!("{run_id}: {target}")),
                }
                Ok(())
            }
            RunLifecycleEvent::JobFinished { run_id, job } => self.job_ended(run_id, job, true),
            RunLifecycleEvent::Warning { job_id, message, .. } => {
                match job_id {
                    Some(job) => self.say(format_args!("warning: {job}: {message}")),
                    None => self.say(format_args!("warning: {message}")),
                }
                self.warned.insert(message.clone());
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl View for Human {
    fn finish(&mut self, record: &RunRecord, told: bool) -> io::Result<()> {
        let mut result = Ok(());
        if record.jobs.is_empty() && told {
            let target = record.target_id.as_deref().unwrap_or("-");
            let status = record.verdict.status().as_str();
            result = self.line(format_args!("{} {target} {status}", record.run_id));
        }
        // Jobs that never started have no event of their own.
        for job in &record.jobs {
            if !self.shown.contains(&job.id) {
                let line = self.job_ended(&record.run_id, job, told && result.is_ok());
                result = result.and(line);
            }
        }
        let warned = std::mem::take(&mut self.warned);
        say_warnings(&mut self.err, record, &|warning| warned.contains(warning));
        let took = record.duration_ms.map(|ms| format!(" in {}", words::duration(ms))).unwrap_or_default();
        let message = beyond(record.verdict.word(), record.message.as_deref());
        let tally =
            if record.jobs.is_empty() { String::new() } else { format!(" ({})", words::tally(&record.jobs)) };
        self.say(format_args!("{}: {}{took}{tally}{message}", record.run_id, record.verdict.word()));
        if matches!(record.verdict, Verdict::Failed(_)) && !record.snapshot_dir.is_empty() {
            let command = self.commands.of(&["rerun", &record.run_id]);
            self.say(format_args!("the same again: {command}"));
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{self, RUN};
    use super::*;
    use std::io::{Seek, Write};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Shared {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("not poisoned").clone()).expect("text")
        }
    }

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log(text: &'static str) -> OpenLog {
        Box::new(move |_| {
            let mut file = tempfile::tempfile().ok()?;
            file.write_all(text.as_bytes()).ok()?;
            file.rewind().ok()?;
            Some(file)
        })
    }

    fn entry(event: RunLifecycleEvent) -> JournalEntry {
        JournalEntry { seq: 1, time: "2026-04-01T12:00:00Z".parse().expect("a time"), event }
    }

    fn finished(job: &JobRecord) -> JournalEntry {
        entry(RunLifecycleEvent::JobFinished { run_id: RUN.to_owned(), job: Box::new(job.clone()) })
    }

    #[test]
    fn a_failing_run_shows_its_lines_and_the_commands_that_show_more() {
        let (out, err) = (Shared::default(), Shared::default());
        let mut view = Human::new(
            Box::new(out.clone()),
            Box::new(err.clone()),
            CommandLine::default(),
            log("one\n\u{1b}[31mtwo\n"),
        );
        let mut failing = sample::job("test", Verdict::Failed(FailureKind::TestFailure));
        failing.message = Some("exit code 1".to_owned());
        let mut record = sample::run(Verdict::Failed(FailureKind::TestFailure));
        record.snapshot_dir = "/s".to_owned();
        record.jobs =
            vec![sample::job("fmt", Verdict::Passed), failing.clone(), sample::job("late", Verdict::Skipped)];
        record.jobs[2].message = Some("`test` failed".to_owned());
        record.warnings = vec!["told".to_owned(), "not told".to_owned()];

        let started = RunLifecycleEvent::RunStarted {
            run_id: RUN.to_owned(),
            created_at: record.created_at,
            rerun_of: None,
            target_id: Some("check".to_owned()),
            target_description: None,
        };
        let warning =
            RunLifecycleEvent::Warning { run_id: RUN.to_owned(), job_id: None, message: "told".to_owned() };
        for entry in [entry(started), finished(&record.jobs[0]), entry(warning), finished(&failing)] {
            view.report(&entry).expect("memory takes everything");
        }
        view.finish(&record, true).expect("memory takes everything");

        insta::assert_snapshot!(out.text(), @r"
        20260401T120000Z-0a1b2c3d fmt passed
        20260401T120000Z-0a1b2c3d test failed
        20260401T120000Z-0a1b2c3d late skipped
        ");
        insta::assert_snapshot!(err.text(), @r"
        20260401T120000Z-0a1b2c3d: check
        fmt: passed in 1.2 s
        warning: told
        test: failed in 1.2 s: exit code 1
          | one
          | \x1b[31mtwo
          all of it: pikaci logs 20260401T120000Z-0a1b2c3d --job test
        late: skipped: `test` failed
        warning: not told
        20260401T120000Z-0a1b2c3d: failed in 4.2 s (1 passed, 1 failed, 1 skipped)
        the same again: pikaci rerun 20260401T120000Z-0a1b2c3d
        ");
    }

    #[test]
    fn a_closed_output_is_an_error_and_the_summary_is_still_told() {
        let err = Shared::default();
        let mut view = Human::new(Box::new(Closed), Box::new(err.clone()), CommandLine::default(), log(""));
        let mut record = sample::run(Verdict::Failed(FailureKind::Cancelled));
        record.jobs = vec![sample::job("a", Verdict::Failed(FailureKind::Cancelled))];
        assert!(view.report(&finished(&record.jobs[0])).is_err());
        view.finish(&record, false).expect("nothing is written to the closed output");
        assert!(err.text().contains("cancelled in 4.2 s (1 cancelled)"), "{}", err.text());
    }

    #[test]
    fn a_run_without_jobs_has_one_line() {
        let (out, err) = (Shared::default(), Shared::default());
        let mut view =
            Human::new(Box::new(out.clone()), Box::new(err.clone()), CommandLine::default(), log(""));
        let mut record = sample::run(Verdict::Skipped);
        record.message = Some("nothing matches".to_owned());
        view.finish(&record, true).expect("memory takes everything");
        assert_eq!(out.text(), format!("{RUN} check skipped\n"));
        assert_eq!(err.text(), format!("{RUN}: skipped in 4.2 s: nothing matches\n"));
    }
}
