//! The sole owner of a run's state. Workers send messages; one thread folds them into the
//! records, stores, then tells.
//!
//! Only the cancel token travels backwards. A reporter is told on a thread of its own, so that
//! a reader who is slow holds up neither the jobs nor their records; one that fails is one more
//! reason to cancel.

mod prepares;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::Scope;
use std::time::Duration;

use jericho_host::{CancelReason, CancelToken};

use super::cleanups::Cleanups;
use super::layout::{JobLayout, RunLayout};
use super::logs::append_engine_line;
use super::plan::{NodeIndex, NodeWork, RunPlan};
use super::prepare::{PrepareEnd, Preparer};
use super::report::Reporter;
use super::request::RunOptions;
use super::schedule::{Limits, NotStarted, Outcome, Schedule};
use super::store::RunStore;
use super::watch::OutputWatch;
use super::work::{JobEnd, Work};
use crate::causes::with_causes;
use crate::engine::EngineError;
use crate::executor::Tools;
use crate::executor::after::{Cleaned, Cleanup};
use crate::executor::workspace::RunSource;
use crate::model::attempt::AttemptRecord;
use crate::model::event::{JournalEntry, RunLifecycleEvent};
use crate::model::job::JobSpec;
use crate::model::outcome::{FailureKind, JobOutcome, Verdict};
use crate::model::outputs::PreparedOutputsRecord;
use crate::model::plan::{PlanNodeRecord, RunPlanRecord};
use crate::model::record::{JobRecord, RunRecord};
use crate::remote::Hosts;
use jericho_host::secrets::Masker;
use prepares::{Prepares, is_own};

/// `run.json` is replaced at most this often while the run goes on.
const RECORD_INTERVAL: Duration = Duration::from_millis(250);

/// How long guests may take to go once the run was cancelled: whoever did so waits for at most 5 s.
const CLEANUP_AFTER_CANCEL: Duration = Duration::from_secs(4);

/// What reaches the dispatcher.
#[derive(Debug)]
pub(crate) enum Message {
    /// A job has ended.
    JobEnded { node: NodeIndex, end: Box<JobEnd> },
    /// A prepare node has ended.
    PrepareEnded { node: NodeIndex, end: Box<PrepareEnd> },
    /// A job did not pass and is tried again.
    JobRetried { job: usize, failed: Box<AttemptRecord>, next: u32, of: u32 },
    /// A log has grown; the sizes of both.
    LogGrew { job: usize, host_bytes: u64, guest_bytes: u64 },
    /// What a job that has ended had left to do is done, or something that no job waits for.
    CleanedUp { job: Option<usize>, cleaned: Cleaned },
    /// The token was cancelled, or its reason became stronger.
    Cancelled,
    /// Nobody listens any more.
    ReporterFailed(std::io::Error),
}

/// What a dispatcher needs and does not own.
pub(crate) struct Surroundings<'a> {
    pub(crate) tools: &'a Tools,
    pub(crate) cancel: &'a CancelToken,
    pub(crate) fresh_id: &'a (dyn Fn() -> String + Sync),
    /// Of all secrets of the run. It holds for every job: one that asks for none may still come
    /// by one, in its environment, its definition or a cache.
    pub(crate) masker: Option<Arc<Masker>>,
    pub(crate) watch: Option<Arc<dyn OutputWatch>>,
}

/// The state of one run.
pub(crate) struct Dispatcher<'a> {
    around: &'a Surroundings<'a>,
    store: RunStore,
    record: RunRecord,
    seq: u64,
    told: Sender<JournalEntry>,
    started: Duration,
    recorded: Duration,
    dirty: bool,
    records_problem: Option<String>,
    /// Events that could not be stored yet, and so are not told.
    unstored: Vec<JournalEntry>,
    outputs: PreparedOutputsRecord,
    /// When this heard that the run is cancelled.
    cancelled_at: Option<Duration>,
    /// How many clean-ups have told how they ended.
    cleaned_up: usize,
}

/// Runs `reporter` on its own thread until every sender is gone or it fails.
pub(crate) fn report_on_thread<'scope, 'env: 'scope>(
    scope: &'scope Scope<'scope, 'env>,
    reporter: &'env mut dyn Reporter,
    failed: Sender<Message>,
) -> Sender<JournalEntry> {
    let (tell, entries) = channel::<JournalEntry>();
    scope.spawn(move || {
        for entry in entries {
            let told = catch_unwind(AssertUnwindSafe(|| reporter.report(&entry)))
                .unwrap_or_else(|_| Err(std::io::Error::other("the reporter panicked")));
            if let Err(error) = told {
                // The dispatcher may be gone already: then the run is over anyway.
                let _ = failed.send(Message::ReporterFailed(error));
                return;
            }
        }
    });
    tell
}

impl<'a> Dispatcher<'a> {
    /// Over a store that was just made, with the record as it is to begin with.
    pub(crate) fn new(
        around: &'a Surroundings<'a>,
        store: RunStore,
        record: RunRecord,
        told: Sender<JournalEntry>,
        started: Duration,
    ) -> Self {
        let recorded = around.tools.clock.monotonic();
        let mut this = Self {
            around,
            store,
            record,
            seq: 0,
            told,
            started,
            recorded,
            dirty: false,
            records_problem: None,
            unstored: Vec::new(),
            outputs: PreparedOutputsRecord::default(),
            cancelled_at: None,
            cleaned_up: 0,
        };
        let record = &this.record;
        this.emit(RunLifecycleEvent::RunStarted {
            run_id: record.run_id.clone(),
            created_at: record.created_at,
            rerun_of: record.rerun_of.clone(),
            target_id: record.target_id.clone(),
            target_description: record.target_description.clone(),
        });
        this
    }

    pub(crate) fn layout(&self) -> &RunLayout {
        self.store.layout()
    }

    /// Other machines.
    pub(crate) fn hosts(&self) -> Arc<Hosts> {
        Arc::clone(&self.around.tools.hosts)
    }

    pub(crate) fn around(&self) -> &'a Surroundings<'a> {
        self.around
    }

    pub(crate) fn cancel(&self) -> &'a CancelToken {
        self.around.cancel
    }

    /// Changes the record; it is stored soon.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut RunRecord)) {
        change(&mut self.record);
        self.dirty = true;
    }

    /// Writes the record now, on the disk. The first one names the run to every reader.
    pub(crate) fn save_first(&mut self) {
        let result = self.store.write_record(&self.record, true);
        self.note_problem(result);
    }

    /// Stores, then tells.
    pub(crate) fn emit(&mut self, event: RunLifecycleEvent) {
        self.seq += 1;
        let entry = JournalEntry { seq: self.seq, time: self.around.tools.clock.now(), event };
        if self.records_problem.is_none() {
            match self.store.append(&entry) {
                // A reporter that has failed has said so by a message of its own.
                Ok(()) => return drop(self.told.send(entry)),
                Err(error) => self.note_problem(Err(error)),
            }
        }
        self.unstored.push(entry);
    }

    /// Nothing of the run writes any more: what the reserve has kept free is for its end. Jobs
    /// that ran on would have taken it.
    fn store_the_rest(&mut self) {
        self.store.release_reserve();
        for entry in std::mem::take(&mut self.unstored) {
            if self.store.append(&entry).is_err() {
                // Numbers have no gaps: what comes later is not stored either.
                return;
            }
            let _ = self.told.send(entry);
        }
        for job in &self.record.jobs {
            let files = self.store.layout().job(&job.id);
            if files.dir().is_dir() {
                // The run record holds the same; this one is for its readers' convenience.
                let _ = self.store.write_job(&files, job);
            }
        }
    }

    /// A warning, in the record and told.
    pub(crate) fn warn(&mut self, message: String) {
        let message = self.masked(message);
        self.update(|record| record.warnings.push(message.clone()));
        let run_id = self.record.run_id.clone();
        self.emit(RunLifecycleEvent::Warning { run_id, job_id: None, message });
    }

    /// A phase of the run itself has ended.
    pub(crate) fn phases(&mut self, phases: Vec<crate::model::record::PhaseRecord>) {
        for phase in phases {
            let run_id = self.record.run_id.clone();
            let event = RunLifecycleEvent::PhaseFinished {
                run_id,
                job_id: None,
                phase: phase.phase.clone(),
                duration_ms: phase.duration_ms,
            };
            self.update(|record| record.phases.push(phase));
            self.emit(event);
        }
    }

    pub(crate) fn store_plan(&mut self, mut plan: RunPlanRecord) {
        // A definition may quote a secret, or get one as an argument.
        let texts = plan.nodes.iter_mut().flat_map(PlanNodeRecord::texts_mut);
        for text in texts.chain(&mut plan.target_description) {
            *text = self.masked(std::mem::take(text));
        }
        let result = self.store.write_plan(&plan);
        self.note_problem(result);
    }

    /// The first problem with the records ends the run: what is not recorded did not happen.
    fn note_problem(&mut self, result: Result<(), EngineError>) {
        if let Err(error) = result
            && self.records_problem.is_none()
        {
            self.records_problem = Some(with_causes(&error));
            self.around.cancel.cancel(CancelReason::RecordsFailed);
        }
    }

    fn save_if_due(&mut self) {
        let now = self.around.tools.clock.monotonic();
        let due = now.saturating_sub(self.recorded) >= RECORD_INTERVAL;
        if self.dirty && due && self.records_problem.is_none() {
            let result = self.store.write_record(&self.record, false);
            self.note_problem(result);
            self.recorded = now;
            self.dirty = false;
        }
    }

    /// Carries out the plan, and what nobody waits for beside it. Returns when nothing of it runs any more.
    #[expect(clippy::too_many_arguments, reason = "called once, with what the stages before it have made")]
    pub(crate) fn carry_out(
        &mut self,
        (jobs, options): (&[JobSpec], &RunOptions),
        preparer: &Preparer<'_>,
        limits: &Limits,
        source: &RunSource,
        cache_dirs: &dyn Fn(&JobSpec) -> std::path::PathBuf,
        background: Vec<Cleanup>,
        (sender, messages): (&Sender<Message>, &Receiver<Message>),
    ) {
        let plan = preparer.plan;
        let mut schedule = Schedule::new(plan.nodes(), limits);
        let mut prepares = Prepares::default();
        let cleanups = Cleanups::new();
        for work in background {
            cleanups.begin(work, None, sender.clone());
        }
        let stopped = AtomicBool::new(false);
        let (run, run_id) = (self.layout().clone(), self.record.run_id.clone());
        let layouts: Vec<JobLayout> = jobs.iter().map(|job| self.layout().job(&job.id)).collect();
        let mut starts: Vec<Option<Duration>> = vec![None; jobs.len()];
        std::thread::scope(|scope| {
            loop {
                if self.around.cancel.is_cancelled() {
                    schedule.cancel();
                }
                for node in schedule.ready() {
                    let Some(index) = plan.node(node).job() else {
                        self.start_prepare(plan.node(node), node, &mut prepares);
                        let done = sender.clone();
                        let work = move || {
                            let end = Box::new(preparer.prepare(node));
                            let _ = done.send(Message::PrepareEnded { node, end });
                        };
                        let thread = std::thread::Builder::new().name(plan.node(node).id.clone());
                        if let Err(error) = thread.spawn_scoped(scope, work) {
                            let end = Box::new(PrepareEnd::errored(format!("no thread for it: {error}")));
                            let _ = sender.send(Message::PrepareEnded { node, end });
                        }
                        continue;
                    };
                    let (job, layout) = (&jobs[index], &layouts[index]);
                    starts[index] = Some(self.around.tools.clock.monotonic());
                    let ended = |outcome: JobOutcome| {
                        let end = Box::new(JobEnd::without_work(outcome));
                        let _ = sender.send(Message::JobEnded { node, end });
                    };
                    let failed = |problem: String| ended(JobOutcome::errored(problem));
                    let needs = prepares.of(&plan.node(node).depends_on);
                    let waited = needs.iter().map(|(_, duration_ms)| duration_ms).sum();
                    if let Err(problem) = self.start_job(job, layout, waited) {
                        failed(problem);
                        continue;
                    }
                    let ends: Vec<&PrepareEnd> = needs.into_iter().map(|(end, _)| end).collect();
                    let prepared = match preparer.prepared(job, &ends) {
                        Ok(prepared) => prepared,
                        Err(outcome) => {
                            ended(outcome);
                            continue;
                        }
                    };
                    let work = Work {
                        node,
                        index,
                        run_id: &run_id,
                        job,
                        args: options.args_of(&job.id),
                        run: &run,
                        layout,
                        fresh_id: self.around.fresh_id,
                        cache_dir: cache_dirs(job),
                        source,
                        prepared,
                        tools: self.around.tools,
                        cancel: self.around.cancel,
                        stopped: &stopped,
                        masker: self.around.masker.clone(),
                        watch: self.around.watch.clone(),
                        sender: sender.clone(),
                        keep_on_failure: options.keep_on_failure,
                        cleanups: &cleanups,
                        log_sizes: <[AtomicU64; 2]>::default(),
                    };
                    let thread = std::thread::Builder::new().name(format!("job-{}", job.id));
                    if let Err(error) = thread.spawn_scoped(scope, move || work.run()) {
                        failed(format!("no thread for the job: {error}"));
                    }
                }
                if schedule.is_done() {
                    break;
                }
                self.save_if_due();
                match self.next(messages) {
                    Some(Message::JobEnded { node, end }) => {
                        let index = plan.node(node).job().unwrap_or_default();
                        let passed = end.report.outcome.verdict == Verdict::Passed;
                        schedule.finished(node, if passed { Outcome::Passed } else { Outcome::Failed });
                        stopped.store(schedule.is_stopped(), Ordering::Release);
                        self.end_job(&jobs[index], &layouts[index], starts[index], *end);
                    }
                    Some(Message::PrepareEnded { node, end }) => {
                        let passed = end.verdict == Verdict::Passed;
                        schedule.finished(node, if passed { Outcome::Passed } else { Outcome::Failed });
                        stopped.store(schedule.is_stopped(), Ordering::Release);
                        self.end_prepare(plan.node(node), node, *end, &mut prepares);
                    }
                    Some(Message::JobRetried { job, failed, next, of }) => {
                        self.retry_job(&jobs[job], &layouts[job], *failed, (next, of));
                    }
                    Some(other) => self.handle(other, jobs),
                    None => {}
                }
            }
        });
        self.await_cleanups(&cleanups, jobs, messages);
        for (node, why) in schedule.not_started() {
            let Some(index) = plan.node(node).job() else { continue };
            let (job, layout) = (&jobs[index], &layouts[index]);
            match why {
                // What a job waits for itself is a part of it; others only waited for the job.
                NotStarted::NeedFailed(need) if is_own(plan, node, need) => {
                    let end = prepares.ends.get(&need).map(|(end, _)| end);
                    self.fail_unprepared(job, layout, &plan.node(need).id, end);
                }
                why => self.skip_job(job, layout, plan, why),
            }
        }
        // Records of jobs were added in the order of their starts.
        self.update(|record| {
            let positions: HashMap<&str, usize> =
                jobs.iter().enumerate().map(|(position, job)| (job.id.as_str(), position)).collect();
            record.jobs.sort_by_key(|job| positions.get(job.id.as_str()).copied());
        });
    }

    /// Waits for a message; when the record has to be written first, not longer than that.
    fn next(&mut self, messages: &Receiver<Message>) -> Option<Message> {
        if !self.dirty || self.records_problem.is_some() {
            return messages.recv().ok();
        }
        let since = self.around.tools.clock.monotonic().saturating_sub(self.recorded);
        messages.recv_timeout(RECORD_INTERVAL.saturating_sub(since)).ok()
    }

    fn handle(&mut self, message: Message, jobs: &[JobSpec]) {
        match message {
            Message::LogGrew { job, host_bytes, guest_bytes } => self.emit(RunLifecycleEvent::LogProgress {
                run_id: self.record.run_id.clone(),
                job_id: jobs[job].id.clone(),
                host_log_bytes: host_bytes,
                guest_log_bytes: guest_bytes,
            }),
            Message::CleanedUp { job, cleaned } => self.clean_up(job.map(|job| &jobs[job]), cleaned),
            Message::ReporterFailed(error) => {
                self.around.cancel.cancel(CancelReason::ReporterFailed);
                self.update(|record| record.warnings.push(format!("the output was closed: {error}")));
            }
            // The token itself says so; the message wakes the loop.
            Message::Cancelled => {
                self.cancelled_at.get_or_insert_with(|| self.around.tools.clock.monotonic());
            }
            Message::JobEnded { .. } | Message::PrepareEnded { .. } | Message::JobRetried { .. } => {}
        }
    }

    /// Waits until nothing is left to clean up; not long once the run was cancelled.
    fn await_cleanups(&mut self, cleanups: &Cleanups, jobs: &[JobSpec], messages: &Receiver<Message>) {
        let clock = Arc::clone(&self.around.tools.clock);
        while self.cleaned_up < cleanups.begun() {
            self.save_if_due();
            let left = self.cancelled_at.map(|cancelled| {
                cancelled.saturating_add(CLEANUP_AFTER_CANCEL).saturating_sub(clock.monotonic())
            });
            let message = match left.map(|left| messages.recv_timeout(left)) {
                None => messages.recv().ok(),
                Some(Ok(message)) => Some(message),
                Some(Err(RecvTimeoutError::Timeout)) => {
                    cleanups.hurry();
                    messages.recv().ok()
                }
                Some(Err(RecvTimeoutError::Disconnected)) => None,
            };
            let Some(message) = message else { return };
            self.handle(message, jobs);
        }
    }

    /// What came of cleaning up after a job that was told already: into its log and its record.
    fn clean_up(&mut self, job: Option<&JobSpec>, cleaned: Cleaned) {
        self.cleaned_up += 1;
        if cleaned == Cleaned::default() {
            return;
        }
        let Some(job) = job else {
            return cleaned.lines.into_iter().chain(cleaned.warnings).for_each(|line| self.warn(line));
        };
        let layout = self.layout().job(&job.id);
        for line in cleaned.log_lines() {
            if let Err(error) = append_engine_line(&layout.host_log(), &self.masked(line)) {
                self.warn(format!("{}: {error}", layout.host_log().display()));
            }
        }
        let warnings: Vec<String> = cleaned.warnings.into_iter().map(|line| self.masked(line)).collect();
        let left: Vec<String> = cleaned.left_behind.into_iter().map(|line| self.masked(line)).collect();
        if let Some(record) = self.record.jobs.iter_mut().find(|record| record.id == job.id) {
            record.warnings.extend(warnings.iter().cloned());
            record.left_behind.extend(left.iter().cloned());
            let record = record.clone();
            let stored = self.store.write_job(&layout, &record);
            self.note_problem(stored);
        }
        self.dirty = true;
        // Its job was told without.
        let left = left.into_iter().map(|line| format!("left behind: {line}"));
        for message in left.chain(warnings) {
            let (run_id, job_id) = (self.record.run_id.clone(), Some(job.id.clone()));
            self.emit(RunLifecycleEvent::Warning { run_id, job_id, message });
        }
    }

    fn start_job(&mut self, job: &JobSpec, layout: &JobLayout, waited_ms: u64) -> Result<(), String> {
        let artifacts = layout.artifacts();
        std::fs::create_dir_all(&artifacts)
            .map_err(|error| format!("cannot make {}: {error}", artifacts.display()))?;
        let mut record = self.job_record(job, layout);
        record.pre_execution_prepare_duration_ms = Some(waited_ms).filter(|waited| *waited > 0);
        let stored = self.store.write_job(layout, &record);
        self.note_problem(stored);
        self.update(|run| run.jobs.push(record.clone()));
        let run_id = self.record.run_id.clone();
        self.emit(RunLifecycleEvent::JobStarted { run_id, job: Box::new(record) });
        Ok(())
    }

    fn job_record(&self, job: &JobSpec, layout: &JobLayout) -> JobRecord {
        let now = self.around.tools.clock.now();
        let mut record = JobRecord::of_spec(job, &layout.host_log(), &layout.guest_log(), now);
        record.description = self.masked(record.description);
        record
    }

    fn end_job(&mut self, job: &JobSpec, layout: &JobLayout, start: Option<Duration>, end: JobEnd) {
        let clock = &self.around.tools.clock;
        let known = self.record.jobs.iter().position(|record| record.id == job.id);
        let mut record = match known {
            Some(position) => self.record.jobs[position].clone(),
            None => self.job_record(job, layout),
        };
        let JobEnd { report, attempts } = end;
        let outcome = report.outcome;
        record.verdict = outcome.verdict;
        record.finished_at = Some(clock.now());
        record.duration_ms =
            start.map(|start| crate::executor::millis(clock.monotonic().saturating_sub(start)));
        record.exit_code = outcome.exit_code;
        record.signal = outcome.signal;
        record.message = Some(outcome.message);
        record.leaked = outcome.leaked;
        record.left_behind = outcome.left_behind;
        record.warnings = outcome.warnings;
        record.phases = report.phases;
        record.environment = report.environment;
        record.artifacts = report.artifacts;
        record.remote_linux_vm_execution = report.guest;
        record.flaky = record.verdict == Verdict::Passed && !attempts.is_empty();
        record.attempts = attempts;
        let stored = self.store.write_job(layout, &record);
        self.note_problem(stored);
        let run_id = self.record.run_id.clone();
        for phase in &record.phases {
            self.emit(RunLifecycleEvent::PhaseFinished {
                run_id: run_id.clone(),
                job_id: Some(job.id.clone()),
                phase: phase.phase.clone(),
                duration_ms: phase.duration_ms,
            });
        }
        for message in &record.warnings {
            let (job_id, message) = (Some(job.id.clone()), message.clone());
            self.emit(RunLifecycleEvent::Warning { run_id: run_id.clone(), job_id, message });
        }
        self.update(|run| match known {
            Some(position) => run.jobs[position] = record.clone(),
            None => run.jobs.push(record.clone()),
        });
        self.emit(RunLifecycleEvent::JobFinished { run_id, job: Box::new(record) });
    }

    fn retry_job(
        &mut self,
        job: &JobSpec,
        layout: &JobLayout,
        failed: AttemptRecord,
        (next, of): (u32, u32),
    ) {
        let known = self.record.jobs.iter_mut().find(|record| record.id == job.id);
        if let Some(record) = known {
            record.attempts.push(failed.clone());
            let record = record.clone();
            let stored = self.store.write_job(layout, &record);
            self.note_problem(stored);
        }
        self.dirty = true;
        let (run_id, job_id) = (self.record.run_id.clone(), job.id.clone());
        self.emit(RunLifecycleEvent::JobRetry { run_id, job_id, failed: Box::new(failed), next, of });
    }

    /// A text that was not made by a job: it may quote one all the same.
    fn masked(&self, text: String) -> String {
        match &self.around.masker {
            Some(masker) => masker.text(&text),
            None => text,
        }
    }

    /// A job that never started. It has no events of its own.
    fn skip_job(&mut self, job: &JobSpec, layout: &JobLayout, plan: &RunPlan, why: NotStarted) {
        // People know jobs by their names; a prepare node has no other name than its own.
        let name = |node: NodeIndex| match &plan.node(node).work {
            NodeWork::Execute(work) => &work.job_id,
            _ => &plan.node(node).id,
        };
        let message = match why {
            NotStarted::NeedFailed(node) => format!("not run: {} did not pass", name(node)),
            NotStarted::FailFast(node) => format!("not run: {} failed", name(node)),
            NotStarted::Cancelled => match self.around.cancel.reason() {
                Some(reason) => format!("not run: {reason}"),
                None => "not run".to_owned(),
            },
        };
        let mut record = self.job_record(job, layout);
        record.verdict = Verdict::Skipped;
        record.finished_at = Some(record.started_at);
        record.message = Some(message);
        self.update(|run| run.jobs.push(record));
    }

    /// The end: the verdict of the whole, the terminal record, the last event.
    pub(crate) fn finish(mut self, verdict: Option<Verdict>, message: Option<String>) -> RunRecord {
        let clock = Arc::clone(&self.around.tools.clock);
        let mut verdict = verdict.unwrap_or_else(|| judge(&self.record.jobs, self.around.cancel.reason()));
        let mut message = message;
        if let Some(problem) = &self.records_problem {
            verdict = Verdict::Failed(FailureKind::Infrastructure);
            message = Some(format!("the records could not be written: {problem}"));
        }
        let message = message.map(|message| self.masked(message));
        let duration = clock.monotonic().saturating_sub(self.started);
        let skipped = verdict == Verdict::Skipped;
        self.update(|record| {
            record.verdict = verdict;
            record.finished_at = Some(if skipped { record.created_at } else { clock.now() });
            record.duration_ms = Some(crate::executor::millis(duration));
            if message.is_some() {
                record.message = message;
            }
        });
        if self.records_problem.is_some() {
            self.store_the_rest();
        }
        // Whoever is told of the end may read the record at once.
        let written = self.store.write_record(&self.record, true);
        let incomplete = written.err().map(|error| {
            let message =
                format!("the record of run {} is incomplete: {}", self.record.run_id, with_causes(&error));
            self.update(|record| {
                record.verdict = Verdict::Failed(FailureKind::Infrastructure);
                record.message = Some(message);
            });
        });
        // What has stopped the records so far must not stop the last one.
        self.records_problem = None;
        self.emit(RunLifecycleEvent::RunFinished { run: Box::new(self.record.clone()) });
        // Without a terminal record the run stays in the list of the unfinished, to be found by
        // the next command.
        if incomplete.is_none()
            && let Err(error) = self.store.close()
        {
            self.record.warnings.push(with_causes(&error));
        }
        self.record
    }
}

/// The verdict of a run: its heaviest failure; cancelled when that is why jobs did not run.
fn judge(jobs: &[JobRecord], cancelled: Option<CancelReason>) -> Verdict {
    let heaviest = jobs.iter().filter_map(|job| job.verdict.failure_kind()).max();
    let cancelled = match cancelled {
        Some(CancelReason::RecordsFailed) => Some(FailureKind::Infrastructure),
        Some(_) if jobs.iter().any(|job| job.verdict != Verdict::Passed) => Some(FailureKind::Cancelled),
        // Cancelled too late to change anything.
        Some(_) | None => None,
    };
    match heaviest.max(cancelled) {
        Some(kind) => Verdict::Failed(kind),
        None => Verdict::Passed,
    }
}
