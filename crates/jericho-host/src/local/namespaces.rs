//! A command in a process namespace of its own: nothing can leave it, and it ends with this
//! process, however that ends.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitIdOptions};

use super::leftovers::{KILL_PATIENCE, Leftover, Leftovers, table_error};
use super::prepare::{Prepared, c_string, start_error};
use super::session::wait_for;
use super::supervise::Tree;
use crate::host::{Exit, HostError, Leaked, Mount};
use crate::process::{Table, is_none_of_ours};
use crate::sys::namespace::{Plan, Report, Step, TERMINATE, start};
use crate::wait::{is_ready, now, wait};

pub(super) struct Namespace {
    init: Pid,
    init_fd: OwnedFd,
    /// Closed, it ends the namespace.
    control: OwnedFd,
    status: OwnedFd,
    reports: Vec<u8>,
    exit: Option<Exit>,
    /// Only the init runs.
    empty: bool,
    ended: bool,
    killed: bool,
    reaped: bool,
    left: Leftovers,
    program: String,
    cwd: Option<PathBuf>,
    mounts: Vec<String>,
}

impl Namespace {
    pub(super) fn start(prepared: &Prepared, mounts: &[Mount], output: &OwnedFd) -> Result<Self, HostError> {
        let steps = mounts.iter().map(step).collect::<Result<Vec<_>, _>>()?;
        let pipe = || super::pump::pipe(None).map_err(|error| HostError::System("cannot make a pipe", error));
        let (control_reader, control) = pipe()?;
        let (status, status_writer) = pipe()?;
        let plan = Plan {
            mounts: &steps,
            candidates: &prepared.candidates,
            argv: &prepared.argv,
            envp: &prepared.envp,
            cwd: prepared.cwd.as_deref(),
            stdin: prepared.stdin.as_fd(),
            output: output.as_fd(),
            control: control_reader.as_fd(),
            status: status_writer.as_fd(),
        };
        let (init, init_fd) =
            start(&plan).map_err(|error| HostError::System("cannot make a process namespace", error))?;
        Ok(Self {
            init,
            init_fd,
            control,
            status,
            reports: Vec::new(),
            exit: None,
            empty: false,
            ended: false,
            killed: false,
            reaped: false,
            left: Leftovers::default(),
            program: prepared.program.clone(),
            cwd: prepared.cwd.as_ref().map(|cwd| super::prepare::as_path(cwd).to_path_buf()),
            mounts: mounts.iter().map(describe).collect(),
        })
    }

    fn read_reports(&mut self) -> Result<(), HostError> {
        loop {
            self.reports.reserve(16 * Report::SIZE);
            match rustix::io::read(&self.status, rustix::buffer::spare_capacity(&mut self.reports)) {
                Ok(0) | Err(Errno::AGAIN) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(HostError::System("cannot read from a namespace", error.into())),
            }
        }
        let whole = self.reports.len() / Report::SIZE * Report::SIZE;
        let reports: Vec<u8> = self.reports.drain(..whole).collect();
        for report in reports.chunks_exact(Report::SIZE) {
            self.take(Report::decode(report).ok_or_else(|| {
                let error = io::Error::from(io::ErrorKind::InvalidData);
                HostError::System("a namespace reported something unknown", error)
            })?)?;
        }
        Ok(())
    }

    fn take(&mut self, report: Report) -> Result<(), HostError> {
        let os = io::Error::from_raw_os_error;
        match report {
            Report::Ended(status, more) => {
                self.exit = Some(match (libc::WIFEXITED(status), libc::WIFSIGNALED(status)) {
                    (true, _) => Exit::Code(libc::WEXITSTATUS(status)),
                    (false, true) => Exit::Signal(libc::WTERMSIG(status)),
                    (false, false) => Exit::Signal(libc::SIGKILL),
                });
                self.empty = !more;
                Ok(())
            }
            Report::Empty => {
                self.empty = true;
                Ok(())
            }
            Report::Setup(errno) => Err(HostError::System("cannot set up a process namespace", os(errno))),
            Report::Proc(errno) => Err(HostError::Mount { what: "proc at /proc".into(), source: os(errno) }),
            Report::Mount(index, errno) => {
                let what = self.mounts.get(index).cloned().unwrap_or_default();
                Err(HostError::Mount { what, source: os(errno) })
            }
            Report::Directory(errno) => {
                let path = self.cwd.clone().unwrap_or_default();
                Err(HostError::File { action: "enter", path, source: os(errno) })
            }
            Report::Exec(errno) => Err(start_error(self.program.clone(), os(errno))),
        }
    }

    /// Kills everything in the namespace with its init, and waits for that.
    fn end_at_once(&mut self) -> Result<(), HostError> {
        if self.reaped {
            return Ok(());
        }
        self.kill();
        let deadline = now().saturating_add(KILL_PATIENCE);
        while !is_ready(self.init_fd.as_fd()) {
            if now() >= deadline {
                let error = io::Error::from(io::ErrorKind::TimedOut);
                return Err(HostError::System("a process does not end after SIGKILL", error));
            }
            let mut fds = [PollFd::new(&self.init_fd, PollFlags::IN)];
            wait(&mut fds, Some(deadline))
                .map_err(|error| HostError::System("cannot wait for a command", error))?;
        }
        self.reaped = true;
        wait_for(self.init, WaitIdOptions::EXITED).map(drop)
    }
}

impl Tree for Namespace {
    fn watch<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        if !self.ended {
            fds.push(PollFd::new(&self.status, PollFlags::IN));
            fds.push(PollFd::new(&self.init_fd, PollFlags::IN));
        }
    }

    fn update(&mut self) -> Result<(), HostError> {
        if self.ended {
            return Ok(());
        }
        // Before the reports are read: what it told before its end must not be lost.
        let ended = is_ready(self.init_fd.as_fd());
        self.read_reports()?;
        self.ended = ended;
        if ended && !self.killed {
            let error = io::Error::from(io::ErrorKind::BrokenPipe);
            return Err(HostError::System("the init of a process namespace was killed", error));
        }
        Ok(())
    }

    fn exit(&self) -> Option<Exit> {
        self.exit
    }

    fn seems_gone(&self) -> bool {
        self.ended || self.empty
    }

    fn look(&mut self, pipe: Option<u64>) -> Result<bool, HostError> {
        // Nothing can be missed, so this is only for names; not needed before the command's end.
        if self.seems_gone() || self.exit.is_none() {
            return Ok(true);
        }
        let mut table = Table::open().map_err(table_error)?;
        let init = self.init.as_raw_nonzero().get().unsigned_abs();
        let Some(namespace) = table.pid_namespace(init) else { return Ok(true) };
        let mut found = Vec::new();
        for pid in table.pids().map_err(table_error)? {
            if pid == init || table.pid_namespace(pid).as_ref() != Some(&namespace) {
                continue;
            }
            match table.stat(pid) {
                Ok(stat) if stat.is_dead() => {}
                Ok(stat) => {
                    let holds = pipe.is_some_and(|pipe| table.writes_to_pipe(pid, pipe));
                    found.push((stat, holds));
                }
                Err(error) if is_none_of_ours(&error) => {}
                Err(error) => return Err(table_error(error)),
            }
        }
        self.left.add(&mut table, found);
        self.left.refresh();
        Ok(true)
    }

    fn leftovers(&self) -> Vec<Leaked> {
        self.left.alive.iter().map(Leftover::describe).collect()
    }

    fn terminate(&mut self) {
        // Full or broken, there is nothing to tell: it has been told, or it has ended.
        let _ = rustix::io::write(&self.control, &[TERMINATE]);
    }

    fn kill(&mut self) {
        self.killed = true;
        let _ = rustix::process::pidfd_send_signal(&self.init_fd, Signal::KILL);
    }

    fn finish(&mut self) -> Result<(), HostError> {
        self.end_at_once()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.end_at_once();
    }
}

fn describe(mount: &Mount) -> String {
    match mount {
        Mount::Bind { source, target, .. } => format!("{} at {}", source.display(), target.display()),
        Mount::Overlay { lower, target, .. } => {
            format!("an overlay of {} at {}", lower.display(), target.display())
        }
    }
}

/// See [`super::PrivateMounts`].
pub(super) fn mount_here(mount: &Mount) -> Result<(), HostError> {
    let step = step(mount)?;
    crate::sys::namespace::mount_here(&step)
        .map_err(|source| HostError::Mount { what: describe(mount), source })
}

fn step(mount: &Mount) -> Result<Step, HostError> {
    let path = |path: &Path| c_string(path.as_os_str().as_bytes());
    let step = || -> io::Result<Step> {
        Ok(match mount {
            Mount::Bind { source, target, read_only } => {
                Step::Bind { source: path(source)?, target: path(target)?, read_only: *read_only }
            }
            Mount::Overlay { lower, upper, work, target } => {
                Step::Overlay { options: overlay_options(lower, upper, work)?, target: path(target)? }
            }
        })
    };
    step().map_err(|source| HostError::Mount { what: describe(mount), source })
}

/// From what serves best to what every kernel takes. `volatile` spares a sync of the whole file
/// system at the end; `redirect_dir` lets a directory of the lower tree be renamed.
fn overlay_options(lower: &Path, upper: &Path, work: &Path) -> io::Result<Vec<CString>> {
    let mut base = Vec::new();
    for (name, path) in [("lowerdir=", lower), (",upperdir=", upper), (",workdir=", work)] {
        base.extend_from_slice(name.as_bytes());
        for &byte in path.as_os_str().as_bytes() {
            if matches!(byte, b'\\' | b',' | b':') {
                base.push(b'\\');
            }
            base.push(byte);
        }
    }
    let sets = [",volatile,redirect_dir=on", ",volatile", ""];
    sets.iter().map(|more| c_string(&[base.as_slice(), more.as_bytes()].concat())).collect()
}
