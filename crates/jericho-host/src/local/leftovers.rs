//! Processes that belong to a command but have left its group: found, named, ended.

use std::collections::HashSet;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;

use crate::host::{HostError, Leaked};
use crate::process::{Held, Stat, Table, is_none_of_ours};
use crate::wait::{now, wait};

/// How long processes get to vanish after KILL. Only a hung device or file system takes longer.
pub(super) const KILL_PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn table_error(error: io::Error) -> HostError {
    HostError::System("cannot read the process table", error)
}

/// A process that was found, with what a person wants to know about it.
pub(super) struct Leftover {
    pub(super) process: Held,
    pub(super) command: String,
    pub(super) held_output: bool,
    termed: bool,
}

impl Leftover {
    /// A signal to its group has reached it already.
    pub(super) fn mark_terminated(&mut self) {
        self.termed = true;
    }

    pub(super) fn describe(&self) -> Leaked {
        Leaked { pid: self.process.stat.pid, command: self.command.clone(), held_output: self.held_output }
    }
}

/// Found processes, each once.
#[derive(Default)]
pub(super) struct Leftovers {
    pub(super) alive: Vec<Leftover>,
}

impl Leftovers {
    /// Adds those of `found` that still run. `held` says whether one holds the output.
    pub(super) fn add(&mut self, table: &mut Table, found: Vec<(Stat, bool)>) {
        for (stat, held_output) in found {
            let command = table.command_line(&stat);
            let known =
                |l: &&mut Leftover| l.process.stat.pid == stat.pid && l.process.stat.start == stat.start;
            if let Some(known) = self.alive.iter_mut().find(known) {
                known.held_output |= held_output;
                // It may have been between fork and exec before.
                known.command = command;
                continue;
            }
            if let Some(process) = Held::of(table, stat) {
                self.alive.push(Leftover { process, command, held_output, termed: false });
            }
        }
    }

    /// Drops those that have ended.
    pub(super) fn refresh(&mut self) {
        self.alive.retain(|leftover| !leftover.process.has_ended());
    }

    /// TERM, once for each, and CONT, so that a stopped process can follow it.
    pub(super) fn terminate(&mut self) {
        for leftover in self.alive.iter_mut().filter(|l| !l.termed) {
            leftover.process.signal(Signal::TERM);
            leftover.process.signal(Signal::CONT);
            leftover.termed = true;
        }
    }

    pub(super) fn kill(&self) {
        for leftover in &self.alive {
            leftover.process.signal(Signal::KILL);
        }
    }

    pub(super) fn watch<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        fds.extend(self.alive.iter().map(|l| PollFd::from_borrowed_fd(l.process.as_fd(), PollFlags::IN)));
    }
}

/// All descendants of the processes in `roots`, and these themselves, out of `all`.
pub(super) fn with_descendants(all: &[Stat], mut roots: HashSet<u32>) -> HashSet<u32> {
    loop {
        let before = roots.len();
        for stat in all {
            if roots.contains(&stat.parent) {
                roots.insert(stat.pid);
            }
        }
        if roots.len() == before {
            return roots;
        }
    }
}

/// See [`crate::Host::end_tagged`].
pub(super) fn end_tagged(name: &str, prefix: &str, grace: Duration) -> Result<Vec<Leaked>, HostError> {
    let mut table = Table::open().map_err(table_error)?;
    let mut left = Leftovers::default();
    let mut reported: Vec<Leaked> = Vec::new();
    let mut seen = HashSet::new();
    let terminated_by = now().saturating_add(grace);
    let give_up = terminated_by.saturating_add(KILL_PATIENCE);
    loop {
        let found = tagged(&mut table, name, prefix).map_err(table_error)?;
        left.add(&mut table, found.into_iter().map(|stat| (stat, false)).collect());
        left.refresh();
        if left.alive.is_empty() {
            return Ok(reported);
        }
        for leftover in &left.alive {
            if seen.insert((leftover.process.stat.pid, leftover.process.stat.start)) {
                reported.push(leftover.describe());
            }
        }
        let now = now();
        if now >= give_up {
            let error = io::Error::from(io::ErrorKind::TimedOut);
            return Err(HostError::System("a process does not end after SIGKILL", error));
        }
        let deadline = if now < terminated_by {
            left.terminate();
            terminated_by
        } else {
            left.kill();
            give_up
        };
        let system = |error| HostError::System("cannot wait for a process", error);
        // Until all that are known have ended: only then is another look worth its cost.
        while !left.alive.is_empty() && crate::wait::now() < deadline {
            let mut fds = Vec::with_capacity(left.alive.len());
            left.watch(&mut fds);
            wait(&mut fds, Some(deadline)).map_err(system)?;
            drop(fds);
            left.refresh();
        }
    }
}

/// See [`crate::LocalHost::tagged`].
pub(super) fn find_tagged(name: &str, prefix: &str) -> Result<Vec<Leaked>, HostError> {
    let mut table = Table::open().map_err(table_error)?;
    let mut found = Leftovers::default();
    let stats = tagged(&mut table, name, prefix).map_err(table_error)?;
    found.add(&mut table, stats.into_iter().map(|stat| (stat, false)).collect());
    Ok(found.alive.iter().map(Leftover::describe).collect())
}

/// Processes with the variable, and their descendants; never this process.
fn tagged(table: &mut Table, name: &str, prefix: &str) -> io::Result<Vec<Stat>> {
    let own = std::process::id();
    let mut all = Vec::new();
    let mut roots = HashSet::new();
    for pid in table.pids()? {
        if pid == own {
            continue;
        }
        let stat = match table.stat(pid) {
            Ok(stat) => stat,
            Err(error) if is_none_of_ours(&error) => continue,
            Err(error) => return Err(error),
        };
        if stat.is_dead() || stat.is_kernel_thread() {
            continue;
        }
        if table.has_variable(&stat, name, |value| value.starts_with(prefix.as_bytes())) == Some(true) {
            roots.insert(pid);
        }
        all.push(stat);
    }
    let ours = with_descendants(&all, roots);
    all.retain(|stat| ours.contains(&stat.pid));
    Ok(all)
}
