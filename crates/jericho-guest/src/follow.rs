//! Tells what becomes of a request as it happens: log, events, result. Whoever reads it may go at any time and
//! come back; it changes nothing.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use pika_cloud::{IncusGuestRunRequest, RuntimePaths};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use crate::BOOTSTRAP_ERROR;
use crate::frame;
use crate::plan::Plan;
use crate::runner::complain;
use crate::state::{RUNNER, Runner};
use crate::verdict::one_line;

/// Bytes of the log in one frame.
const PIECE: usize = 256 << 10;
/// How often is looked where the kernel has no more watches to give.
const UNWATCHED: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Tells until there is a result, or nobody that could write one, or nobody who listens.
pub(crate) fn follow(request: &Path, offset: u64, seq: u64) -> u8 {
    match try_follow(request, offset, seq) {
        Ok(()) => 0,
        Err(message) => {
            complain(&message);
            BOOTSTRAP_ERROR
        }
    }
}

fn try_follow(request: &Path, offset: u64, seq: u64) -> Result<(), String> {
    let request = IncusGuestRunRequest::load(request).map_err(|error| one_line(&error))?;
    let paths = Plan::paths(&request);
    let watch = Watch::new(&paths);
    let runner = RunnerProcess::of(&paths);
    let mut follower = Follower { paths, offset, seq, events: 0, out: io::stdout() };
    loop {
        // Asked before anything is read: what the one wrote before it went is then read.
        let over = !runner.is_alive();
        let result = fs::read(&follower.paths.result_path).ok();
        let told = follower.tell_news().and_then(|()| match &result {
            Some(result) => follower.put("result", &[], result),
            None if over => follower.put("gone", &[], &[]),
            None => Ok(()),
        });
        if let Err(error) = told.and_then(|()| follower.out.flush()) {
            // Nobody listens any more.
            return if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(one_line(&error)) };
        }
        if result.is_some() || over {
            return Ok(());
        }
        if !watch.wait(&runner).map_err(|error| one_line(&error))? {
            return Ok(());
        }
    }
}

struct Follower {
    paths: RuntimePaths,
    /// Bytes of the log that were told.
    offset: u64,
    /// Number of the last event that was told.
    seq: u64,
    /// Bytes of the events that were read.
    events: u64,
    out: io::Stdout,
}

impl Follower {
    fn put(&mut self, kind: &str, numbers: &[u64], body: &[u8]) -> io::Result<()> {
        frame::put(&mut self.out, kind, numbers, body)
    }

    fn tell_news(&mut self) -> io::Result<()> {
        self.tell_events()?;
        self.tell_log()
    }

    fn tell_log(&mut self) -> io::Result<()> {
        let mut log = match File::open(&self.paths.guest_log_path) {
            Ok(log) => log,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        log.seek(SeekFrom::Start(self.offset))?;
        let mut piece = vec![0; PIECE];
        loop {
            let count = log.read(&mut piece)?;
            if count == 0 {
                return Ok(());
            }
            self.put("log", &[self.offset], &piece[..count])?;
            self.offset += count as u64;
        }
    }

    fn tell_events(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        match File::open(&self.paths.events_path) {
            Ok(mut events) => {
                events.seek(SeekFrom::Start(self.events))?;
                events.read_to_end(&mut text)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        // One that is still being written is left for the next time.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.events += whole as u64;
        for event in pika_cloud::parse_events(&text[..whole], self.seq).events {
            if event.seq > self.seq {
                self.put("event", &[event.seq], &serde_json::to_vec(&event)?)?;
                self.seq = event.seq;
            }
        }
        Ok(())
    }
}

/// The process that is to write the result.
struct RunnerProcess(Option<OwnedFd>);

impl RunnerProcess {
    fn of(paths: &RuntimePaths) -> Self {
        let held = || {
            let text = fs::read(Path::new(&paths.state_dir).join(RUNNER)).ok()?;
            let runner: Runner = serde_json::from_slice(&text).ok()?;
            let pid = Pid::from_raw(i32::try_from(runner.process.pid).ok()?)?;
            let held = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
            // After it is held, so that this is not about another process with its number.
            jericho_host::sys::is_alive(&runner.process).ok()?.then_some(held)
        };
        Self(held())
    }

    fn is_alive(&self) -> bool {
        let Some(held) = &self.0 else { return false };
        let mut fds = [PollFd::new(held, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        !matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(1))
    }
}

/// Wakes when a file of the request changes.
struct Watch(Option<OwnedFd>);

impl Watch {
    /// Of the directories of log, events and result. Nothing where there are no watches left.
    fn new(paths: &RuntimePaths) -> Self {
        let made = || -> Result<OwnedFd, Errno> {
            let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
            let changes = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
            let mut seen: Vec<&Path> = Vec::new();
            for file in [&paths.guest_log_path, &paths.events_path, &paths.result_path] {
                let dir = Path::new(file).parent().unwrap_or(Path::new("/"));
                if !seen.contains(&dir) {
                    inotify::add_watch(&fd, dir, changes)?;
                    seen.push(dir);
                }
            }
            Ok(fd)
        };
        Self(made().ok())
    }

    /// Waits for a change, or for the end of the runner. False when nobody listens any more.
    fn wait(&self, runner: &RunnerProcess) -> io::Result<bool> {
        let stdin = io::stdin();
        let mut fds = vec![PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)];
        fds.extend(runner.0.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        fds.extend(self.0.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let limit = if self.0.is_some() { None } else { Some(&UNWATCHED) };
        match rustix::event::poll(&mut fds, limit) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if !fds[0].revents().is_empty() && io::stdin().read(&mut [0; 64])? == 0 {
            return Ok(false);
        }
        if let Some(fd) = &self.0 {
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut reader = inotify::Reader::new(fd, &mut buffer);
            // What has changed is found by looking.
            while reader.next().is_ok() {}
        }
        Ok(true)
    }
}
