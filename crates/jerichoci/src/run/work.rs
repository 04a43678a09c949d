//! One job on its worker thread: its attempts, and the log of each.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use jericho_host::{CancelToken, OutputSink};

use super::attempts;
use super::dispatch::Message;
use super::layout::{JobLayout, RunLayout};
use super::logs::LogWriter;
use super::plan::NodeIndex;
use super::watch::OutputWatch;
use crate::causes::with_causes;
use crate::executor::workspace::RunSource;
use crate::executor::{JobContext, JobLog, JobReport, Prepared, Tools, for_job, millis};
use crate::model::attempt::AttemptRecord;
use crate::model::job::JobSpec;
use crate::model::outcome::{JobOutcome, Verdict};
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
    /// Of a job that got nowhere.
    pub(super) fn errored(problem: String) -> Self {
        let report = JobReport { outcome: JobOutcome::errored(problem), ..JobReport::default() };
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
            let record = || AttemptRecord {
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
            if !over {
                match attempts::next(self.layout, attempt + 1) {
                    Ok(next) => {
                        let failed = record();
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
                records.push(record());
            }
            earlier.add(report, "");
            return JobEnd { report: earlier, attempts: records };
        }
        JobEnd::errored("it was tried too often".to_owned())
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
        let told = self.tools.clock.monotonic();
        let inner = ToldLog { writer, work: self, told, told_bytes: 0 };
        let mask = self.masker.as_ref().map(|masker| MaskStream::new(Arc::clone(masker)));
        let mut log = MaskedLog { inner, mask };
        let mut report = for_job(self.job, self.tools).execute(JobContext {
            spec: self.job,
            args: self.args,
            tag: format!("{}/{}/{}", self.run_id, self.job.id, (self.fresh_id)()),
            cache_dir: &self.cache_dir,
            scratch: &self.layout.scratch(),
            artifacts: &self.layout.artifacts(),
            log: &mut log,
            masker: self.masker.as_ref(),
            source: self.source,
            prepared: &self.prepared,
            cancel: self.cancel,
        });
        let finished = log.let_by().and_then(|()| log.inner.writer.finish());
        if let Err(error) = finished {
            report.outcome = JobOutcome::errored(format!("the host log could not be kept: {error}"));
        }
        report
    }
}

/// A log that masks secrets, where there are any.
struct MaskedLog<'a> {
    inner: ToldLog<'a>,
    mask: Option<MaskStream>,
}

impl MaskedLog<'_> {
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

/// A log that tells the dispatcher, now and then, how far it is. It is told by what is written,
/// so a quiet job costs nothing.
struct ToldLog<'a> {
    writer: LogWriter,
    work: &'a Work<'a>,
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
                let _ = self.work.sender.send(Message::LogGrew { job: self.work.index, bytes });
                self.told_bytes = bytes;
            }
            self.told = now;
        }
    }
}
