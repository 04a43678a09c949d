//! One job on its worker thread: its attempts, and the log of each.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use jericho_host::{CancelToken, OutputSink};

use super::attempts;
use super::cleanups::Cleanups;
use super::dispatch::Message;
use super::layout::{JobLayout, RunLayout};
use super::logs::{LogWriter, append_engine_line};
use super::plan::NodeIndex;
use super::watch::OutputWatch;
use crate::causes::with_causes;
use crate::executor::after::{Cleaned, Fate};
use crate::executor::workspace::RunSource;
use crate::executor::{JobContext, JobLog, JobReport, Prepared, Tools, for_job, millis};
use crate::model::attempt::AttemptRecord;
use crate::model::job::JobSpec;
use crate::model::outcome::{FailureKind, JobOutcome, Verdict};
use jericho_host::secrets::{MaskStream, Masker};

/// A growing log is told at most this often.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// One job, ready to be carried out.
pub(super) struct Work<'a> {
    pub(super) node: NodeIndex,
    pub(super) index: usize,
    pub(super) run_id: &'a str,
    pub(super) job: &'a JobSpec,
    pub(super) args: &'a [String],
    pub(super) run: &'a RunLayout,
    pub(super) layout: &'a JobLayout,
    pub(super) fresh_id: &'a (dyn Fn() -> String + Sync),
    pub(super) cache_dir: PathBuf,
    pub(super) source: &'a RunSource,
    pub(super) prepared: Prepared,
    pub(super) tools: &'a Tools,
    pub(super) cancel: &'a CancelToken,
    /// Nothing new starts any more, another attempt neither.
    pub(super) stopped: &'a AtomicBool,
    /// Absent where there is nothing to mask.
    pub(super) masker: Option<Arc<Masker>>,
    pub(super) watch: Option<Arc<dyn OutputWatch>>,
    pub(super) sender: Sender<Message>,
    /// A guest whose job did not pass is kept.
    pub(super) keep_on_failure: bool,
    pub(super) cleanups: &'a Cleanups,
    /// Bytes of the host log and of the guest log.
    pub(super) log_sizes: [AtomicU64; 2],
}

/// One of the two logs of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Host = 0,
    Guest = 1,
}

/// How a job ended, with everything that came before its last attempt.
#[derive(Debug)]
pub(crate) struct JobEnd {
    /// The last attempt; phases, warnings and left-overs are of all.
    pub(crate) report: JobReport,
    /// All attempts, when there was more than one.
    pub(crate) attempts: Vec<AttemptRecord>,
}

impl JobEnd {
    /// Of a job that got nowhere, by no fault of its own.
    pub(super) fn errored(problem: String) -> Self {
        Self::without_work(JobOutcome::errored(problem))
    }

    /// Of a job that got nowhere.
    pub(super) fn without_work(outcome: JobOutcome) -> Self {
        let report = JobReport { outcome, ..JobReport::default() };
        Self { report, attempts: Vec::new() }
    }
}

impl Work<'_> {
    /// Always sends exactly one end, also when the executor panics: a run never hangs.
    pub(super) fn run(self) {
        let end = self.attempts();
        if let Some(watch) = &self.watch {
            watch.ended(&self.job.id);
        }
        let _ = self.sender.send(Message::JobEnded { node: self.node, end: Box::new(end) });
    }

    fn attempts(&self) -> JobEnd {
        let of = self.job.retries.saturating_add(1);
        let mut earlier = JobReport::default();
        let mut records = Vec::new();
        let mut log = self.layout.host_log();
        for attempt in 1.. {
            let (started_at, start) = (self.tools.clock.now(), self.tools.clock.monotonic());
            let mut report = self.attempt(&log);
            let over = report.outcome.verdict == Verdict::Passed
                || attempt == of
                || self.cancel.is_cancelled()
                || self.stopped.load(Ordering::Acquire);
            let record = |report: &JobReport| AttemptRecord {
                attempt,
                verdict: report.outcome.verdict,
                host_log_path: self.recorded_log(attempt),
                started_at,
                finished_at: Some(self.tools.clock.now()),
                duration_ms: Some(millis(self.tools.clock.monotonic().saturating_sub(start))),
                exit_code: report.outcome.exit_code,
                signal: report.outcome.signal,
                message: Some(report.outcome.message.clone()),
            };
            self.clean_up(&mut report, over, &log);
            if !over {
                match attempts::next(self.layout, attempt + 1) {
                    Ok(next) => {
                        let failed = record(&report);
                        records.push(failed.clone());
                        earlier.add(report, &format!("attempt {attempt}: "));
                        let (job, next_attempt) = (self.index, attempt + 1);
                        let retry =
                            Message::JobRetried { job, failed: Box::new(failed), next: next_attempt, of };
                        let _ = self.sender.send(retry);
                        if let Some(watch) = &self.watch {
                            watch.ended(&self.job.id);
                        }
                        log = next;
                        continue;
                    }
                    Err(error) => report.outcome.warnings.push(format!("it is not tried again: {error}")),
                }
            }
            if attempt > 1 {
                records.push(record(&report));
            }
            earlier.add(report, "");
            return JobEnd { report: earlier, attempts: records };
        }
        JobEnd::errored("it was tried too often".to_owned())
    }

    /// Sees to what an attempt has left to do: at once when somebody waits for what comes of it, else in the
    /// background of the run.
    fn clean_up(&self, report: &mut JobReport, over: bool, log: &std::path::Path) {
        let Some(cleanup) = report.cleanup.take() else { return };
        let verdict = report.outcome.verdict;
        let is_cancelled = verdict == Verdict::Failed(FailureKind::Cancelled);
        let fate = match self.keep_on_failure && over && verdict != Verdict::Passed && !is_cancelled {
            true => Fate::Keep,
            false if over => return self.cleanups.begin(cleanup, Some(self.index), self.sender.clone()),
            // The next attempt needs its name.
            false => Fate::Remove,
        };
        let mut cleaned = self.cleanups.now(cleanup, fate);
        if let Some(masker) = &self.masker {
            let Cleaned { lines, warnings, left_behind, .. } = &mut cleaned;
            for line in lines.iter_mut().chain(warnings).chain(left_behind) {
                *line = masker.text(line);
            }
        }
        for line in cleaned.log_lines() {
            if let Err(error) = append_engine_line(log, &line) {
                report.outcome.warnings.push(format!("the host log could not be written: {error}"));
                break;
            }
        }
        report.clean(cleaned);
    }

    /// Where the log of an attempt lies once there is a second one.
    fn recorded_log(&self, attempt: u32) -> String {
        let log = self.layout.attempt(attempt).host_log();
        log.strip_prefix(self.run.dir()).unwrap_or(&log).to_string_lossy().into_owned()
    }

    fn attempt(&self, log: &std::path::Path) -> JobReport {
        let mut report = catch_unwind(AssertUnwindSafe(|| self.execute(log))).unwrap_or_else(|panic| {
            let text = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "no message".to_owned());
            let mut report = JobEnd::errored(format!("the engine panicked in this job: {text}")).report;
            // The executor did not come to it, and secrets may lie there.
            if let Err(error) = self.tools.host.remove(&self.layout.scratch()) {
                report.outcome.warnings.push(with_causes(&error));
            }
            report
        });
        if let Some(masker) = &self.masker {
            report.conceal(masker);
        }
        report
    }

    fn execute(&self, path: &std::path::Path) -> JobReport {
        let writer = LogWriter::create(path, self.tools.config.log_cap_bytes)
            .and_then(|writer| attempts::show(self.layout, path).map(|()| writer));
        let writer = match writer {
            Ok(writer) => writer,
            Err(error) => {
                return JobEnd::errored(format!("the host log cannot be made: {error}")).report;
            }
        };
        let mut log = MaskedLog::new(writer, self, Which::Host);
        let mut guest_log = GuestLog { work: self, log: None };
        let mut report = for_job(self.job, self.tools).execute(JobContext {
            spec: self.job,
            args: self.args,
            run_id: self.run_id,
            tag: format!("{}/{}/{}", self.run_id, self.job.id, (self.fresh_id)()),
            cache_dir: &self.cache_dir,
            scratch: &self.layout.scratch(),
            artifacts: &self.layout.artifacts(),
            dir: self.layout.dir(),
            may_be_kept: self.keep_on_failure,
            for_a_person: false,
            log: &mut log,
            guest_log: &mut guest_log,
            masker: self.masker.as_ref(),
            source: self.source,
            prepared: &self.prepared,
            cancel: self.cancel,
        });
        let kept = log.finish().map_err(|error| format!("the host log could not be kept: {error}"));
        let guest = guest_log.log.map_or(Ok(()), MaskedLog::finish);
        let guest = guest.map_err(|error| format!("the guest log could not be kept: {error}"));
        if let Err(problem) = kept.and(guest) {
            report.outcome = JobOutcome::errored(problem);
        }
        report
    }
}

/// A log that masks secrets, where there are any.
struct MaskedLog<'a> {
    inner: ToldLog<'a>,
    mask: Option<MaskStream>,
}

impl<'a> MaskedLog<'a> {
    fn new(writer: LogWriter, work: &'a Work<'a>, which: Which) -> Self {
        let told = work.tools.clock.monotonic();
        let inner = ToldLog { writer, work, which, told, told_bytes: 0 };
        let mask = work.masker.as_ref().map(|masker| MaskStream::new(Arc::clone(masker)));
        Self { inner, mask }
    }

    fn finish(mut self) -> std::io::Result<()> {
        self.let_by()?;
        self.inner.writer.finish().map(drop)
    }

    /// Writes what was held back because it might have been the beginning of a secret.
    fn let_by(&mut self) -> std::io::Result<()> {
        let inner = &mut self.inner;
        self.mask.as_mut().map_or(Ok(()), |mask| mask.finish(&mut |bytes| inner.write(bytes)))
    }
}

impl OutputSink for MaskedLog<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let inner = &mut self.inner;
        match &mut self.mask {
            None => inner.write(bytes),
            Some(mask) => mask.push(bytes, &mut |bytes| inner.write(bytes)),
        }
    }
}

impl JobLog for MaskedLog<'_> {
    fn engine_line(&mut self, line: &str) -> std::io::Result<()> {
        self.let_by()?;
        match &self.inner.work.masker {
            None => self.inner.engine_line(line),
            Some(masker) => self.inner.engine_line(&masker.text(line)),
        }
    }
}

/// The guest log, made with its first byte: a host process has none.
struct GuestLog<'a> {
    work: &'a Work<'a>,
    log: Option<MaskedLog<'a>>,
}

impl OutputSink for GuestLog<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let log = match self.log.take() {
            Some(log) => log,
            None => {
                let path = self.work.layout.guest_log();
                let writer = LogWriter::create(&path, self.work.tools.config.log_cap_bytes)?;
                MaskedLog::new(writer, self.work, Which::Guest)
            }
        };
        self.log.insert(log).write(bytes)
    }
}

/// A log that tells the dispatcher, now and then, how far it is. It is told by what is written,
/// so a quiet job costs nothing.
struct ToldLog<'a> {
    writer: LogWriter,
    work: &'a Work<'a>,
    which: Which,
    told: Duration,
    told_bytes: u64,
}

impl ToldLog<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.writer.write(bytes)?;
        if let Some(watch) = &self.work.watch {
            watch.output(&self.work.job.id, bytes);
        }
        self.tell();
        Ok(())
    }

    fn engine_line(&mut self, line: &str) -> std::io::Result<()> {
        self.writer.engine_line(line)?;
        if let Some(watch) = &self.work.watch {
            watch.output(&self.work.job.id, format!("\n[jerichoci] {line}\n").as_bytes());
        }
        Ok(())
    }

    fn tell(&mut self) {
        let now = self.work.tools.clock.monotonic();
        if now.saturating_sub(self.told) >= PROGRESS_INTERVAL {
            let bytes = self.writer.size().load(Ordering::Relaxed);
            if bytes > self.told_bytes {
                self.work.log_sizes[self.which as usize].store(bytes, Ordering::Relaxed);
                let [host_bytes, guest_bytes] = [Which::Host, Which::Guest]
                    .map(|log| self.work.log_sizes[log as usize].load(Ordering::Relaxed));
                let grew = Message::LogGrew { job: self.work.index, host_bytes, guest_bytes };
                let _ = self.work.sender.send(grew);
                self.told_bytes = bytes;
            }
            self.told = now;
        }
    }
}
