//! Follows one command from its start until nothing of it is left.
//!
//! One thread, one blocking call ([`wait`]): every step moves output, takes note of what has
//! ended, and then looks at the clock and the token. What differs between the isolations is
//! behind [`Tree`].

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use super::leftovers::KILL_PATIENCE;
use super::namespaces::Namespace;
use super::prepare::Prepared;
use super::pump::{PIPE_SIZE, Pump, pipe};
use super::session::Session;
use crate::cancel::{CancelReason, CancelToken};
use crate::command::Command;
use crate::host::{EndedBy, Exit, Finished, HostError, Isolation, Leaked, OutputSink, Supervision};
use crate::wait::{now, wait};

/// The grace of processes that were left behind by a command that ended by itself: nobody waits
/// for their results.
const LEFTOVER_GRACE: Duration = Duration::from_millis(500);
/// How long this process may take to hear of a signal that has ended a command already.
const HEARING: Duration = Duration::from_millis(200);
/// What an exec takes. There is nothing to wait for that tells its end.
const EXEC_PATIENCE: Duration = Duration::from_millis(2);

/// The processes of one command. Dropped before [`Tree::finish`], it kills them.
pub(super) trait Tree {
    /// Adds descriptors that become readable when something of it ends.
    fn watch<'a>(&'a self, fds: &mut Vec<PollFd<'a>>);
    /// Takes note of what has ended.
    fn update(&mut self) -> Result<(), HostError>;
    /// How the command itself ended.
    fn exit(&self) -> Option<Exit>;
    /// Whether nothing is left as far as is known; [`Tree::look`] may find more.
    fn seems_gone(&self) -> bool;
    /// Looks for processes that are not known yet, also by the pipe that they hold. Returns
    /// whether the view was clear: not while something is in the middle of an exec.
    fn look(&mut self, pipe: Option<u64>) -> Result<bool, HostError>;
    /// Known processes apart from the command itself.
    fn leftovers(&self) -> Vec<Leaked>;
    /// Sends TERM to everything known that has not got it yet.
    fn terminate(&mut self);
    /// Sends KILL to everything known.
    fn kill(&mut self);
    /// Frees what the kernel keeps for us. Everything has ended before.
    fn finish(&mut self) -> Result<(), HostError>;
}

pub(super) fn supervise(
    command: &Command,
    supervision: &Supervision,
    sink: &mut dyn OutputSink,
    cancel: &CancelToken,
) -> Result<Finished, HostError> {
    if let Some(reason) = cancel.reason() {
        return Err(HostError::Cancelled(reason));
    }
    let mut env = command.env.clone();
    env.set(&supervision.tag.0, &supervision.tag.1);
    let prepared = Prepared::new(command, &env)?;
    let (reader, writer) =
        pipe(Some(PIPE_SIZE)).map_err(|error| HostError::System("cannot make a pipe", error))?;
    let started = now();
    let mut tree: Box<dyn Tree> = match &supervision.isolation {
        Isolation::Session => Box::new(Session::start(&prepared, &supervision.tag, &writer)?),
        Isolation::Namespaces(mounts) => Box::new(Namespace::start(&prepared, mounts, &writer)?),
    };
    drop(writer);
    drop(prepared);
    let mut supervisor = Supervisor { tree: tree.as_mut(), pump: Pump::new(reader, sink), cancel };
    let finished = supervisor.follow(supervision, started)?;
    match supervisor.pump.take_failure() {
        Some(error) => Err(HostError::Sink(error)),
        None => Ok(finished),
    }
}

struct Supervisor<'a> {
    tree: &'a mut dyn Tree,
    pump: Pump<'a>,
    cancel: &'a CancelToken,
}

impl Supervisor<'_> {
    fn follow(&mut self, supervision: &Supervision, started: Duration) -> Result<Finished, HostError> {
        let limit = supervision.time_limit.map(|limit| started.saturating_add(limit));
        let mut ended_by = self.until_end(limit)?;
        let mut ended = now();
        let mut leaked = Vec::new();
        if self.tree.exit().is_some() {
            self.settle(ended.saturating_add(supervision.drain))?;
            leaked = self.tree.leftovers();
            if !leaked.is_empty() {
                self.end(LEFTOVER_GRACE.min(supervision.grace))?;
            }
        } else {
            self.end(supervision.grace)?;
            ended = now();
        }
        self.read_rest()?;
        self.tree.finish()?;
        let exit = self.tree.exit().unwrap_or(Exit::Signal(libc::SIGKILL));
        let asked = ended_by == EndedBy::Itself && asks_to_end(exit);
        if asked {
            self.hear()?;
        }
        if let Some(reason) = self.cancel.reason()
            && (asked || matches!(ended_by, EndedBy::Cancelled(_)))
        {
            ended_by = EndedBy::Cancelled(reason);
        }
        let duration = ended.saturating_sub(started);
        Ok(Finished { exit, ended_by, leaked, duration, output_bytes: self.pump.bytes() })
    }

    /// Follows until the command has ended, or has to be ended.
    fn until_end(&mut self, limit: Option<Duration>) -> Result<EndedBy, HostError> {
        loop {
            // In this order: a command that has ended is not ended by anybody else.
            if self.tree.exit().is_some() || self.pump.has_failed() {
                return Ok(EndedBy::Itself);
            }
            if let Some(reason) = self.cancel.reason() {
                return Ok(EndedBy::Cancelled(reason));
            }
            if limit.is_some_and(|limit| now() >= limit) {
                return Ok(EndedBy::TimeLimit);
            }
            self.step(limit)?;
        }
    }

    /// The command has ended by itself: gives everything else until `deadline` to do so too.
    fn settle(&mut self, deadline: Duration) -> Result<(), HostError> {
        let mut looked = false;
        loop {
            if !self.pump.is_open() && self.tree.seems_gone() {
                if looked {
                    return Ok(());
                }
                looked = self.tree.look(None)?;
                if !looked && now() < deadline {
                    self.step(Some(deadline.min(now().saturating_add(EXEC_PATIENCE))))?;
                    continue;
                }
                looked = true;
                continue;
            }
            if now() >= deadline || self.forced() {
                let pipe = self.pump.inode();
                return self.tree.look(pipe).map(drop);
            }
            looked = false;
            self.step(Some(deadline))?;
        }
    }

    /// TERM, grace, KILL, until nothing is found any more.
    fn end(&mut self, grace: Duration) -> Result<(), HostError> {
        let kill_at = now().saturating_add(grace);
        let give_up = kill_at.saturating_add(KILL_PATIENCE);
        loop {
            let pipe = self.pump.inode();
            self.tree.look(pipe)?;
            if self.tree.seems_gone() {
                return Ok(());
            }
            if now() >= give_up {
                let error = io::Error::from(io::ErrorKind::TimedOut);
                return Err(HostError::System("a process does not end after SIGKILL", error));
            }
            let deadline = if now() < kill_at && !self.forced() {
                self.tree.terminate();
                kill_at
            } else {
                self.tree.kill();
                give_up
            };
            let gentle = deadline == kill_at;
            // Another look costs a walk over all processes: not before all known ones are gone.
            while !self.tree.seems_gone() && now() < deadline && !(gentle && self.forced()) {
                self.step(Some(deadline))?;
            }
        }
    }

    /// Everything is gone, so what was written is in the pipe. Somebody who was handed the pipe
    /// and does not belong to the command may still write: nothing is waited for.
    fn read_rest(&mut self) -> Result<(), HostError> {
        let all = self.pump.bytes().saturating_add(self.pump.pending());
        while self.pump.bytes() < all && !self.pump.has_failed() && self.pump.turn()? {}
        self.pump.close();
        Ok(())
    }

    /// Who signals every process there is (a service manager that stops a unit, a terminal while
    /// a command is being started) has ended the command before the engine could. That is no
    /// end of its own, even where the engine hears of it a moment later.
    fn hear(&self) -> Result<(), HostError> {
        let mut fds = [PollFd::from_borrowed_fd(self.cancel.fd(), PollFlags::IN)];
        wait(&mut fds, Some(now().saturating_add(HEARING)))
            .map_err(|error| HostError::System("cannot wait for a command", error))
    }

    fn forced(&self) -> bool {
        self.cancel.reason() == Some(CancelReason::Forced)
    }

    /// Blocks until something happens or the deadline has come; moves output, notes ends.
    fn step(&mut self, deadline: Option<Duration>) -> Result<(), HostError> {
        let reason = self.cancel.reason();
        let mut fds = Vec::with_capacity(8);
        fds.extend(self.pump.fd().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let piped = fds.len();
        if reason.is_none() {
            fds.push(PollFd::from_borrowed_fd(self.cancel.fd(), PollFlags::IN));
        }
        if reason != Some(CancelReason::Forced) {
            fds.push(PollFd::from_borrowed_fd(self.cancel.forced_fd(), PollFlags::IN));
        }
        let tree_from = fds.len();
        self.tree.watch(&mut fds);
        wait(&mut fds, deadline).map_err(|error| HostError::System("cannot wait for a command", error))?;
        let readable = fds[..piped].iter().any(|fd| !fd.revents().is_empty());
        let changed = fds[tree_from..].iter().any(|fd| !fd.revents().is_empty());
        drop(fds);
        if changed {
            self.tree.update()?;
        }
        if readable {
            self.pump.turn()?;
        }
        Ok(())
    }
}

/// A signal by which somebody else asks a process to end.
fn asks_to_end(exit: Exit) -> bool {
    matches!(exit, Exit::Signal(libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT))
}
