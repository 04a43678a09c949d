//! Processes of the command that have left it: they become children of the runner, and end with the job.
//!
//! Only needed where the command has no process namespace: there nothing can leave.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use jericho_host::{Clock, Leaked, SystemClock};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

/// How long processes get to vanish after KILL.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Makes the runner the parent of what loses its own, and reaps what of that ends while the command runs:
/// a build that leaves thousands behind must not fill the process table.
pub(crate) fn adopt(command: impl Fn() -> Option<i32> + Send + 'static) -> io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    std::thread::Builder::new().name("reaper".to_owned()).spawn(move || {
        // Before it is there, there is no child to wait for.
        let Some(main) = command() else { return };
        while reap_orphans(main) {}
    })?;
    Ok(())
}

/// Waits until a child has ended and reaps all that have, but for the command itself: somebody else waits
/// for that. False when only the command is left to be reaped, or there is no child at all.
fn reap_orphans(main: i32) -> bool {
    let seen = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    match rustix::process::waitid(WaitId::All, seen) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return true,
        Err(_) => return false,
    }
    let own = std::process::id().cast_signed();
    let is_orphan = |stat: &Stat| stat.parent == own && stat.is_dead() && stat.pid != main;
    let Ok(all) = processes() else { return false };
    let orphans: Vec<Pid> =
        all.into_iter().filter(is_orphan).filter_map(|stat| Pid::from_raw(stat.pid)).collect();
    for orphan in &orphans {
        let _ = rustix::process::waitid(WaitId::Pid(*orphan), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
    !orphans.is_empty()
}

/// Ends all descendants of this process: TERM, grace, KILL. Returns those that were there.
pub(crate) fn end(grace: Duration) -> io::Result<Vec<Leaked>> {
    let mut found: HashMap<(i32, u64), Leaked> = HashMap::new();
    let kill_at = SystemClock.monotonic().saturating_add(grace);
    let give_up = kill_at.saturating_add(KILL_PATIENCE);
    loop {
        reap();
        let alive = descendants()?;
        if alive.is_empty() {
            return Ok(found.into_values().collect());
        }
        let now = SystemClock.monotonic();
        if now >= give_up {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "a process does not end after SIGKILL"));
        }
        let gentle = now < kill_at;
        for orphan in &alive {
            let is_new = found.insert((orphan.stat.pid, orphan.stat.start), orphan.describe()).is_none();
            if is_new || !gentle {
                orphan.signal(if gentle { Signal::TERM } else { Signal::KILL });
                orphan.signal(Signal::CONT);
            }
        }
        // One of them: it may be that which keeps the others.
        wait(&alive[0].fd, (if gentle { kill_at } else { give_up }).saturating_sub(now))?;
    }
}

fn wait(fd: &OwnedFd, longest: Duration) -> io::Result<()> {
    let timeout = Timespec {
        tv_sec: i64::try_from(longest.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: longest.subsec_nanos().into(),
    };
    match rustix::event::poll(&mut [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)], Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Reaps all children that have ended.
fn reap() {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    while let Ok(Some(_)) = rustix::process::waitid(WaitId::All, options) {}
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    pid: i32,
    parent: i32,
    state: u8,
    start: u64,
}

impl Stat {
    fn of(pid: i32) -> Option<Self> {
        Self::parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name may hold anything, also spaces and brackets.
    fn parse(pid: i32, line: &[u8]) -> Option<Self> {
        let end = line.iter().rposition(|byte| *byte == b')')?;
        let mut fields = std::str::from_utf8(&line[end + 1..]).ok()?.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let parent = fields.next()?.parse().ok()?;
        let start = fields.nth(17)?.parse().ok()?;
        Some(Self { pid, parent, state, start })
    }

    fn is_dead(self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

struct Orphan {
    stat: Stat,
    fd: OwnedFd,
}

impl Orphan {
    /// Nothing when the number belongs to another process by now.
    fn hold(stat: Stat) -> Option<Self> {
        let fd = rustix::process::pidfd_open(Pid::from_raw(stat.pid)?, PidfdFlags::empty()).ok()?;
        let now = Stat::of(stat.pid)?;
        (now.start == stat.start && !now.is_dead()).then_some(Self { stat, fd })
    }

    fn signal(&self, signal: Signal) {
        // One that has ended needs no signal.
        let _ = rustix::process::pidfd_send_signal(&self.fd, signal);
    }

    fn describe(&self) -> Leaked {
        let pid = self.stat.pid;
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        Leaked { pid: pid.unsigned_abs(), command: words.join(" ").trim_end().to_owned(), held_output: false }
    }
}

/// All processes that this one may see.
fn processes() -> io::Result<Vec<Stat>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        if let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            all.extend(Stat::of(pid));
        }
    }
    Ok(all)
}

/// All processes that come from this one and still run.
fn descendants() -> io::Result<Vec<Orphan>> {
    let all = processes()?;
    let mut ours = vec![std::process::id().cast_signed()];
    let mut next = 0;
    while let Some(parent) = ours.get(next).copied() {
        ours.extend(all.iter().filter(|stat| stat.parent == parent).map(|stat| stat.pid));
        next += 1;
    }
    let is_ours = |stat: &&Stat| ours[1..].contains(&stat.pid) && !stat.is_dead();
    Ok(all.iter().filter(is_ours).copied().filter_map(Orphan::hold).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_cannot_lie_about_its_parent_by_its_name() {
        let line = b"42 (a) R 1 1 1) S 7 8 9 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 1 2 3\n";
        assert_eq!(Stat::parse(42, line), Some(Stat { pid: 42, parent: 7, state: b'S', start: 777 }));
        let own = Stat::of(std::process::id().cast_signed()).unwrap();
        assert!(!own.is_dead());
    }
}
