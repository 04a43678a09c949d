//! A command in a session of its own, and everything that came from it.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use super::leftovers::{KILL_PATIENCE, Leftovers, table_error};
use super::prepare::Prepared;
use super::supervise::Tree;
use crate::host::{Exit, HostError, Leaked};
use crate::process::{Stat, Table, is_none_of_ours};
use crate::sys::spawn::Leads;
use crate::wait::{is_ready, now, wait};

/// A descriptor that becomes readable when our child has ended.
pub(crate) fn pidfd(child: Pid) -> Result<OwnedFd, HostError> {
    rustix::process::pidfd_open(child, PidfdFlags::empty())
        .map_err(|error| HostError::System("cannot watch a command", error.into()))
}

/// Waits for our child.
pub(crate) fn wait_for(child: Pid, options: WaitIdOptions) -> Result<Exit, HostError> {
    loop {
        match rustix::process::waitid(WaitId::Pid(child), options) {
            Ok(Some(status)) => {
                return Ok(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Exit::Code(code),
                    (None, signal) => Exit::Signal(signal.unwrap_or(libc::SIGKILL)),
                });
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(HostError::System("cannot wait for a command", error.into())),
        }
    }
}

/// Bounds a look on a machine that forks faster than we can read.
const MOST_ROUNDS: usize = 50;

pub(super) struct Session {
    /// Not reaped before the very end: while it is a zombie, its number is the number of its
    /// group and session and of nothing else.
    main: Pid,
    main_fd: OwnedFd,
    main_start: Option<u64>,
    /// Monotonic, before the start.
    started: Duration,
    exit: Option<Exit>,
    tag: (String, String),
    left: Leftovers,
    /// Whether the last look met nobody in the middle of an exec.
    clear: bool,
    reaped: bool,
}

impl Session {
    pub(super) fn start(
        prepared: &Prepared,
        tag: &(String, String),
        output: &OwnedFd,
    ) -> Result<Self, HostError> {
        let started = now();
        let main = prepared.spawn(Leads::Session, output.as_fd(), output.as_fd())?;
        let main_fd = pidfd(main).inspect_err(|_| {
            let _ = rustix::process::kill_process_group(main, Signal::KILL);
            let _ = wait_for(main, WaitIdOptions::EXITED);
        })?;
        let left = Leftovers::default();
        Ok(Self {
            main,
            main_fd,
            main_start: None,
            started,
            exit: None,
            tag: tag.clone(),
            left,
            clear: true,
            reaped: false,
        })
    }

    fn main_pid(&self) -> u32 {
        self.main.as_raw_nonzero().get().unsigned_abs()
    }

    fn signal_group(&self, signal: Signal) {
        let _ = rustix::process::kill_process_group(self.main, signal);
    }

    /// Processes of this command, without the command itself: those of its session and group,
    /// those with the tag, those that write to the pipe, and the descendants of all of them.
    fn scan(&mut self, table: &mut Table, pipe: Option<u64>) -> io::Result<Vec<(Stat, bool)>> {
        let main = self.main_pid();
        let own = std::process::id();
        let main_start = match self.main_start {
            Some(start) => start,
            None => *self.main_start.insert(table.stat(main)?.start),
        };
        let mut all = Vec::new();
        let mut roots = HashSet::from([main]);
        let mut holders = HashSet::new();
        roots.extend(self.left.alive.iter().map(|l| l.process.stat.pid));
        let mut clear = true;
        let mut seen = HashSet::from([main, own]);
        let mut before = table.last_pid();
        let mut pids = table.pids_since(main, now().saturating_sub(self.started))?;
        // One may fork and end while the table is read: so do what was given out meanwhile too.
        for _ in 0..MOST_ROUNDS {
            for pid in pids {
                if !seen.insert(pid) {
                    continue;
                }
                let stat = match table.stat(pid) {
                    Ok(stat) => stat,
                    Err(error) if is_none_of_ours(&error) => continue,
                    Err(error) => return Err(error),
                };
                if stat.start < main_start || stat.is_dead() || stat.is_kernel_thread() {
                    continue;
                }
                let tagged = table.has_variable(&stat, &self.tag.0, |value| value == self.tag.1.as_bytes());
                clear &= tagged.is_some();
                if stat.session == main || stat.group == main || tagged == Some(true) {
                    roots.insert(pid);
                }
                // A child of this process that is not the command is one that another thread is
                // about to start: it has copies of our descriptors until its exec.
                if let Some(pipe) = pipe
                    && stat.parent != own
                    && table.writes_to_pipe(pid, pipe)
                {
                    roots.insert(pid);
                    holders.insert(pid);
                }
                all.push(stat);
            }
            let after = table.last_pid();
            pids = match (before, after) {
                (Some(before), Some(after)) if after > before => (before + 1..=after).collect(),
                (before, after) if before == after => break,
                _ => table.pids()?,
            };
            before = after;
        }
        self.clear = clear;
        let ours = super::leftovers::with_descendants(&all, roots);
        all.retain(|stat| ours.contains(&stat.pid));
        Ok(all
            .into_iter()
            .map(|stat| {
                let held = holders.contains(&stat.pid);
                (stat, held)
            })
            .collect())
    }
}

impl Tree for Session {
    fn watch<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        if self.exit.is_none() {
            fds.push(PollFd::new(&self.main_fd, PollFlags::IN));
        }
        self.left.watch(fds);
    }

    fn update(&mut self) -> Result<(), HostError> {
        if self.exit.is_none() && is_ready(self.main_fd.as_fd()) {
            self.exit = Some(wait_for(self.main, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?);
        }
        self.left.refresh();
        Ok(())
    }

    fn exit(&self) -> Option<Exit> {
        self.exit
    }

    fn seems_gone(&self) -> bool {
        self.exit.is_some() && self.left.alive.is_empty()
    }

    fn look(&mut self, pipe: Option<u64>) -> Result<bool, HostError> {
        let mut table = Table::open().map_err(table_error)?;
        let found = self.scan(&mut table, pipe).map_err(table_error)?;
        self.left.add(&mut table, found);
        self.left.refresh();
        Ok(self.clear)
    }

    fn leftovers(&self) -> Vec<Leaked> {
        self.left.alive.iter().map(super::leftovers::Leftover::describe).collect()
    }

    fn terminate(&mut self) {
        if self.exit.is_none() {
            self.signal_group(Signal::TERM);
            self.signal_group(Signal::CONT);
            let main = self.main_pid();
            for member in self.left.alive.iter_mut().filter(|l| l.process.stat.group == main) {
                member.mark_terminated();
            }
        }
        self.left.terminate();
    }

    fn kill(&mut self) {
        self.signal_group(Signal::KILL);
        self.left.kill();
    }

    fn finish(&mut self) -> Result<(), HostError> {
        if !self.reaped {
            wait_for(self.main, WaitIdOptions::EXITED)?;
            self.reaped = true;
        }
        Ok(())
    }
}

impl Drop for Session {
    /// For errors and panics on the way: nothing may stay behind then either.
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        let give_up = now().saturating_add(KILL_PATIENCE);
        loop {
            let looked = self.look(None).is_ok();
            if now() >= give_up || (self.seems_gone() || !looked && self.exit.is_some()) {
                break;
            }
            self.kill();
            while !self.seems_gone() && now() < give_up {
                let mut fds = Vec::new();
                self.watch(&mut fds);
                let waited = wait(&mut fds, Some(give_up));
                drop(fds);
                if waited.is_err() || self.update().is_err() {
                    break;
                }
            }
        }
        if self.exit.is_some() {
            let _ = self.finish();
        }
    }
}
