//! `--output human`: a line for each job on standard output, everything else on standard error.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use jerichoci::Reporter;
use jerichoci::model::event::{JournalEntry, RunLifecycleEvent};
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::model::record::{JobRecord, RunRecord};

use super::tail::last_lines;
use super::text::{duration, printable};

/// Makes a command of this program that can be typed, from its arguments.
type Typed<'a> = Box<dyn Fn(&[&str]) -> String + Send + 'a>;

/// Tells people. Lines of jobs are printed as they end, in the form `<run id> <job id> <status>`.
pub(super) struct Human<'a, O, E> {
    out: O,
    err: E,
    typed: Typed<'a>,
    told: HashSet<String>,
}

impl<'a, O: Write + Send, E: Write + Send> Human<'a, O, E> {
    pub(super) fn new(out: O, err: E, typed: impl Fn(&[&str]) -> String + Send + 'a) -> Self {
        Self { out, err, typed: Box::new(typed), told: HashSet::new() }
    }

    /// A line on standard error. Without one there is nobody to tell.
    fn say(&mut self, line: &str) {
        let _ = writeln!(self.err, "{}", printable(line.as_bytes()));
    }

    fn job_ended(&mut self, run_id: &str, job: &JobRecord) -> io::Result<()> {
        self.told.insert(job.id.clone());
        writeln!(self.out, "{run_id} {} {}", job.id, job.verdict.status().as_str())?;
        self.out.flush()?;
        let took = job.duration_ms.map(|ms| format!(" ({})", duration(Duration::from_millis(ms))));
        let line = format!("{}: {}{}", job.id, outcome(job), took.unwrap_or_default());
        self.say(&line);
        for left in &job.leaked {
            self.say(&format!("{}: left behind and ended: {left}", job.id));
        }
        if is_failure(job.verdict) {
            self.show_log(run_id, job);
        }
        Ok(())
    }

    /// The lines that matter are usually the last ones.
    fn show_log(&mut self, run_id: &str, job: &JobRecord) {
        for log in [&job.host_log_path, &job.guest_log_path] {
            for line in last_lines(Path::new(log)).unwrap_or_default() {
                self.say(&format!("  | {line}"));
            }
        }
        let command = (self.typed)(&["logs", run_id, "--job", &job.id]);
        self.say(&format!("  all of it: {command}"));
    }

    fn run_ended(&mut self, run: &RunRecord) -> io::Result<()> {
        for job in &run.jobs {
            if !self.told.contains(&job.id) {
                self.job_ended(&run.run_id, job)?;
            }
        }
        let target = run.target_id.as_deref().unwrap_or("-");
        if run.jobs.is_empty() {
            writeln!(self.out, "{} {target} {}", run.run_id, run.verdict.status().as_str())?;
            self.out.flush()?;
        }
        let own_words = run.jobs.is_empty() || run.verdict.failure_kind() > Some(FailureKind::Timeout);
        if let (Some(message), true) = (&run.message, own_words) {
            self.say(message);
        }
        self.say(&summary(run));
        if matches!(run.verdict, Verdict::Failed(_)) && !run.snapshot_dir.is_empty() {
            let command = (self.typed)(&["rerun", &run.run_id]);
            self.say(&format!("  repeat it: {command}"));
        }
        Ok(())
    }
}

impl<O: Write + Send, E: Write + Send> Reporter for Human<'_, O, E> {
    fn report(&mut self, entry: &JournalEntry) -> io::Result<()> {
        match &entry.event {
            RunLifecycleEvent::RunStarted { run_id, target_id, rerun_of, .. } => {
                let target = target_id.as_deref().unwrap_or("-");
                let again = rerun_of.as_ref().map(|run| format!(", again as in {run}")).unwrap_or_default();
                self.say(&format!("run {run_id}: {target}{again}"));
            }
            RunLifecycleEvent::JobStarted { job, .. } => self.say(&format!("{}: started", job.id)),
            RunLifecycleEvent::JobFinished { run_id, job } => self.job_ended(run_id, job)?,
            RunLifecycleEvent::RunFinished { run } => self.run_ended(run)?,
            RunLifecycleEvent::Warning { job_id, message, .. } => {
                let job = job_id.as_ref().map(|job| format!("{job}: ")).unwrap_or_default();
                self.say(&format!("warning: {job}{message}"));
            }
            RunLifecycleEvent::JobRetry { job_id, failed, next, of, .. } => {
                let why = failed.message.as_deref().unwrap_or(failed.verdict.word());
                self.say(&format!(
                    "{job_id}: attempt {} of {of}: {why}; attempt {next} starts",
                    failed.attempt
                ));
            }
            RunLifecycleEvent::PrepareFinished { node_id, verdict, duration_ms, .. } => {
                let took = duration(Duration::from_millis(*duration_ms));
                self.say(&format!("{node_id}: {} ({took})", verdict.word()));
            }
            RunLifecycleEvent::PrepareStarted { .. }
            | RunLifecycleEvent::PhaseFinished { .. }
            | RunLifecycleEvent::LogProgress { .. } => {}
        }
        Ok(())
    }
}

/// Whether the log is likely to say why.
const fn is_failure(verdict: Verdict) -> bool {
    match verdict {
        Verdict::Failed(kind) => !matches!(kind, FailureKind::Cancelled),
        Verdict::Running | Verdict::Passed | Verdict::Skipped => false,
    }
}

/// The word for the verdict and what the job itself says, without saying the word twice.
fn outcome(job: &JobRecord) -> String {
    let word = job.verdict.word();
    match &job.message {
        Some(message) if message.starts_with(word) => message.clone(),
        Some(message) => format!("{word}: {message}"),
        None => word.to_owned(),
    }
}

/// One line: how it ended, how many jobs ended how, how long it took.
fn summary(run: &RunRecord) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for job in &run.jobs {
        let word = job.verdict.word();
        match counts.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    counts.sort_unstable();
    let jobs: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    let target = run.target_id.as_deref().unwrap_or("run");
    let mut line = format!("{target} {}", run.verdict.word());
    if !jobs.is_empty() {
        line.push_str(&format!(": {}", jobs.join(", ")));
    }
    if let Some(ms) = run.duration_ms {
        line.push_str(&format!(" in {}", duration(Duration::from_millis(ms))));
    }
    line
}
