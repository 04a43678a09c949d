//! Short commands: everything they print, bounded, and a kill on cancel.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitIdOptions};

use super::leftovers::with_descendants;
use super::prepare::Prepared;
use crate::cancel::{CancelReason, CancelToken};
use crate::command::Command;
use crate::host::{Exit, HostError, Output};
use crate::process::{Held, Stat, Table};
use crate::sys::spawn::Leads;
use crate::wait::{now, wait};

/// Most bytes of one stream that are kept.
pub(crate) const LIMIT: usize = 64 << 20;
/// How long output is read after the end while something else holds a pipe.
const DRAIN: Duration = Duration::from_millis(100);
const CHUNK: usize = 256 << 10;

pub(crate) fn run(command: &Command, cancel: &CancelToken) -> Result<Output, HostError> {
    let mut stdout = Vec::new();
    let mut child = Short::start(command, cancel, None)?;
    let program = command.program.to_string_lossy();
    let (exit, stderr) = child.follow(cancel, &program, &mut |pipe| read_bounded(pipe, &mut stdout))?;
    Ok(Output { exit, stdout, stderr })
}

pub(super) fn stream(
    command: &Command,
    cancel: &CancelToken,
    take: &mut dyn FnMut(&[u8]),
) -> Result<Output, HostError> {
    let mut buffer = Vec::with_capacity(CHUNK);
    let mut child = Short::start(command, cancel, Some(1 << 20))?;
    let program = command.program.to_string_lossy();
    let (exit, stderr) = child.follow(cancel, &program, &mut |pipe| {
        buffer.clear();
        let read = read_some(pipe, &mut buffer)?;
        take(&buffer);
        Ok(read)
    })?;
    Ok(Output { exit, stdout: Vec::new(), stderr })
}

enum Read {
    Some,
    Nothing,
    End,
    TooMuch,
}

fn read_some(pipe: &OwnedFd, buffer: &mut Vec<u8>) -> io::Result<Read> {
    match rustix::io::read(pipe, rustix::buffer::spare_capacity(buffer)) {
        Ok(0) => Ok(Read::End),
        Ok(_) => Ok(Read::Some),
        Err(Errno::AGAIN | Errno::INTR) => Ok(Read::Nothing),
        Err(error) => Err(error.into()),
    }
}

fn read_bounded(pipe: &OwnedFd, kept: &mut Vec<u8>) -> io::Result<Read> {
    if kept.len() > LIMIT {
        return Ok(Read::TooMuch);
    }
    // Doubles from 4 KiB on: most commands print less.
    if kept.capacity() - kept.len() < 4 << 10 {
        kept.reserve(4 << 10);
    }
    read_some(pipe, kept)
}

/// A started short command. Dropped before its end, it is killed.
struct Short {
    pid: Pid,
    ended: OwnedFd,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    grace: Duration,
    reaped: bool,
}

impl Short {
    fn start(command: &Command, cancel: &CancelToken, pipe_size: Option<usize>) -> Result<Self, HostError> {
        if let Some(reason) = cancel.reason() {
            return Err(HostError::Cancelled(reason));
        }
        let prepared = Prepared::new(command, &command.env)?;
        let (stdout, stdout_writer) = pipe(pipe_size)?;
        let (stderr, stderr_writer) = pipe(None)?;
        let pid = prepared.spawn(Leads::Group, stdout_writer.as_fd(), stderr_writer.as_fd())?;
        let ended = super::session::pidfd(pid).inspect_err(|_| {
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
        })?;
        Ok(Self {
            pid,
            ended,
            stdout: Some(stdout),
            stderr: Some(stderr),
            grace: command.grace,
            reaped: false,
        })
    }

    /// Reads both streams and waits for the end.
    fn follow(
        &mut self,
        cancel: &CancelToken,
        program: &str,
        read_stdout: &mut dyn FnMut(&OwnedFd) -> io::Result<Read>,
    ) -> Result<(Exit, Vec<u8>), HostError> {
        let mut stderr = Vec::new();
        let mut drained_by = None;
        loop {
            if let Some(reason) = cancel.reason() {
                self.end(cancel);
                return Err(HostError::Cancelled(reason));
            }
            if drained_by.is_none() && crate::wait::is_ready(self.ended.as_fd()) {
                drained_by = Some(now() + DRAIN);
            }
            let done = self.stdout.is_none() && self.stderr.is_none();
            if let Some(deadline) = drained_by
                && (done || now() >= deadline)
            {
                return Ok((self.reap()?, stderr));
            }
            self.block(cancel, drained_by)?;
            let mut too_large = false;
            if let Some(pipe) = &self.stdout {
                match read_stdout(pipe)
                    .map_err(|e| HostError::System("cannot read the output of a command", e))?
                {
                    Read::End => self.stdout = None,
                    Read::TooMuch => too_large = true,
                    Read::Some | Read::Nothing => {}
                }
            }
            if let Some(pipe) = &self.stderr {
                let read = read_bounded(pipe, &mut stderr);
                match read.map_err(|e| HostError::System("cannot read the output of a command", e))? {
                    Read::End => self.stderr = None,
                    Read::TooMuch => too_large = true,
                    Read::Some | Read::Nothing => {}
                }
            }
            if too_large {
                return Err(HostError::OutputTooLarge { program: program.to_owned(), limit: LIMIT });
            }
        }
    }

    fn block(&self, cancel: &CancelToken, deadline: Option<Duration>) -> Result<(), HostError> {
        let token = cancel.fd();
        let mut fds = Vec::with_capacity(4);
        fds.push(PollFd::from_borrowed_fd(token, PollFlags::IN));
        if deadline.is_none() {
            fds.push(PollFd::new(&self.ended, PollFlags::IN));
        }
        fds.extend(self.stdout.iter().chain(&self.stderr).map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        wait(&mut fds, deadline).map_err(|error| HostError::System("cannot wait for a command", error))
    }

    /// TERM, grace, KILL of the group; [`CancelReason::Forced`] skips the grace.
    fn end(&mut self, cancel: &CancelToken) {
        let deadline = now() + self.grace;
        let _ = rustix::process::kill_process_group(self.pid, Signal::TERM);
        let _ = rustix::process::kill_process_group(self.pid, Signal::CONT);
        let forced = cancel.forced_fd();
        while cancel.reason() != Some(CancelReason::Forced)
            && now() < deadline
            && !crate::wait::is_ready(self.ended.as_fd())
        {
            let mut fds =
                [PollFd::new(&self.ended, PollFlags::IN), PollFd::from_borrowed_fd(forced, PollFlags::IN)];
            if wait(&mut fds, Some(deadline)).is_err() {
                break;
            }
        }
        // One that did not end in time has not ended what it started, either: nix runs builders in
        // groups of their own.
        let started = match crate::wait::is_ready(self.ended.as_fd()) {
            true => Vec::new(),
            false => descendants(self.pid),
        };
        self.kill();
        for process in started {
            process.signal(Signal::KILL);
        }
    }

    fn kill(&mut self) {
        if !self.reaped {
            let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
            let _ = self.reap();
        }
    }

    fn reap(&mut self) -> Result<Exit, HostError> {
        let exit = super::session::wait_for(self.pid, WaitIdOptions::EXITED)?;
        self.reaped = true;
        Ok(exit)
    }
}

impl Drop for Short {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a process has started, and what that has; as far as the process table can be read.
fn descendants(pid: Pid) -> Vec<Held> {
    let root = pid.as_raw_nonzero().get().cast_unsigned();
    let Ok(mut table) = Table::open() else { return Vec::new() };
    let pids = table.pids().unwrap_or_default();
    let all: Vec<Stat> = pids.into_iter().filter_map(|pid| table.stat(pid).ok()).collect();
    let ours = with_descendants(&all, HashSet::from([root]));
    all.into_iter()
        .filter(|stat| stat.pid != root && ours.contains(&stat.pid))
        .filter_map(|stat| Held::of(&mut table, stat))
        .collect()
}

fn pipe(size: Option<usize>) -> Result<(OwnedFd, OwnedFd), HostError> {
    super::pump::pipe(size).map_err(|error| HostError::System("cannot make a pipe", error))
}
