//! One client of the master: the command line of the other end, its two streams, and its end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitIdOptions};

use super::wire::Marked;
use crate::cancel::{CancelReason, CancelToken};
use crate::command::Command;
use crate::host::{EndedBy, Exit, HostError};
use crate::local::prepare::Prepared;
use crate::local::pump::{PIPE_SIZE, pipe};
use crate::local::session::{pidfd, wait_for};
use crate::wait::{is_ready, now, wait};

/// What one read takes.
const CHUNK: usize = 256 << 10;
/// What is kept of the memory for what is to be sent.
const LONGEST_KEPT: usize = 1 << 20;
/// How long the other end gets to say that a command that was killed has ended.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same when the user has asked to end at once.
const FORCED_PATIENCE: Duration = Duration::from_secs(2);
/// How long ssh itself gets to end.
const CLIENT_PATIENCE: Duration = Duration::from_secs(1);

/// What is told to the other end, and when.
pub(super) struct Order {
    /// Program and input.
    pub(super) input: Vec<u8>,
    /// Between TERM and KILL.
    pub(super) grace: Duration,
    pub(super) time_limit: Option<Duration>,
    /// Whether words end it. Otherwise the end of its input does, and at once.
    pub(super) hears_words: bool,
}

/// Takes output. An error ends the command.
pub(super) trait Sink {
    fn stdout(&mut self, bytes: &[u8]) -> Result<(), HostError>;
    fn stderr(&mut self, bytes: &[u8]) -> Result<(), HostError>;
}

/// How an exchange went.
pub(super) enum Ended {
    /// The other end has reported.
    Reported(Answer),
    /// ssh has ended without a report.
    Broken { exit: Exit, begun: bool, said: Vec<u8> },
}

pub(super) struct Answer {
    pub(super) report: Vec<u8>,
    pub(super) ended_by: EndedBy,
    pub(super) duration: Duration,
}

/// A running client. Dropped, it ends the command at the other end and then itself.
pub(super) struct Exchange {
    pid: Pid,
    ended: OwnedFd,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    unsent: Vec<u8>,
    sent: usize,
    out: Marked,
    err: Marked,
    reaped: Option<Exit>,
    hears_words: bool,
    buffer: Vec<u8>,
    /// How long nothing may come or go before the other end has begun.
    silence: Duration,
    /// When something last did.
    moved: Duration,
}

/// Why a command is being ended, and since when.
struct Stop {
    by: EndedBy,
    told: Duration,
    kill_at: Duration,
    killed: bool,
    give_up: Duration,
}

fn system(action: &'static str) -> impl Fn(io::Error) -> HostError {
    move |error| HostError::System(action, error)
}

impl Exchange {
    /// Starts ssh. `mark` is what the streams are taken apart by. A client that makes no progress for as long as
    /// `silence` before the other end has begun is given up.
    pub(super) fn start(
        ssh: &Command,
        mark: &str,
        order: &mut Order,
        silence: Duration,
    ) -> Result<Self, HostError> {
        let mut prepared = Prepared::new(ssh, &ssh.env)?;
        let no_pipe = system("cannot make a pipe");
        let (stdin_reader, stdin) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| no_pipe(e.into()))?;
        rustix::io::ioctl_fionbio(&stdin, true).map_err(|e| no_pipe(e.into()))?;
        let (stdout, stdout_writer) = pipe(Some(PIPE_SIZE)).map_err(&no_pipe)?;
        let (stderr, stderr_writer) = pipe(None).map_err(&no_pipe)?;
        prepared.stdin = stdin_reader;
        let pid = prepared.spawn(
            crate::sys::spawn::Leads::Session,
            stdout_writer.as_fd(),
            stderr_writer.as_fd(),
        )?;
        let ended = pidfd(pid).inspect_err(|_| {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            let _ = wait_for(pid, WaitIdOptions::EXITED);
        })?;
        Ok(Self {
            pid,
            ended,
            stdin: Some(stdin),
            stdout: Some(stdout),
            stderr: Some(stderr),
            unsent: std::mem::take(&mut order.input),
            sent: 0,
            out: Marked::new(mark),
            err: Marked::new(mark),
            reaped: None,
            hears_words: order.hears_words,
            buffer: Vec::new(),
            silence,
            moved: now(),
        })
    }

    /// Follows until the other end has reported or ssh has ended. `Err` when the sink has failed
    /// (the command has been ended then), or the other end does not confirm an end.
    pub(super) fn follow(
        mut self,
        order: &Order,
        sink: &mut dyn Sink,
        cancel: &CancelToken,
        unconfirmed: impl Fn(Duration) -> HostError,
    ) -> Result<Ended, HostError> {
        let mut begun = None;
        let mut failure = None;
        let mut stop: Option<Stop> = None;
        let mut ended_at = None;
        loop {
            let at = now();
            if begun.is_none() && self.err.has_begun() {
                begun = Some(at);
            }
            if self.report_is_complete() {
                ended_at.get_or_insert(at);
                // Everything that the command itself has written stands before that mark.
                if self.out.has_ended() || stop.as_ref().is_some_and(|s| at >= s.give_up) {
                    break;
                }
            }
            if self.reaped.is_none() && is_ready(self.ended.as_fd()) {
                self.reaped = Some(wait_for(self.pid, WaitIdOptions::EXITED)?);
            }
            if let Some(exit) = self.reaped
                && self.is_over()
            {
                if self.report_is_complete() && self.out.has_ended() {
                    break;
                }
                // Without its mark the output was cut off, whatever the report says.
                return match failure {
                    Some(error) => Err(error),
                    None => Ok(Ended::Broken { exit, begun: begun.is_some(), said: self.said() }),
                };
            }
            if stop.is_none()
                && let Some(said) = self.give_up_silent()
            {
                return Ok(Ended::Broken { exit: Exit::Code(255), begun: false, said });
            }
            let limit = order.time_limit.zip(begun).map(|(limit, begun)| begun.saturating_add(limit));
            let due = if ended_at.is_some() {
                None
            } else if failure.is_some() {
                Some(EndedBy::Itself)
            } else if let Some(reason) = cancel.reason() {
                Some(EndedBy::Cancelled(reason))
            } else {
                limit.filter(|limit| at >= *limit).map(|_| EndedBy::TimeLimit)
            };
            if let Some(by) = due
                && stop.is_none()
            {
                self.say(b"t\n");
                let kill_at = at.saturating_add(order.grace);
                let give_up = kill_at.saturating_add(PATIENCE);
                stop = Some(Stop { by, told: at, kill_at, killed: false, give_up });
            }
            if let Some(stop) = &mut stop {
                let forced = cancel.reason() == Some(CancelReason::Forced);
                if !stop.killed && (forced || at >= stop.kill_at) {
                    self.say(b"k\n");
                    stop.killed = true;
                    stop.give_up = at.saturating_add(if forced { FORCED_PATIENCE } else { PATIENCE });
                }
                if stop.killed && at >= stop.give_up {
                    return Err(failure.unwrap_or_else(|| unconfirmed(at.saturating_sub(stop.told))));
                }
            }
            let deadline = match &stop {
                Some(stop) if stop.killed => Some(stop.give_up),
                Some(stop) => Some(stop.kill_at),
                None => limit.or(self.silent_until()),
            };
            self.block(cancel, stop.is_some(), deadline)?;
            self.write()?;
            self.read(sink, &mut failure)?;
        }
        if let Some(error) = failure {
            return Err(error);
        }
        let ended_at = ended_at.unwrap_or_else(now);
        let mut ended_by = stop.map_or(EndedBy::Itself, |stop| stop.by);
        if let EndedBy::Cancelled(reason) = &mut ended_by {
            *reason = cancel.reason().unwrap_or(*reason);
        }
        let report = self.err.after().to_vec();
        let duration = ended_at.saturating_sub(begun.unwrap_or(ended_at));
        Ok(Ended::Reported(Answer { report, ended_by, duration }))
    }

    /// More for the other end, behind everything else.
    pub(super) fn queue(&mut self, bytes: &[u8]) {
        if self.stdin.is_some() {
            self.unsent.extend_from_slice(bytes);
        }
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.stdin.is_some() && self.sent < self.unsent.len()
    }

    pub(super) fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Whether ssh has ended and everything it has said was read.
    pub(super) fn is_over(&self) -> bool {
        self.reaped.is_some() && self.stdout.is_none() && self.stderr.is_none()
    }

    /// Whether ssh has ended, whatever it has said.
    pub(super) fn has_gone(&self) -> bool {
        self.reaped.is_some() || is_ready(self.ended.as_fd())
    }

    pub(super) fn stdout_has_ended(&self) -> bool {
        self.out.has_ended()
    }

    pub(super) fn has_begun(&self) -> bool {
        self.err.has_begun()
    }

    /// When its silence is too long; never once the other end has begun.
    fn silent_until(&self) -> Option<Duration> {
        (!self.has_begun() && self.reaped.is_none()).then(|| self.moved.saturating_add(self.silence))
    }

    /// Ends a client that was silent for too long: what is to be said of it.
    pub(super) fn give_up_silent(&mut self) -> Option<Vec<u8>> {
        self.silent_until().filter(|until| now() >= *until)?;
        self.end_client();
        Some(format!("no answer within {} s", self.silence.as_secs_f32()).into_bytes())
    }

    pub(super) fn report(&self) -> &[u8] {
        self.err.after()
    }

    /// What stands outside of the marks: words of ssh itself, for people.
    pub(super) fn said(&self) -> Vec<u8> {
        [self.err.before(), b"\n", self.err.after()].concat()
    }

    pub(super) fn exit(&self) -> Option<Exit> {
        self.reaped
    }

    /// Blocks until something happens; moves what there is.
    pub(super) fn step(&mut self, sink: &mut dyn Sink, cancel: &CancelToken) -> Result<(), HostError> {
        if self.reaped.is_none() && is_ready(self.ended.as_fd()) {
            self.reaped = Some(wait_for(self.pid, WaitIdOptions::EXITED)?);
            return Ok(());
        }
        self.block(cancel, false, self.silent_until())?;
        self.step_now(sink)
    }

    /// Moves what there is at this moment.
    pub(super) fn step_now(&mut self, sink: &mut dyn Sink) -> Result<(), HostError> {
        self.write()?;
        let mut failure = None;
        self.read(sink, &mut failure)?;
        failure.map_or(Ok(()), Err)
    }

    pub(super) fn report_is_complete(&self) -> bool {
        self.err.has_ended() && (self.err.after().ends_with(b"\n.\n") || contains(self.err.after(), b"\n.\n"))
    }

    /// One more word to the other end, behind everything else.
    fn say(&mut self, word: &[u8]) {
        if self.hears_words {
            self.unsent.extend_from_slice(word);
        } else {
            self.stdin = None;
        }
    }

    fn block(
        &self,
        cancel: &CancelToken,
        stopping: bool,
        deadline: Option<Duration>,
    ) -> Result<(), HostError> {
        let token = if stopping { cancel.forced_fd() } else { cancel.fd() };
        let heard = stopping && cancel.reason() == Some(CancelReason::Forced);
        let mut fds = Vec::with_capacity(5);
        if !heard {
            fds.push(PollFd::from_borrowed_fd(token, PollFlags::IN));
        }
        if self.reaped.is_none() {
            fds.push(PollFd::new(&self.ended, PollFlags::IN));
        }
        fds.extend(self.stdout.iter().chain(&self.stderr).map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        if self.sent < self.unsent.len() {
            fds.extend(self.stdin.iter().map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
        }
        wait(&mut fds, deadline).map_err(system("cannot wait for ssh"))
    }

    fn write(&mut self) -> Result<(), HostError> {
        let Some(stdin) = &self.stdin else { return Ok(()) };
        if self.sent == self.unsent.len() {
            return Ok(());
        }
        match rustix::io::write(stdin, &self.unsent[self.sent..]) {
            Ok(count) => {
                self.moved = now();
                self.sent += count;
                if self.sent == self.unsent.len() {
                    // Of a stream the next piece is as long.
                    self.unsent.clear();
                    self.unsent.shrink_to(LONGEST_KEPT);
                    self.sent = 0;
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // ssh ends, and says why on another stream.
            Err(Errno::PIPE) => self.stdin = None,
            Err(error) => return Err(system("cannot write to ssh")(error.into())),
        }
        Ok(())
    }

    fn read(&mut self, sink: &mut dyn Sink, failure: &mut Option<HostError>) -> Result<(), HostError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.reserve(CHUNK);
        let streams = [(&mut self.stdout, &mut self.out, true), (&mut self.stderr, &mut self.err, false)];
        for (pipe, marked, is_stdout) in streams {
            let Some(open) = pipe else { continue };
            buffer.clear();
            // After the sink has failed, output is read and dropped, so that the command can end in order.
            let mut within = |bytes: &[u8]| {
                if failure.is_none() {
                    *failure = if is_stdout { sink.stdout(bytes) } else { sink.stderr(bytes) }.err();
                }
            };
            match rustix::io::read(open, rustix::buffer::spare_capacity(&mut buffer)) {
                Ok(0) => {
                    marked.finish(&mut within);
                    *pipe = None;
                }
                Ok(_) => {
                    self.moved = now();
                    marked.feed(&buffer, &mut within);
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(system("cannot read from ssh")(error.into())),
            }
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Ends ssh, which has nothing to say any more.
    pub(super) fn end_client(&mut self) {
        if self.reaped.is_some() {
            return;
        }
        self.stdin = None;
        self.stdout = None;
        self.stderr = None;
        let _ = rustix::process::kill_process(self.pid, Signal::TERM);
        let mut fds = [PollFd::new(&self.ended, PollFlags::IN)];
        if wait(&mut fds, Some(now().saturating_add(CLIENT_PATIENCE))).is_err()
            || !is_ready(self.ended.as_fd())
        {
            let _ = rustix::process::kill_process(self.pid, Signal::KILL);
        }
        self.reaped = wait_for(self.pid, WaitIdOptions::EXITED).ok().or(Some(Exit::Code(255)));
    }

    /// For panics and errors on the way: the command of the other end goes too.
    fn end_command(&mut self) {
        let give_up = now().saturating_add(FORCED_PATIENCE);
        self.say(b"k\n");
        while self.reaped.is_none() && !self.report_is_complete() && now() < give_up {
            let mut fds = vec![PollFd::new(&self.ended, PollFlags::IN)];
            fds.extend(self.stdout.iter().chain(&self.stderr).map(|pipe| PollFd::new(pipe, PollFlags::IN)));
            if self.sent < self.unsent.len() {
                fds.extend(self.stdin.iter().map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
            }
            let waited = wait(&mut fds, Some(give_up));
            drop(fds);
            if waited.is_err()
                || is_ready(self.ended.as_fd())
                || self.write().is_err()
                || self.read(&mut Nowhere, &mut None).is_err()
            {
                return;
            }
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.reaped.is_none() && !self.report_is_complete() {
            self.end_command();
        }
        self.end_client();
    }
}

/// What nobody wants to hear.
pub(super) struct Nowhere;

impl Sink for Nowhere {
    fn stdout(&mut self, _: &[u8]) -> Result<(), HostError> {
        Ok(())
    }
    fn stderr(&mut self, _: &[u8]) -> Result<(), HostError> {
        Ok(())
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
