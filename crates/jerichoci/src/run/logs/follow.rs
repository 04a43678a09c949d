//! Reads a log while it grows, to its end: `logs -f`.
//!
//! It sleeps until the kernel tells of a write (inotify) or of the end of the engine (its lock).
//! Where there is no inotify, or the user's share of it is used up, it looks ten times a second.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jericho_host::CancelToken;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::read::LogFile;
use crate::beneath;
use crate::engine::EngineError;
use crate::model::id::{RunId, check_name};
use crate::model::outcome::Verdict;
use crate::model::record::JobRecord;
use crate::run::layout::{JobLayout, Layout, RunLayout};
use crate::run::owner::is_alive;
use crate::run::read::load_run_record;
use crate::run::store::{RunSpecRecord, read_json};

/// How often is looked where nothing tells.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A log from its first byte on. [`Read::read`] blocks until there is more and returns 0 once the
/// job has ended and everything was read, or the token was cancelled. When the job is tried
/// again, what follows is the log of the next attempt.
#[derive(Debug)]
pub struct LogFollower {
    run: RunLayout,
    job: JobLayout,
    log: LogFile,
    file: Option<File>,
    /// Of the next attempt: read when this one is at its end.
    next: Option<File>,
    waiter: Waiter,
    cancel: Option<CancelToken>,
}

/// Follows a log of a job of a run, the run's first job by default. The job need not have started.
///
/// # Errors
/// [`EngineError::RunNotFound`], [`EngineError::JobNotFound`], [`EngineError::NoJobs`],
/// [`EngineError::Corrupt`], [`EngineError::File`]. That there is no log is no error: it is empty.
pub fn follow_log(
    state_root: &Path,
    run_id: &RunId,
    job_id: Option<&str>,
    log: LogFile,
) -> Result<LogFollower, EngineError> {
    let record = load_run_record(state_root, run_id)?;
    let run = Layout::new(state_root).run(run_id);
    let mut known: Vec<String> = record.jobs.into_iter().map(|job| job.id).collect();
    if record.verdict == Verdict::Running {
        // Not all have started.
        let spec: Option<RunSpecRecord> = read_json(&run.spec()).ok();
        known = spec.map_or(known, |spec| spec.jobs.into_iter().map(|job| job.id).collect());
    }
    let id = match job_id {
        None => known.first().cloned().ok_or_else(|| EngineError::NoJobs { run_id: run_id.to_string() })?,
        Some(id) if known.iter().any(|job| job == id) => id.to_owned(),
        Some(id) => {
            let (job_id, known) = (id.to_owned(), known.join(", "));
            return Err(EngineError::JobNotFound { run_id: run_id.to_string(), job_id, known });
        }
    };
    check_name(&id)?;
    let waiter = Waiter::new().map_err(|source| EngineError::File {
        action: "watch",
        path: run.dir().to_path_buf(),
        source,
    })?;
    let job = run.job(&id);
    Ok(LogFollower { run, job, log, file: None, next: None, waiter, cancel: None })
}

impl LogFollower {
    /// Ends when this is cancelled, as if the log did.
    #[must_use]
    pub fn until(mut self, cancel: CancelToken) -> Self {
        self.cancel = Some(cancel);
        self
    }

    /// Whether nobody writes the log any more.
    fn is_over(&self) -> bool {
        if self.waiter.owner_is_gone() {
            return true;
        }
        let ended = fs::read(self.job.record())
            .ok()
            .and_then(|text| serde_json::from_slice::<JobRecord>(&text).ok())
            .is_some_and(|job| job.verdict != Verdict::Running);
        ended || !is_alive(&self.run)
    }

    /// Looks whether there is a file that is not read yet.
    fn look(&mut self) -> io::Result<()> {
        let found = match beneath::open_file(self.job.dir(), Path::new(self.log.relative())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        let id = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino()));
        match &self.file {
            None => self.file = Some(found),
            Some(file) if id(file)? != id(&found)? => self.next = Some(found),
            Some(_) => {}
        }
        Ok(())
    }

    fn paths(&self) -> [PathBuf; 4] {
        let log = self.job.dir().join(self.log.relative());
        [self.run.jobs(), self.job.dir().to_path_buf(), self.job.artifacts(), log]
    }
}

impl Read for LogFollower {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.cancel.as_ref().is_some_and(CancelToken::is_cancelled) {
                return Ok(0);
            }
            // What changes from here on wakes the wait below.
            let at_end = |file: &mut Option<File>, buffer: &mut [u8]| match file {
                Some(file) => file.read(buffer),
                None => Ok(0),
            };
            match at_end(&mut self.file, buffer)? {
                0 => {}
                count => return Ok(count),
            }
            self.waiter.arm(&self.paths());
            let over = self.is_over();
            self.look()?;
            // Again: it may have grown before it was known to be over, or to be followed by another.
            match at_end(&mut self.file, buffer)? {
                0 => {}
                count => return Ok(count),
            }
            if let Some(next) = self.next.take() {
                self.file = Some(next);
                continue;
            }
            if over {
                return Ok(0);
            }
            self.waiter.wait(&self.run.owner(), self.cancel.as_ref())?;
        }
    }
}

/// Sleeps until something may have changed.
#[derive(Debug)]
struct Waiter {
    /// Tells of changes; absent where there is no such thing.
    changes: Option<OwnedFd>,
    /// Readable once nobody holds the owner's lock.
    gone: Arc<OwnedFd>,
    listens: bool,
}

impl Waiter {
    fn new() -> io::Result<Self> {
        let gone = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { changes: changes::open(), gone: Arc::new(gone), listens: false })
    }

    /// Hears of changes of these from now on, where they are there. What is heard already is
    /// forgotten: everything is looked at after this.
    fn arm(&mut self, paths: &[PathBuf]) {
        let Some(fd) = &self.changes else { return };
        if !changes::arm(fd, paths) {
            self.changes = None;
        }
    }

    fn owner_is_gone(&self) -> bool {
        let mut fds = [PollFd::new(&*self.gone, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    fn wait(&mut self, owner: &Path, cancel: Option<&CancelToken>) -> io::Result<()> {
        if !self.listens {
            self.listen(owner);
        }
        let mut fds = vec![PollFd::new(&*self.gone, PollFlags::IN)];
        fds.extend(self.changes.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
        fds.extend(cancel.map(|cancel| PollFd::from_borrowed_fd(cancel.fd(), PollFlags::IN)));
        let nanoseconds = i64::from(LOOK_INTERVAL.subsec_nanos());
        let limit = self.changes.is_none().then_some(Timespec { tv_sec: 0, tv_nsec: nanoseconds });
        match poll(&mut fds, limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A lock cannot be waited for together with something else, so a thread waits. It ends with
    /// the run, or with this process.
    fn listen(&mut self, owner: &Path) {
        self.listens = true;
        let (gone, owner) = (Arc::clone(&self.gone), owner.to_path_buf());
        std::thread::spawn(move || {
            if let Ok(file) = File::open(owner) {
                while file.lock_shared().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {}
            }
            // Adding 1 to an eventfd fails only at its maximum.
            let _ = rustix::io::write(gone.as_fd(), &1u64.to_ne_bytes());
        });
    }
}

#[cfg(target_os = "linux")]
mod changes {
    use std::mem::MaybeUninit;
    use std::os::fd::OwnedFd;
    use std::path::PathBuf;

    use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
    use rustix::io::Errno;

    pub(super) fn open() -> Option<OwnedFd> {
        init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()
    }

    /// False when no more can be watched.
    pub(super) fn arm(fd: &OwnedFd, paths: &[PathBuf]) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut heard = Reader::new(fd, &mut buffer);
        while heard.next().is_ok() {}
        let what = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DONT_FOLLOW;
        // What was watched before stays watched, and is not watched twice.
        let full = |path: &PathBuf| matches!(add_watch(fd, path, what), Err(Errno::NOSPC | Errno::NOMEM));
        !paths.iter().any(full)
    }
}

#[cfg(not(target_os = "linux"))]
mod changes {
    use std::os::fd::OwnedFd;
    use std::path::PathBuf;

    pub(super) fn open() -> Option<OwnedFd> {
        None
    }

    pub(super) fn arm(_: &OwnedFd, _: &[PathBuf]) -> bool {
        false
    }
}
