//! The one connection to a host: an ssh that listens on a control socket for as long as it is wanted.
//!
//! A thread starts it, waits for it and ends it. The kernel sends the master TERM when that thread is
//! gone, so that it outlives no engine, however the engine ends; and its session at the other end
//! reads from a pipe of this process, so that it also ends where there is no such signal.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitIdOptions};

use super::appears::Appears;
use super::config::{SshConfig, Words};
use super::error::{SshError, last_line};
use crate::cancel::CancelToken;
use crate::host::{Exit, HostError};
use crate::local::find_program;
use crate::local::pump::pipe;
use crate::local::session::{pidfd, wait_for};
use crate::wait::{is_ready, now, wait};

/// What the session of the master runs: says that everything is up, then waits for its end.
const HOLD: &str = "echo jericho-ready; exec cat";
const READY: &[u8] = b"jericho-ready";
/// How long a master gets to end in order: it removes its socket.
const PATIENCE: Duration = Duration::from_secs(2);
/// `sun_path` less its end, and less the ending that ssh gives the socket while it makes it.
const LONGEST_SOCKET: usize = 107 - 17;
/// What is kept of its words.
const SAID: usize = 8 << 10;

/// A connection that is up.
#[derive(Debug)]
pub(super) struct Master {
    pub(super) socket: PathBuf,
    pub(super) pid: u32,
    /// What the ssh of this machine knows.
    pub(super) words: Words,
    ended: OwnedFd,
    /// Closed, it ends the master.
    stop: Option<OwnedFd>,
    keeper: Option<JoinHandle<()>>,
    said: Arc<Mutex<Vec<u8>>>,
    fate: Arc<Mutex<Option<SshError>>>,
}

/// What the keeper tells once.
type Up = Result<(u32, OwnedFd), HostError>;

impl Master {
    /// Connects. An ssh that is too old for some of the words is started once more, without them.
    pub(super) fn connect(config: &SshConfig, cancel: &CancelToken) -> Result<Self, HostError> {
        match Self::connect_with(config, Words::All, cancel) {
            Err(HostError::Ssh(SshError::Connect { reason, .. })) if Words::are_unknown(&reason) => {
                Self::connect_with(config, Words::Before8_7, cancel)
            }
            connected => connected,
        }
    }

    fn connect_with(config: &SshConfig, words: Words, cancel: &CancelToken) -> Result<Self, HostError> {
        if let Some(reason) = cancel.reason() {
            return Err(HostError::Cancelled(reason));
        }
        let socket = free_socket(config)?;
        let (stop_reader, stop) = pipe(None).map_err(|e| HostError::System("cannot make a pipe", e))?;
        let said = Arc::new(Mutex::new(Vec::new()));
        let fate = Arc::new(Mutex::new(None));
        let (tell, told) = mpsc::sync_channel::<Up>(1);
        let keeper = Keeper {
            config: config.clone(),
            words,
            socket: socket.clone(),
            cancel: cancel.clone(),
            stop: stop_reader,
            said: Arc::clone(&said),
            fate: Arc::clone(&fate),
        };
        let thread = std::thread::Builder::new()
            .name("ssh-master".into())
            .spawn(move || keeper.keep(&tell))
            .map_err(|error| HostError::System("cannot start a thread", error))?;
        let up = told.recv().unwrap_or_else(|_| {
            Err(HostError::System("the thread of the ssh master is gone", io::ErrorKind::BrokenPipe.into()))
        });
        match up {
            Ok((pid, ended)) => {
                Ok(Self { socket, pid, words, ended, stop: Some(stop), keeper: Some(thread), said, fate })
            }
            Err(error) => {
                // It ends what it has started before it ends.
                let _ = thread.join();
                Err(error)
            }
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        !is_ready(self.ended.as_fd())
    }

    /// The last words of the master, for people.
    pub(super) fn last_words(&self) -> Option<String> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        (!said.is_empty()).then(|| last_line(&String::from_utf8_lossy(&said)))
    }

    /// What the shell of the account had against its session, when that has ended it at once.
    pub(super) fn fate(&self) -> Option<SshError> {
        self.fate.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits a moment for the end of a master that is about to end, and says whether it has.
    pub(super) fn ends_within(&self, patience: Duration) -> bool {
        let mut fds = [PollFd::new(&self.ended, PollFlags::IN)];
        let _ = wait(&mut fds, Some(now().saturating_add(patience)));
        !self.is_alive()
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

/// The thread of a master, and what it needs.
struct Keeper {
    config: SshConfig,
    words: Words,
    socket: PathBuf,
    cancel: CancelToken,
    stop: OwnedFd,
    said: Arc<Mutex<Vec<u8>>>,
    fate: Arc<Mutex<Option<SshError>>>,
}

/// Its streams on this side.
struct Streams {
    /// Held open for as long as the master is wanted.
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Keeper {
    fn keep(self, tell: &mpsc::SyncSender<Up>) {
        // Before there is anything to be seen.
        let appears = Appears::of(&self.socket);
        let (mut child, mut streams, ended) = match self.start() {
            Ok(started) => started,
            Err(error) => return drop(tell.send(Err(error))),
        };
        let mut heard = Vec::new();
        let up = self.until_up(&child, &ended, &mut streams, &appears, &mut heard).and_then(|()| {
            let ended = ended.try_clone().map_err(|e| HostError::System("cannot watch ssh", e))?;
            Ok((child.id(), ended))
        });
        if let Err(error) = up {
            end(&mut child, &ended, &mut streams, &self.socket);
            return drop(tell.send(Err(error)));
        }
        if tell.send(up).is_err() {
            return end(&mut child, &ended, &mut streams, &self.socket);
        }
        drop(appears);
        loop {
            let mut fds = vec![PollFd::new(&ended, PollFlags::IN), PollFd::new(&self.stop, PollFlags::IN)];
            fds.extend(streams.outputs().map(|fd| PollFd::new(fd, PollFlags::IN)));
            let waited = wait(&mut fds, None);
            drop(fds);
            let answered = has_answered(&heard);
            self.read(&mut streams, (!answered).then_some(&mut heard));
            if is_ready(ended.as_fd()) && !has_answered(&heard) {
                let why = self.why_it_ended(&child, &heard);
                let why = why.ok().filter(|why| matches!(why, SshError::Shell { .. }));
                *self.fate.lock().unwrap_or_else(PoisonError::into_inner) = why;
            }
            if waited.is_err() || is_ready(ended.as_fd()) || is_ready(self.stop.as_fd()) {
                return end(&mut child, &ended, &mut streams, &self.socket);
            }
        }
    }

    fn start(&self) -> Result<(Child, Streams, OwnedFd), HostError> {
        let name = self.config.program.to_string_lossy().into_owned();
        let Some(program) = find_program(&self.config.program, &self.config.env) else {
            return Err(HostError::NotFound { program: name });
        };
        let no_pipe = |error| HostError::System("cannot make a pipe", error);
        let (stdin_reader, stdin) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| no_pipe(e.into()))?;
        let (stdout, stdout_writer) = pipe(None).map_err(no_pipe)?;
        let (stderr, stderr_writer) = pipe(None).map_err(no_pipe)?;
        let args: Vec<OsString> = self.config.master_args(self.words, &self.socket, HOLD);
        let env = &self.config.env;
        let mut child =
            crate::sys::bound::spawn(&program, &args, env, stdin_reader, stdout_writer, stderr_writer)
                .map_err(|source| HostError::Start { program: name, source })?;
        let ended = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0))
            .ok_or_else(|| HostError::System("cannot watch ssh", io::ErrorKind::InvalidData.into()))
            .and_then(pidfd)
            .inspect_err(|_| {
                let _ = child.kill();
                let _ = child.wait();
            })?;
        Ok((child, Streams { stdin: Some(stdin), stdout: Some(stdout), stderr: Some(stderr) }, ended))
    }

    /// Until its socket takes clients, which it does once the other end has let us in: they need not wait for the
    /// session of the master to begin. Where nobody tells of new files, that session says it.
    fn until_up(
        &self,
        child: &Child,
        ended: &OwnedFd,
        streams: &mut Streams,
        appears: &Appears,
        heard: &mut Vec<u8>,
    ) -> Result<(), HostError> {
        let host = || self.config.destination.clone();
        let deadline = now().saturating_add(self.config.connect_limit);
        loop {
            if let Some(reason) = self.cancel.reason() {
                return Err(HostError::Cancelled(reason));
            }
            if now() >= deadline {
                let reason = format!("no answer within {} s", self.config.connect_limit.as_secs_f32());
                return Err(SshError::Connect { host: host(), reason }.into());
            }
            if is_ready(ended.as_fd()) {
                // What it said last may still be in the pipe.
                self.read(streams, Some(heard));
                return Err(self.why_it_ended(child, heard)?.into());
            }
            appears.hear();
            if fs::symlink_metadata(&self.socket).is_ok_and(|known| known.file_type().is_socket()) {
                return Ok(());
            }
            if has_answered(heard) {
                let reason = "ssh connected, but listens on no control socket".to_owned();
                return Err(SshError::Settings { host: host(), reason }.into());
            }
            let token = self.cancel.fd();
            let mut fds =
                vec![PollFd::new(ended, PollFlags::IN), PollFd::from_borrowed_fd(token, PollFlags::IN)];
            fds.extend(appears.fd().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            fds.extend(streams.outputs().map(|fd| PollFd::new(fd, PollFlags::IN)));
            wait(&mut fds, Some(deadline)).map_err(|e| HostError::System("cannot wait for ssh", e))?;
            drop(fds);
            self.read(streams, Some(heard));
        }
    }

    /// What it means that it has ended before the other end has answered.
    fn why_it_ended(&self, child: &Child, heard: &[u8]) -> Result<SshError, HostError> {
        let host = self.config.destination.clone();
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0));
        let exit = pid.map(|pid| wait_for(pid, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)).transpose()?;
        // Anything else is what the shell of the account has returned.
        if matches!(exit, Some(Exit::Code(code)) if code != 255) {
            let printed = [said.as_slice(), heard].concat();
            let reason = last_line(&String::from_utf8_lossy(&printed));
            return Ok(SshError::Shell { host, reason });
        }
        Ok(SshError::of_connection(&host, &said))
    }

    /// Takes what is there of both outputs.
    fn read(&self, streams: &mut Streams, heard: Option<&mut Vec<u8>>) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        read_all(&mut streams.stderr, &mut said);
        match heard {
            Some(heard) => read_all(&mut streams.stdout, heard),
            None => read_all(&mut streams.stdout, &mut Vec::new()),
        }
    }
}

/// Whether the session of the master has said its word, behind whatever a login shell has printed, which need
/// not end with a line.
fn has_answered(heard: &[u8]) -> bool {
    heard.split(|byte| *byte == b'\n').any(|line| line.ends_with(READY))
}

impl Streams {
    fn outputs(&self) -> impl Iterator<Item = &OwnedFd> {
        self.stdout.iter().chain(&self.stderr)
    }
}

fn read_all(from: &mut Option<OwnedFd>, kept: &mut Vec<u8>) {
    let mut buffer = [0u8; 4 << 10];
    while let Some(open) = from {
        match rustix::io::read(&*open, &mut buffer) {
            Ok(0) => *from = None,
            Ok(count) => {
                kept.extend_from_slice(&buffer[..count]);
                let excess = kept.len().saturating_sub(SAID);
                kept.drain(..excess);
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return,
            Err(_) => *from = None,
        }
    }
}

/// TERM, a moment, KILL; and the socket goes, whoever was to remove it.
fn end(child: &mut Child, ended: &OwnedFd, streams: &mut Streams, socket: &Path) {
    streams.stdin = None;
    if let Some(pid) = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0))
        && !is_ready(ended.as_fd())
    {
        // The child has not been waited for, so the number is still its own.
        let _ = rustix::process::kill_process(pid, Signal::TERM);
        let mut fds = [PollFd::new(ended, PollFlags::IN)];
        let _ = wait(&mut fds, Some(now().saturating_add(PATIENCE)));
        if !is_ready(ended.as_fd()) {
            let _ = child.kill();
        }
    }
    let _ = child.wait();
    let _ = fs::remove_file(socket);
}

/// A path in the control directory where nobody listens.
fn free_socket(config: &SshConfig) -> Result<PathBuf, HostError> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let settings = |reason: String| SshError::Settings { host: config.destination.clone(), reason };
    if config.destination.is_empty() || config.destination.starts_with('-') {
        return Err(settings("this is no destination".to_owned()).into());
    }
    let dir = &config.control_dir;
    own_directory(dir).map_err(|source| HostError::File { action: "use", path: dir.clone(), source })?;
    loop {
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let socket = dir.join(format!("{}-{count}", std::process::id()));
        let length = socket.as_os_str().len();
        if length > LONGEST_SOCKET {
            let reason = format!(
                "the control directory {} is too long: a socket in it would have {length} bytes, {LONGEST_SOCKET} are allowed",
                dir.display()
            );
            return Err(settings(reason).into());
        }
        match fs::symlink_metadata(&socket) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(socket),
            Err(source) => return Err(HostError::File { action: "use", path: socket, source }),
            // Left by an earlier process with our number, unless somebody answers.
            Ok(_) if !answers(config, &socket)? => {
                fs::remove_file(&socket).map_err(|source| HostError::File {
                    action: "remove",
                    path: socket.clone(),
                    source,
                })?;
                return Ok(socket);
            }
            Ok(_) => {}
        }
    }
}

/// Whether a master listens at `socket`.
fn answers(config: &SshConfig, socket: &Path) -> Result<bool, HostError> {
    let check = super::ssh_command(config, config.control_args(socket, "check", None));
    let token = CancelToken::new().map_err(|e| HostError::System("cannot make a token", e))?;
    Ok(crate::local::capture::run(&check, &token)?.exit.success())
}

/// Makes the directory of the control sockets, or makes sure that it is nobody else's: who may
/// write in it could take the place of a master.
fn own_directory(dir: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let known = fs::symlink_metadata(dir)?;
    let own = rustix::process::geteuid().as_raw();
    if !known.is_dir() || known.uid() != own || known.mode() & 0o077 != 0 {
        let message = "it has to be a directory of this user alone (mode 0700)";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    sweep(dir)
}

/// Removes the sockets of processes that are gone: what a machine that went down has left.
fn sweep(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.split_once('-')?.0.parse::<u32>().ok()) else {
            continue;
        };
        let gone = match crate::process::Stat::of(pid) {
            Ok(stat) => stat.is_dead(),
            Err(error) => crate::process::is_gone(&error),
        };
        if gone {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}
