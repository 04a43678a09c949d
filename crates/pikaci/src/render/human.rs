//! `--output human`: a line for each job on standard output, everything else on standard error.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use jerichoci::Reporter;
use jerichoci::model::event::{JournalEntry, RunLifecycleEvent};
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::model::record::{JobRecord, RunRecord};

use super::live::Live;
use super::paint::{Paint, Tone};
use super::tail::last_lines;
use super::text::{duration, printable};

/// Makes a command of this program that can be typed, from its arguments.
type Typed<'a> = Box<dyn Fn(&[&str]) -> String + Send + 'a>;

/// Where lines for people go.
pub(super) enum Stage<E> {
    /// Nobody redraws anything: each line stands for itself, with its time.
    Plain(E),
    /// Above lines that are redrawn.
    Live(Live),
}

/// How much is told, and how it looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// Only what went wrong.
    pub(super) quiet: bool,
    /// Standard output is on the terminal too: what it says need not be said again.
    pub(super) one_terminal: bool,
    pub(super) paint: Paint,
}

/// Tells people. Lines of jobs are printed as they end, in the form `<run id> <job id> <status>`.
pub(super) struct Human<'a, O, E> {
    out: O,
    stage: Stage<E>,
    manner: Manner,
    typed: Typed<'a>,
    told: HashSet<String>,
}

impl<'a, O: Write + Send, E: Write + Send> Human<'a, O, E> {
    pub(super) fn new(
        out: O,
        stage: Stage<E>,
        manner: Manner,
        typed: impl Fn(&[&str]) -> String + Send + 'a,
    ) -> Self {
        Self { out, stage, manner, typed: Box::new(typed), told: HashSet::new() }
    }

    /// A line for standard output when there is one, and lines for standard error. Nobody has to
    /// read the latter.
    fn tell(&mut self, time: DateTime<Utc>, out: Option<&str>, lines: &[String]) -> io::Result<()> {
        let mut print = || match out {
            Some(line) => writeln!(self.out, "{line}").and_then(|()| self.out.flush()),
            None => Ok(()),
        };
        match &mut self.stage {
            Stage::Plain(err) => {
                print()?;
                let mut stamp = format!("{} ", time.format("%H:%M:%SZ"));
                for line in lines {
                    let _ = writeln!(err, "{stamp}{line}");
                    // The lines below the first belong to it.
                    stamp.clear();
                }
                Ok(())
            }
            Stage::Live(live) if out.is_some() || !lines.is_empty() => live.above(|| {
                print()?;
                let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
                let _ = io::stderr().write_all(text.as_bytes());
                Ok(())
            }),
            Stage::Live(_) => Ok(()),
        }
    }

    /// One line about something that changes nothing.
    fn say(&mut self, time: DateTime<Utc>, line: &str) -> io::Result<()> {
        match self.manner.quiet {
            true => Ok(()),
            false => self.tell(time, None, &[printable(line.as_bytes())]),
        }
    }

    fn job_ended(&mut self, time: DateTime<Utc>, run_id: &str, job: &JobRecord) -> io::Result<()> {
        self.told.insert(job.id.clone());
        let failed = matches!(job.verdict, Verdict::Failed(_));
        if self.manner.quiet && !failed {
            return Ok(());
        }
        let said = format!("{run_id} {} {}", job.id, job.verdict.status().as_str());
        let mut lines = Vec::new();
        if failed || job.flaky || !self.manner.one_terminal {
            lines.push(self.ending(job));
        }
        for left in &job.leaked {
            lines.push(printable(format!("{}: left behind and ended: {left}", job.id).as_bytes()));
        }
        for left in &job.left_behind {
            lines.push(printable(format!("{}: left behind: {left}", job.id).as_bytes()));
        }
        if shows_log(job.verdict) {
            lines.extend(self.log(run_id, job));
        }
        self.tell(time, Some(&said), &lines)
    }

    /// One line: how the job ended, and how long it took.
    fn ending(&self, job: &JobRecord) -> String {
        let (word, rest) = match job.flaky {
            true => ("flaky".to_owned(), format!(": passed in attempt {}", job.attempts.len())),
            false => outcome(job),
        };
        let took = job.duration_ms.map(|ms| format!(" ({})", duration(Duration::from_millis(ms))));
        let tone = if job.flaky { Tone::Warning } else { tone(job.verdict) };
        let word = self.manner.paint.word(&word, tone);
        let rest = printable(format!("{rest}{}", took.unwrap_or_default()).as_bytes());
        format!("{}: {word}{rest}", printable(job.id.as_bytes()))
    }

    /// The lines that matter are usually the last ones.
    fn log(&self, run_id: &str, job: &JobRecord) -> Vec<String> {
        let logs = [&job.host_log_path, &job.guest_log_path];
        let tails = logs.into_iter().flat_map(|log| last_lines(Path::new(log)).unwrap_or_default());
        let mut lines: Vec<String> = tails.map(|line| format!("  | {line}")).collect();
        lines.push(format!("  all of it: {}", (self.typed)(&["logs", run_id, "--job", &job.id])));
        lines
    }

    fn run_ended(&mut self, time: DateTime<Utc>, run: &RunRecord) -> io::Result<()> {
        for job in &run.jobs {
            if !self.told.contains(&job.id) {
                self.job_ended(time, &run.run_id, job)?;
            }
        }
        if let Stage::Live(live) = &mut self.stage {
            live.end();
        }
        let failed = matches!(run.verdict, Verdict::Failed(_));
        if self.manner.quiet && !failed {
            return Ok(());
        }
        let target = run.target_id.as_deref().unwrap_or("-");
        let said = (run.jobs.is_empty())
            .then(|| format!("{} {target} {}", run.run_id, run.verdict.status().as_str()));
        let mut lines = Vec::new();
        let own_words = run.jobs.is_empty() || run.verdict.failure_kind() > Some(FailureKind::Timeout);
        if let (Some(message), true) = (&run.message, own_words) {
            lines.push(printable(message.as_bytes()));
        }
        lines.push(self.summary(run));
        for job in run.jobs.iter().filter(|job| job.flaky || shows_log(job.verdict)) {
            let (word, tone) = match job.flaky {
                true => ("flaky", Tone::Warning),
                false => (job.verdict.word(), tone(job.verdict)),
            };
            let word = self.manner.paint.word(word, tone);
            let command = (self.typed)(&["logs", &run.run_id, "--job", &job.id]);
            lines.push(format!("  {} {word}: {command}", printable(job.id.as_bytes())));
        }
        if failed && !run.snapshot_dir.is_empty() {
            let command = (self.typed)(&["rerun", &run.run_id, "--failed"]);
            lines.push(format!("  repeat it: {command}"));
        }
        self.tell(time, said.as_deref(), &lines)
    }

    /// One line: how it ended, how many jobs ended how, how long it took.
    fn summary(&self, run: &RunRecord) -> String {
        let mut counts: Vec<(&str, usize)> = Vec::new();
        for job in &run.jobs {
            let word = if job.flaky { "flaky" } else { job.verdict.word() };
            match counts.iter_mut().find(|(known, _)| *known == word) {
                Some((_, count)) => *count += 1,
                None => counts.push((word, 1)),
            }
        }
        counts.sort_unstable();
        let jobs: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
        let target = printable(run.target_id.as_deref().unwrap_or("run").as_bytes());
        let mut line = format!("{target} {}", self.manner.paint.word(run.verdict.word(), tone(run.verdict)));
        if !jobs.is_empty() {
            line.push_str(&format!(": {}", jobs.join(", ")));
        }
        if let Some(ms) = run.duration_ms {
            line.push_str(&format!(" in {}", duration(Duration::from_millis(ms))));
        }
        line
    }
}

impl<O: Write + Send, E: Write + Send> Reporter for Human<'_, O, E> {
    fn report(&mut self, entry: &JournalEntry) -> io::Result<()> {
        let time = entry.time;
        let live = match &self.stage {
            Stage::Live(live) => Some(live),
            Stage::Plain(_) => None,
        };
        match &entry.event {
            RunLifecycleEvent::RunStarted { run_id, target_id, rerun_of, .. } => {
                let target = target_id.as_deref().unwrap_or("-");
                let again = rerun_of.as_ref().map(|run| format!(", again as in {run}")).unwrap_or_default();
                self.say(time, &format!("run {run_id}: {target}{again}"))
            }
            RunLifecycleEvent::JobStarted { job, .. } => {
                let Some(live) = live else { return self.say(time, &format!("{}: started", job.id)) };
                live.job_started(job);
                Ok(())
            }
            RunLifecycleEvent::JobFinished { run_id, job } => {
                if let Some(live) = live {
                    live.job_ended(job);
                }
                self.job_ended(time, run_id, job)
            }
            RunLifecycleEvent::RunFinished { run } => self.run_ended(time, run),
            RunLifecycleEvent::Warning { job_id, message, .. } => {
                let job = job_id.as_ref().map(|job| format!("{job}: ")).unwrap_or_default();
                self.say(time, &format!("warning: {job}{message}"))
            }
            RunLifecycleEvent::JobRetry { job_id, failed, next, of, .. } => {
                if let Some(live) = live {
                    live.job_again(job_id, *next);
                }
                let why = failed.message.as_deref().unwrap_or(failed.verdict.word());
                let attempt = failed.attempt;
                self.say(time, &format!("{job_id}: attempt {attempt} of {of}: {why}; attempt {next} starts"))
            }
            RunLifecycleEvent::PrepareStarted { node_id, .. } => {
                if let Some(live) = live {
                    live.prepare_started(node_id);
                }
                Ok(())
            }
            RunLifecycleEvent::PrepareFinished { node_id, verdict, duration_ms, .. } => {
                if let Some(live) = live {
                    live.prepare_ended(node_id);
                }
                // A node that had nothing to do is no news.
                if *verdict == Verdict::Passed && *duration_ms < 10 {
                    return Ok(());
                }
                let took = duration(Duration::from_millis(*duration_ms));
                self.say(time, &format!("{node_id}: {} ({took})", verdict.word()))
            }
            RunLifecycleEvent::PhaseFinished { .. } | RunLifecycleEvent::LogProgress { .. } => Ok(()),
        }
    }
}

/// Whether the log is likely to say why.
const fn shows_log(verdict: Verdict) -> bool {
    match verdict {
        Verdict::Failed(kind) => !matches!(kind, FailureKind::Cancelled),
        Verdict::Running | Verdict::Passed | Verdict::Skipped => false,
    }
}

const fn tone(verdict: Verdict) -> Tone {
    match verdict {
        Verdict::Passed => Tone::Good,
        Verdict::Failed(FailureKind::Cancelled) => Tone::Warning,
        Verdict::Failed(_) => Tone::Bad,
        Verdict::Running | Verdict::Skipped => Tone::Faint,
    }
}

/// The word for the verdict, and what the job itself says, without saying the word twice.
fn outcome(job: &JobRecord) -> (String, String) {
    let word = job.verdict.word().to_owned();
    let rest = match &job.message {
        Some(message) => match message.strip_prefix(word.as_str()) {
            Some(rest) => rest.to_owned(),
            None => format!(": {message}"),
        },
        None => String::new(),
    };
    (word, rest)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn job(id: &str, more: Value) -> Value {
        let mut job = json!({
            "id": id, "description": id, "executor": "host_local", "timeout_secs": 1, "host_log_path": "",
            "guest_log_path": "", "started_at": "2026-04-01T12:00:00Z", "duration_ms": 1500
        });
        job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        job
    }

    fn events() -> Vec<Value> {
        const RUN: &str = "20260401T120000Z-0a1b2c3d";
        let attempt = |attempt, status| json!({ "attempt": attempt, "status": status, "host_log_path": "", "started_at": "2026-04-01T12:00:00Z" });
        let mut failed = attempt(1, "failed");
        failed["failure_kind"] = json!("test_failure");
        failed["message"] = json!("the command exited with code 1");
        let flaky = job(
            "unsteady",
            json!({ "status": "passed", "flaky": true, "attempts": [failed, attempt(2, "passed")] }),
        );
        let bad = job(
            "bad\u{1b}[2J",
            json!({ "status": "failed", "failure_kind": "timeout", "message": "timed out after 1 s" }),
        );
        let run = json!({
            "run_id": RUN, "status": "failed", "failure_kind": "timeout", "rerun_of": null, "target_id": "t",
            "target_description": null, "source_root": "/s", "snapshot_dir": "/s", "message": null,
            "created_at": "2026-04-01T12:00:00Z", "duration_ms": 61_000, "jobs": [flaky, bad]
        });
        vec![
            json!({ "event": "run_started", "run_id": RUN, "created_at": "2026-04-01T12:00:00Z",
                    "rerun_of": null, "target_id": "t", "target_description": null }),
            json!({ "event": "job_retry", "run_id": RUN, "job_id": "unsteady", "failed": failed, "next": 2, "of": 3 }),
            json!({ "event": "job_finished", "run_id": RUN, "job": flaky }),
            json!({ "event": "job_finished", "run_id": RUN, "job": bad }),
            json!({ "event": "run_finished", "run": run }),
        ]
    }

    fn told(quiet: bool, color: bool) -> (String, String) {
        told_of(events(), quiet, color)
    }

    fn told_of(events: Vec<Value>, quiet: bool, color: bool) -> (String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let manner = Manner { quiet, one_terminal: false, paint: Paint::new(color) };
        let typed = |args: &[&str]| format!("pikaci {}", printable(args.join(" ").as_bytes()));
        let mut human = Human::new(&mut out, Stage::Plain(&mut err), manner, typed);
        for (seq, mut event) in events.into_iter().enumerate() {
            event["seq"] = json!(seq + 1);
            event["time"] = json!(format!("2026-04-01T12:00:0{seq}Z"));
            human.report(&serde_json::from_value(event).unwrap()).unwrap();
        }
        drop(human);
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn a_flaky_pass_is_told_when_it_happens_and_at_the_end() {
        insta::assert_snapshot!(told(false, false).1, @r"
        12:00:00Z run 20260401T120000Z-0a1b2c3d: t
        12:00:01Z unsteady: attempt 1 of 3: the command exited with code 1; attempt 2 starts
        12:00:02Z unsteady: flaky: passed in attempt 2 (1.5 s)
        12:00:03Z bad\u{1b}[2J: timed out after 1 s (1.5 s)
          all of it: pikaci logs 20260401T120000Z-0a1b2c3d --job bad\u{1b}[2J
        12:00:04Z t timed out: 1 flaky, 1 timed out in 1 min 01 s
          unsteady flaky: pikaci logs 20260401T120000Z-0a1b2c3d --job unsteady
          bad\u{1b}[2J timed out: pikaci logs 20260401T120000Z-0a1b2c3d --job bad\u{1b}[2J
          repeat it: pikaci rerun 20260401T120000Z-0a1b2c3d --failed
        ");
    }

    #[test]
    fn quiet_tells_only_what_went_wrong() {
        let (out, err) = told(true, false);
        assert_eq!(out.lines().count(), 1, "{out}");
        insta::assert_snapshot!(err, @r"
        12:00:03Z bad\u{1b}[2J: timed out after 1 s (1.5 s)
          all of it: pikaci logs 20260401T120000Z-0a1b2c3d --job bad\u{1b}[2J
        12:00:04Z t timed out: 1 flaky, 1 timed out in 1 min 01 s
          unsteady flaky: pikaci logs 20260401T120000Z-0a1b2c3d --job unsteady
          bad\u{1b}[2J timed out: pikaci logs 20260401T120000Z-0a1b2c3d --job bad\u{1b}[2J
          repeat it: pikaci rerun 20260401T120000Z-0a1b2c3d --failed
        ");
    }

    #[test]
    fn what_was_ended_and_what_is_still_there_are_told_apart() {
        let more = json!({ "status": "failed", "failure_kind": "cancelled", "leaked": ["sleep 9 (pid 7)"],
            "left_behind": ["instance i on box is still there; the next run ends it"] });
        let event =
            json!({ "event": "job_finished", "run_id": "20260401T120000Z-0a1b2c3d", "job": job("a", more) });
        insta::assert_snapshot!(told_of(vec![event], true, false).1, @r"
        12:00:00Z a: cancelled (1.5 s)
        a: left behind and ended: sleep 9 (pid 7)
        a: left behind: instance i on box is still there; the next run ends it
        ");
    }

    #[test]
    fn colours_change_no_word() {
        let (out, err) = told(false, true);
        assert_eq!(out, told(false, false).0);
        assert_eq!(console::strip_ansi_codes(&err), told(false, false).1);
        assert!(err.contains("\u{1b}[33mflaky\u{1b}[0m") && !err.contains("\u{1b}[2J"), "{err:?}");
    }
}
