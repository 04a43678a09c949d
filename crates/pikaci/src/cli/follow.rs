//! `pikaci logs --follow`: the logs of a job as they grow, until the end of the job is recorded.
//!
//! Waits on the directories of the run, and on the lock that its engine holds as long as it lives:
//! an engine that was killed ends the waiting too.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

use jericho_host::lock::FileLock;
use jerichoci::model::id::RunId;
use jerichoci::model::outcome::Verdict;
use jerichoci::model::record::RunRecord;
use jerichoci::run::beside::open_job_log;
use jerichoci::run::layout::{JobLayout, Layout, RunLayout};
use jerichoci::run::logs::LogFile;
use jerichoci::{EngineError, load_run_record};
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use super::logs::{Kind, start_of_tail};
use super::session::Session;
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::report::note;
use crate::render::text::typed;

/// Something that may be news.
enum News {
    /// A file was written, made or renamed.
    Written(PathBuf),
    /// No engine works on the run any more.
    OwnerGone,
}

/// Prints what a job writes until its end.
pub(super) fn follow(
    session: &Session,
    run_id: &RunId,
    job: Option<&str>,
    kind: Kind,
    tail: Option<usize>,
) -> Result<Exit, CliError> {
    let state_root = session.state_root()?;
    let record = load_run_record(&state_root, run_id).map_err(|error| session.engine_error(error))?;
    let job = job_id(session, run_id, &record, job)?;
    let run = Layout::new(&state_root).run(run_id);
    let files = run.job(&job);
    let mut watch = Watch::start(&run, &files)?;
    let mut logs = Follower::new(&files, kind, tail, |log| open_job_log(&state_root, run_id, &job, log));
    // Only now is anything looked at that the watch could tell of.
    let mut ended = has_ended(session, &state_root, run_id, &job)?;
    if !ended && !files.dir().is_dir() {
        note(&format!("{job} has not started yet"));
    }
    loop {
        logs.copy()?;
        if ended {
            break;
        }
        let news = watch.next()?;
        let matters = |news: &News| match news {
            News::OwnerGone => true,
            News::Written(path) => *path == files.record() || *path == run.record(),
        };
        if news.iter().any(matters) {
            ended = has_ended(session, &state_root, run_id, &job)?;
        }
    }
    if logs.has_found_one() {
        return Ok(Exit::Success);
    }
    let error = EngineError::LogNotFound { run_id: run_id.to_string(), job_id: job, kind: kind.words() };
    Err(session.engine_error(error))
}

/// The job that is meant, which may not have started: then only the request knows it.
fn job_id(
    session: &Session,
    run_id: &RunId,
    record: &RunRecord,
    asked: Option<&str>,
) -> Result<String, CliError> {
    let spec = session.engine()?.run_spec(run_id).ok();
    let mut known: Vec<String> = match spec {
        Some(spec) => spec.jobs.into_iter().map(|job| job.id).collect(),
        None => Vec::new(),
    };
    known.extend(record.jobs.iter().map(|job| job.id.clone()));
    let found = match asked {
        None => known.first().cloned(),
        Some(asked) => known.iter().find(|id| *id == asked).cloned(),
    };
    let mut seen = HashSet::new();
    known.retain(|id| seen.insert(id.clone()));
    found.ok_or_else(|| {
        let run_id = run_id.to_string();
        session.engine_error(match asked {
            None => EngineError::NoJobs { run_id },
            Some(job) => EngineError::JobNotFound { run_id, job_id: job.to_owned(), known: known.join(", ") },
        })
    })
}

fn has_ended(session: &Session, state_root: &Path, run_id: &RunId, job: &str) -> Result<bool, CliError> {
    let record = load_run_record(state_root, run_id).map_err(|error| session.engine_error(error))?;
    let job = record.jobs.iter().find(|record| record.id == job);
    Ok(record.verdict != Verdict::Running || job.is_some_and(|job| job.verdict != Verdict::Running))
}

/// Tells of everything that is written in the directories of a run and of one job, also of those
/// that are made later.
struct Watch {
    notify: RecommendedWatcher,
    news: Receiver<News>,
    /// Those that are not there yet; the outer ones first.
    missing: Vec<PathBuf>,
}

impl Watch {
    fn start(run: &RunLayout, job: &JobLayout) -> Result<Self, CliError> {
        let (send, news) = channel();
        let told: Sender<News> = send.clone();
        let notify = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // What is lost here is told by the next event, and at the latest by the end.
            let Ok(event) = event else { return };
            let is_news = match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
                // Reading the logs opens them.
                EventKind::Access(_) => false,
                _ => true,
            };
            if is_news {
                for path in event.paths {
                    let _ = told.send(News::Written(path));
                }
            }
        });
        let notify = notify.map_err(|error| failed(run.dir(), error))?;
        let owner = run.owner();
        std::thread::spawn(move || {
            // An owner that cannot be waited for is one that is not there.
            drop(FileLock::shared_blocking(&owner));
            let _ = send.send(News::OwnerGone);
        });
        let missing = vec![run.dir().to_path_buf(), run.jobs(), job.dir().to_path_buf(), job.artifacts()];
        let mut this = Self { notify, news, missing };
        this.add()?;
        Ok(this)
    }

    /// Watches what has come to be.
    fn add(&mut self) -> Result<(), CliError> {
        while let Some(next) = self.missing.first().filter(|next| next.is_dir()) {
            let watched = self.notify.watch(next, RecursiveMode::NonRecursive);
            watched.map_err(|error| failed(next, error))?;
            self.missing.remove(0);
        }
        Ok(())
    }

    /// Waits for news.
    fn next(&mut self) -> Result<Vec<News>, CliError> {
        let mut news: Vec<News> = self.news.recv().into_iter().collect();
        news.extend(self.news.try_iter());
        let before = self.missing.len();
        self.add()?;
        if self.missing.len() != before {
            // What was written there before it was watched is news too.
            news.extend(self.missing.is_empty().then_some(News::OwnerGone));
        }
        Ok(news)
    }
}

fn failed(path: &Path, error: notify::Error) -> CliError {
    CliError::new(Exit::Infrastructure, format!("cannot follow {}", path.display()))
        .because(error)
        .hint(format!("ls -ld {}; or leave --follow out", typed(path)))
}

/// The logs of a job, and how far they were printed.
struct Follower<O> {
    logs: Vec<Log>,
    /// Opens a log, and never through a link or a pipe that a job left in its place.
    open: O,
    /// Whose heading was printed last.
    heading: Option<&'static str>,
    at_line_start: bool,
}

struct Log {
    log: LogFile,
    path: PathBuf,
    file: Option<File>,
    inode: u64,
    tail: Option<usize>,
}

impl<O: Fn(LogFile) -> io::Result<File>> Follower<O> {
    fn new(job: &JobLayout, kind: Kind, tail: Option<usize>, open: O) -> Self {
        let log = |log, path| Log { log, path, file: None, inode: 0, tail };
        let host = || log(LogFile::Host, job.host_log());
        let guest = || log(LogFile::Guest, job.guest_log());
        let logs = match kind {
            Kind::Host => vec![host()],
            Kind::Guest => vec![guest()],
            Kind::Both => vec![host(), guest()],
        };
        Self { logs, open, heading: None, at_line_start: true }
    }

    fn has_found_one(&self) -> bool {
        self.logs.iter().any(|log| log.file.is_some())
    }

    /// Prints what is new.
    fn copy(&mut self) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        for log in &mut self.logs {
            // Twice: the log of the attempt before may have grown until its name was taken.
            for _ in 0..2 {
                let Some(file) = log.file.as_mut() else {
                    log.take((self.open)(log.log));
                    continue;
                };
                let mut buffer = [0; 64 * 1024];
                loop {
                    let count = file.read(&mut buffer).map_err(|error| unreadable(&log.path, error))?;
                    let Some(last) = buffer[..count].last() else { break };
                    if self.heading != Some(log.log.as_str()) {
                        let before = if self.at_line_start { "" } else { "\n" };
                        writeln!(out, "{before}== {} ==", log.log.as_str()).map_err(CliError::output)?;
                        self.heading = Some(log.log.as_str());
                    }
                    out.write_all(&buffer[..count]).map_err(CliError::output)?;
                    self.at_line_start = *last == b'\n';
                }
                // The job is tried again.
                if log.has_another_file() && log.take((self.open)(log.log)) {
                    self.heading = None;
                }
            }
        }
        out.flush().map_err(CliError::output)
    }
}

impl Log {
    /// Goes on with this file; false when it could not be opened.
    fn take(&mut self, opened: io::Result<File>) -> bool {
        let Ok(mut file) = opened else { return false };
        self.inode = file.metadata().map(|found| found.ino()).unwrap_or_default();
        if let Some(lines) = self.tail.take() {
            let start = start_of_tail(&mut file, lines).unwrap_or_default();
            let _ = file.seek(SeekFrom::Start(start));
        }
        self.file = Some(file);
        true
    }

    fn has_another_file(&self) -> bool {
        self.path.symlink_metadata().is_ok_and(|found| found.ino() != self.inode)
    }
}

fn unreadable(path: &Path, error: io::Error) -> CliError {
    CliError::new(Exit::Infrastructure, format!("cannot read {}", path.display()))
        .because(error)
        .hint(format!("ls -ld {}", typed(path)))
}
