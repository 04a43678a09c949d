//! The process table of this machine, as `/proc` shows it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal};

/// The fields of `/proc/<pid>/stat` that we need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) state: u8,
    pub(crate) parent: u32,
    pub(crate) group: u32,
    pub(crate) session: u32,
    flags: u64,
    /// Clock ticks since boot.
    pub(crate) start: u64,
}

impl Stat {
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        Table::open()?.stat(pid)
    }

    /// Ended, whether or not its parent has asked for the result yet.
    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// A thread of the kernel itself: never a job's.
    pub(crate) fn is_kernel_thread(&self) -> bool {
        const PF_KTHREAD: u64 = 0x0020_0000;
        self.flags & PF_KTHREAD != 0
    }

    fn parse(pid: u32, line: &[u8]) -> Option<Self> {
        // The name is in parentheses and may itself hold anything, also ") R 1".
        let open = line.iter().position(|&b| b == b'(')?;
        let close = line.iter().rposition(|&b| b == b')')?;
        let name = String::from_utf8_lossy(line.get(open + 1..close)?).into_owned();
        let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        // A process that is just vanishing has −1 for its group and session.
        let mut id = || Some(u32::try_from(fields.next()?.parse::<i64>().ok()?).unwrap_or(0));
        let (parent, group, session) = (id()?, id()?, id()?);
        let flags = fields.nth(2)?.parse().ok()?;
        let start = fields.nth(12)?.parse().ok()?;
        Some(Self { pid, name, state, parent, group, session, flags, start })
    }
}

/// Whether this error of a look into `/proc/<pid>` means that the process has ended.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// Whether this error says that the process is nobody's business here: it has ended, or `/proc`
/// shows other users' processes to nobody (`hidepid`). Those are never ours.
pub(crate) fn is_none_of_ours(error: &io::Error) -> bool {
    is_gone(error) || matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}

/// An open `/proc`, and a buffer for what is read from it.
pub(crate) struct Table {
    dir: OwnedFd,
    buffer: Vec<u8>,
}

impl Table {
    pub(crate) fn open() -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            dir: rustix::fs::openat(CWD, "/proc", flags, Mode::empty())?,
            buffer: Vec::with_capacity(4096),
        })
    }

    fn read(&mut self, pid: u32, file: &str) -> io::Result<&[u8]> {
        self.read_file(&format!("{pid}/{file}"))
    }

    fn read_file(&mut self, name: &str) -> io::Result<&[u8]> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, name, flags, Mode::empty())?;
        self.buffer.clear();
        loop {
            if self.buffer.len() == self.buffer.capacity() {
                self.buffer.reserve(4096);
            }
            match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut self.buffer)) {
                Ok(0) => return Ok(&self.buffer),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(crate) fn stat(&mut self, pid: u32) -> io::Result<Stat> {
        Stat::parse(pid, self.read(pid, "stat")?)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/<pid>/stat has an unknown form"))
    }

    /// All process ids that this process may see, in no order.
    pub(crate) fn pids(&self) -> io::Result<Vec<u32>> {
        let mut pids = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.dir)? {
            let name = entry?;
            if let Ok(Ok(pid)) = name.file_name().to_str().map(str::parse) {
                pids.push(pid);
            }
        }
        Ok(pids)
    }

    /// All process ids that may have been given out since `first` was, `age` ago. Spares most of
    /// the cost of a walk after a short command: a look at each process is what is expensive.
    pub(crate) fn pids_since(&mut self, first: u32, age: Duration) -> io::Result<Vec<u32>> {
        let mut pids = self.pids()?;
        if let Some(last) = self.last_pid()
            && last >= first
            && age < self.shortest_round()
        {
            pids.retain(|pid| (first..=last).contains(pid));
        }
        Ok(pids)
    }

    /// The process id that was given out last.
    pub(crate) fn last_pid(&mut self) -> Option<u32> {
        let line = std::str::from_utf8(self.read_file("loadavg").ok()?).ok()?;
        line.split_ascii_whitespace().last()?.parse().ok()
    }

    /// Ids are given out in turn. The kernel needs longer than this to give out all of them:
    /// no machine forks 250 000 times a second.
    fn shortest_round(&mut self) -> Duration {
        let max = self.read_file("sys/kernel/pid_max").ok();
        let max = max.and_then(|line| std::str::from_utf8(line).ok()?.trim_end().parse().ok());
        Duration::from_micros(4).saturating_mul(max.unwrap_or(0))
    }

    /// Whether the environment with which the process was started has a variable `name` whose
    /// value fits. No when it may not be read; nothing when the process is in the middle of an
    /// exec and shows an empty one for that moment.
    pub(crate) fn has_variable(
        &mut self,
        stat: &Stat,
        name: &str,
        fits: impl Fn(&[u8]) -> bool,
    ) -> Option<bool> {
        let Ok(environment) = self.read(stat.pid, "environ") else { return Some(false) };
        if environment.is_empty() && stat.state != b'S' {
            return None;
        }
        let mut variables = environment
            .split(|&b| b == 0)
            .filter_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
        Some(variables.any(fits))
    }

    /// The command line for people: arguments joined by a space, at most about 4 KiB, or the
    /// short name in brackets.
    pub(crate) fn command_line(&mut self, stat: &Stat) -> String {
        const LONGEST: usize = 4096;
        let line = self.read(stat.pid, "cmdline").unwrap_or_default();
        let line = line.strip_suffix(b"\0").unwrap_or(line);
        if line.is_empty() {
            return format!("[{}]", stat.name);
        }
        let (shown, more) = if line.len() > LONGEST { (&line[..LONGEST], "…") } else { (line, "") };
        let words: Vec<_> = shown.split(|&b| b == 0).map(String::from_utf8_lossy).collect();
        words.join(" ") + more
    }

    /// Whether the process has the pipe with this inode number open for writing.
    pub(crate) fn writes_to_pipe(&mut self, pid: u32, inode: u64) -> bool {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(fds) = rustix::fs::openat(&self.dir, format!("{pid}/fd"), flags, Mode::empty()) else {
            return false;
        };
        let Ok(entries) = rustix::fs::Dir::read_from(&fds) else { return false };
        let wanted = format!("pipe:[{inode}]");
        for name in entries.filter_map(Result::ok) {
            let name = name.file_name();
            let Ok(link) = rustix::fs::readlinkat(&fds, name, Vec::new()) else { continue };
            if link.as_bytes() != wanted.as_bytes() {
                continue;
            }
            // The reading end has the same number; the link's own mode tells them apart.
            if let Ok(mode) = rustix::fs::statat(&fds, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
                && mode.st_mode & 0o200 != 0
            {
                return true;
            }
        }
        false
    }

    /// The process namespace of a process, as the kernel names it (`pid:[4026531836]`).
    pub(crate) fn pid_namespace(&self, pid: u32) -> Option<Vec<u8>> {
        let link = rustix::fs::readlinkat(&self.dir, format!("{pid}/ns/pid"), Vec::new()).ok()?;
        Some(link.into_bytes())
    }
}

/// A handle to one process that stays with it even when its number is reused.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) stat: Stat,
    fd: OwnedFd,
}

impl Held {
    /// Nothing when the process has ended, or when its number belongs to another one by now.
    pub(crate) fn of(table: &mut Table, stat: Stat) -> Option<Self> {
        let pid = Pid::from_raw(i32::try_from(stat.pid).ok()?)?;
        let fd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let now = table.stat(stat.pid).ok()?;
        (now.start == stat.start && !now.is_dead()).then_some(Self { stat, fd })
    }

    /// Sends a signal. One that can no longer be received is no error.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = rustix::process::pidfd_send_signal(&self.fd, signal);
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        crate::wait::is_ready(self.fd.as_fd())
    }
}

impl AsFd for Held {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_cannot_lie_about_its_parent_by_its_name() {
        let line = b"42 (a) R 1 1 1) S 7 8 9 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 1 2 3\n";
        let stat = Stat::parse(42, line).unwrap();
        assert_eq!((stat.name.as_str(), stat.state), ("a) R 1 1 1", b'S'));
        assert_eq!((stat.parent, stat.group, stat.session, stat.start), (7, 8, 9, 777));
    }

    #[test]
    fn a_process_that_is_just_vanishing_is_dead_and_no_error() {
        let line = b"42 (sh) X 0 -1 -1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 1 2 3\n";
        let stat = Stat::parse(42, line).unwrap();
        assert!(stat.is_dead());
        assert_eq!((stat.group, stat.session, stat.start), (0, 0, 777));
    }

    #[test]
    fn only_the_writing_end_of_a_pipe_counts() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let inode = rustix::fs::fstat(&reader).unwrap().st_ino;
        let mut table = Table::open().unwrap();
        assert!(table.writes_to_pipe(std::process::id(), inode));
        drop(writer);
        assert!(!table.writes_to_pipe(std::process::id(), inode));
    }
}
