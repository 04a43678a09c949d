//! A process namespace with a private mount namespace, and the tiny init that is its pid 1.
//!
//! The init is a copy of this process that runs only [`init`]: everything it needs is made before
//! the copy, and after it there is no allocation, no lock and no return, since other threads
//! have stopped existing in the middle of whatever they did. It
//!
//! 1. gives up every descriptor but the five it was handed, so that no lock and no pipe of
//!    another job lives in it;
//! 2. mounts, starts the command, and gives up the command's input and output;
//! 3. reaps, reports on the status pipe, and ends everything once the control pipe is closed:
//!    also when that happens because the engine was killed.
#![expect(unsafe_code, reason = "clone3 and what is called between it and exec have no safe wrapper")]

use std::ffi::{CStr, CString, c_char, c_int};
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::process::Pid;

/// One mount, ready for the kernel.
pub(crate) enum Step {
    /// Including what is mounted below `source`.
    Bind { source: CString, target: CString, read_only: bool },
    /// The first set of options that the kernel takes is used.
    Overlay { options: Vec<CString>, target: CString },
}

/// Everything the init and the command need.
pub(crate) struct Plan<'a> {
    pub(crate) mounts: &'a [Step],
    /// Tried in order, in the view that the mounts make.
    pub(crate) candidates: &'a [CString],
    pub(crate) argv: &'a [CString],
    pub(crate) envp: &'a [CString],
    pub(crate) cwd: Option<&'a CStr>,
    pub(crate) stdin: BorrowedFd<'a>,
    /// Standard output and error.
    pub(crate) output: BorrowedFd<'a>,
    /// Read by the init: [`TERMINATE`], or the end.
    pub(crate) control: BorrowedFd<'a>,
    /// Written by the init: [`Report`]s.
    pub(crate) status: BorrowedFd<'a>,
}

/// On the control pipe: TERM to everything in the namespace.
pub(crate) const TERMINATE: u8 = b'T';

/// What the init tells. On the pipe: [`Report::SIZE`] bytes, atomically.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// Making the namespace failed before the mounts of the plan, with this error number.
    Setup(c_int),
    /// The mount with this index failed.
    Mount(usize, c_int),
    /// The fresh `/proc` could not be mounted.
    Proc(c_int),
    /// The working directory could not be entered.
    Directory(c_int),
    /// No candidate could be executed.
    Exec(c_int),
    /// The command ended with this wait status; whether something else still runs.
    Ended(c_int, bool),
    /// Nothing runs any more.
    Empty,
}

impl Report {
    pub(crate) const SIZE: usize = 12;

    fn encode(self) -> [u8; Self::SIZE] {
        let (kind, a, b) = match self {
            Self::Setup(errno) => (0, errno, 0),
            // The number of mounts is that of a job's directories.
            Self::Mount(index, errno) => (1, index as c_int, errno),
            Self::Proc(errno) => (2, errno, 0),
            Self::Directory(errno) => (3, errno, 0),
            Self::Exec(errno) => (4, errno, 0),
            Self::Ended(status, more) => (5, status, c_int::from(more)),
            Self::Empty => (6, 0, 0),
        };
        let mut bytes = [0; Self::SIZE];
        let numbers: [c_int; 3] = [kind, a, b];
        for (place, byte) in bytes.iter_mut().zip(numbers.iter().flat_map(|n| n.to_ne_bytes())) {
            *place = byte;
        }
        bytes
    }

    /// Nothing for bytes that no init writes.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(c_int::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let (a, b) = (number(4)?, number(8)?);
        Some(match number(0)? {
            0 => Self::Setup(a),
            1 => Self::Mount(usize::try_from(a).ok()?, b),
            2 => Self::Proc(a),
            3 => Self::Directory(a),
            4 => Self::Exec(a),
            5 => Self::Ended(a, b != 0),
            6 => Self::Empty,
            _ => return None,
        })
    }
}

/// Starts the init. Returns its process id and a pidfd.
pub(crate) fn start(plan: &Plan<'_>) -> io::Result<(Pid, OwnedFd)> {
    let argv = super::spawn::pointers(plan.argv);
    let envp = super::spawn::pointers(plan.envp);
    let mut pidfd: c_int = -1;
    // SAFETY: clone_args is plain numbers, for which zero means "not used".
    let mut args: libc::clone_args = unsafe { MaybeUninit::zeroed().assume_init() };
    args.flags = (libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_PIDFD) as u64;
    args.pidfd = ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;

    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: both sets are initialised by the calls; the mask is that of this thread and is put
    // back below. No handler of this process may run in the copy.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    // SAFETY: without CLONE_VM this is a fork: the child has its own copy of all memory. It calls
    // `init`, which makes system calls only and never returns.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    if pid == 0 {
        // SAFETY: this is the only thread of a process of its own, argv and envp end with null.
        unsafe { init(plan, &argv, &envp) }
    }
    let error = io::Error::last_os_error();
    // SAFETY: `before` was written by the call above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    if pid < 0 {
        return Err(error);
    }
    // SAFETY: the kernel has made this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = c_int::try_from(pid).ok().and_then(Pid::from_raw);
    Ok((pid.ok_or_else(|| io::Error::other("clone3 returned no process id"))?, pidfd))
}

// Where the init keeps its descriptors.
const STDIN: RawFd = 0;
const OUTPUT: RawFd = 1;
const CONTROL: RawFd = 3;
const STATUS: RawFd = 4;
const FIRST_UNUSED: libc::c_uint = 5;

fn errno() -> c_int {
    // SAFETY: the pointer is to a number of this thread and always valid.
    unsafe { *libc::__errno_location() }
}

fn tell(report: Report) {
    let bytes = report.encode();
    // SAFETY: the buffer is valid for its length. Shorter than PIPE_BUF, so it is written whole
    // or, when nobody listens any more, not at all.
    unsafe { libc::write(STATUS, bytes.as_ptr().cast(), bytes.len()) };
}

fn fail(report: Report) -> ! {
    tell(report);
    // SAFETY: ends this process without running anything of the copied program.
    unsafe { libc::_exit(127) }
}

/// Blanks the environment that this process shows in `/proc/1/environ`: it is the engine's, and
/// the command is root enough to read it.
///
/// # Safety
/// As [`init`]: nobody else reads or writes the environment of this process.
unsafe fn forget_environment() {
    unsafe extern "C" {
        static environ: *const *mut c_char;
    }
    // SAFETY: the array ends with a null pointer, and each string with a NUL.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let mut byte = *entry;
            while *byte != 0 {
                *byte = 0;
                byte = byte.add(1);
            }
            entry = entry.add(1);
        }
    }
}

/// Pid 1 of the namespace.
///
/// # Safety
/// In a freshly cloned single-threaded process with all signals blocked only.
unsafe fn init(plan: &Plan<'_>, argv: &[*mut c_char], envp: &[*mut c_char]) -> ! {
    // SAFETY: as the caller promises. Every call below is a bare system call on valid pointers.
    unsafe {
        // Before there is a command: what a terminal sends to the group of the engine is for the
        // engine, and would end a command that has not yet left it.
        libc::setsid();
        keep_descriptors(plan);
        forget_environment();
        libc::prctl(libc::PR_SET_NAME, c"jericho-init".as_ptr());
        // Nothing that is mounted here may be seen outside.
        let root = c"/".as_ptr();
        if libc::mount(ptr::null(), root, ptr::null(), libc::MS_REC | libc::MS_PRIVATE, ptr::null()) != 0 {
            fail(Report::Setup(errno()));
        }
        for (index, step) in plan.mounts.iter().enumerate() {
            if mount(step) != 0 {
                fail(Report::Mount(index, errno()));
            }
        }
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        if libc::mount(c"proc".as_ptr(), c"/proc".as_ptr(), c"proc".as_ptr(), flags, ptr::null()) != 0 {
            fail(Report::Proc(errno()));
        }
        let mut children = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(children.as_mut_ptr());
        libc::sigaddset(children.as_mut_ptr(), libc::SIGCHLD);
        let ended = libc::signalfd(-1, children.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if ended < 0 {
            fail(Report::Setup(errno()));
        }
        // Ignored, as it may be in the engine, children would be reaped without a report.
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        let mut args: libc::clone_args = MaybeUninit::zeroed().assume_init();
        args.exit_signal = libc::SIGCHLD as u64;
        let main = libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>());
        if main == 0 {
            command(plan, argv, envp);
        }
        if main < 0 {
            fail(Report::Setup(errno()));
        }
        libc::close(STDIN);
        libc::close(OUTPUT);
        libc::chdir(root);
        watch(main as libc::pid_t, ended)
    }
}

/// Moves the five descriptors to their places and closes all others.
///
/// # Safety
/// As [`init`].
unsafe fn keep_descriptors(plan: &Plan<'_>) {
    let places = [(plan.stdin, STDIN), (plan.output, OUTPUT), (plan.control, CONTROL), (plan.status, STATUS)];
    let mut moved = [-1; 4];
    // SAFETY: bare system calls on numbers.
    unsafe {
        // First out of the way, so that no place is taken before what lies there is moved.
        for (moved, (fd, _)) in moved.iter_mut().zip(&places) {
            *moved = libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD, 16);
        }
        for (moved, (_, place)) in moved.iter().zip(&places) {
            let flags = if *place > 2 { libc::O_CLOEXEC } else { 0 };
            if libc::dup3(*moved, *place, flags) < 0 {
                libc::_exit(127);
            }
        }
        libc::close(2);
        if libc::syscall(libc::SYS_close_range, FIRST_UNUSED, libc::c_uint::MAX, 0) != 0 {
            fail(Report::Setup(errno()));
        }
    }
}

/// # Safety
/// As [`init`].
unsafe fn mount(step: &Step) -> c_int {
    let none = ptr::null();
    // SAFETY: all pointers are to C strings of the plan.
    unsafe {
        match step {
            Step::Bind { source, target, read_only } => {
                let flags = libc::MS_BIND | libc::MS_REC;
                if libc::mount(source.as_ptr(), target.as_ptr(), ptr::null(), flags, none) != 0 {
                    return -1;
                }
                if *read_only { make_read_only(target) } else { 0 }
            }
            Step::Overlay { options, target } => {
                let kind = c"overlay".as_ptr();
                for options in options {
                    if libc::mount(kind, target.as_ptr(), kind, 0, options.as_ptr().cast()) == 0 {
                        return 0;
                    }
                    if errno() != libc::EINVAL {
                        break;
                    }
                }
                -1
            }
        }
    }
}

/// Gives this thread, and what it starts from now on, a view of the mounts that nobody else has.
pub(crate) fn leave_mounts() -> io::Result<()> {
    let root = c"/".as_ptr();
    // SAFETY: a system call without pointers, and one on a C string; other threads keep their view.
    unsafe {
        if libc::unshare(libc::CLONE_NEWNS) != 0
            || libc::mount(ptr::null(), root, ptr::null(), libc::MS_REC | libc::MS_PRIVATE, ptr::null()) != 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Carries out one mount in the view of this thread.
pub(crate) fn mount_here(step: &Step) -> io::Result<()> {
    // SAFETY: system calls on the C strings of the step.
    if unsafe { mount(step) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes a mount and all below it read-only and leaves their other flags alone.
///
/// # Safety
/// As [`init`].
unsafe fn make_read_only(target: &CStr) -> c_int {
    let attributes =
        libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: both pointers are valid, the size is that of the structure.
    unsafe {
        let done = libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            target.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        );
        if done == 0 {
            return 0;
        }
        if errno() != libc::ENOSYS {
            return -1;
        }
        // Before Linux 5.12.
        let flags = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY;
        libc::mount(ptr::null(), target.as_ptr(), ptr::null(), flags, ptr::null())
    }
}

/// Becomes the command.
///
/// # Safety
/// As [`init`], in its child.
unsafe fn command(plan: &Plan<'_>, argv: &[*mut c_char], envp: &[*mut c_char]) -> ! {
    // SAFETY: bare system calls; argv and envp end with null.
    unsafe {
        libc::setsid();
        if let Some(cwd) = plan.cwd
            && libc::chdir(cwd.as_ptr()) != 0
        {
            fail(Report::Directory(errno()));
        }
        if libc::dup2(OUTPUT, 2) < 0 {
            fail(Report::Setup(errno()));
        }
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        if let Some(limit) = super::limits::of_children() {
            // Not lowered again, it is only larger than the command expects.
            let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
        }
        let mut none = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
        // What execvp(3) does: what is not there is passed over, what may not be executed is
        // remembered.
        let mut worst = libc::ENOENT;
        for program in plan.candidates {
            libc::execve(program.as_ptr(), argv.as_ptr().cast(), envp.as_ptr().cast());
            match errno() {
                libc::ENOENT | libc::ENOTDIR => {}
                libc::EACCES => worst = libc::EACCES,
                other => fail(Report::Exec(other)),
            }
        }
        fail(Report::Exec(worst))
    }
}

/// Reaps and reports until the control pipe is closed.
///
/// # Safety
/// As [`init`].
unsafe fn watch(main: libc::pid_t, ended: RawFd) -> ! {
    let mut result = None;
    let mut told_empty = false;
    let mut buffer = [0u8; 256];
    loop {
        let mut fds = [
            libc::pollfd { fd: CONTROL, events: libc::POLLIN, revents: 0 },
            libc::pollfd { fd: ended, events: libc::POLLIN, revents: 0 },
        ];
        // SAFETY: pointers and lengths are those of live arrays.
        unsafe {
            libc::poll(fds.as_mut_ptr(), 2, -1);
            if fds[0].revents != 0 {
                if libc::read(CONTROL, buffer.as_mut_ptr().cast(), buffer.len()) <= 0 {
                    // The kernel kills what is left in the namespace with its first process.
                    libc::_exit(0);
                }
                libc::kill(-1, libc::SIGTERM);
                libc::kill(-1, libc::SIGCONT);
            }
            if fds[1].revents == 0 {
                continue;
            }
            while libc::read(ended, buffer.as_mut_ptr().cast(), buffer.len()) > 0 {}
            let before = result;
            let mut status = 0;
            let empty = loop {
                match libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) {
                    0 => break false,
                    -1 => break true,
                    pid if pid == main => result = Some(status),
                    _ => {}
                }
            };
            if let Some(status) = result {
                if before.is_none() {
                    tell(Report::Ended(status, !empty));
                    told_empty = empty;
                } else if empty && !told_empty {
                    tell(Report::Empty);
                    told_empty = true;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_survive_the_pipe() {
        for report in [
            Report::Setup(1),
            Report::Mount(2, 3),
            Report::Proc(4),
            Report::Directory(5),
            Report::Exec(6),
            Report::Ended(7, true),
            Report::Ended(256, false),
            Report::Empty,
        ] {
            assert_eq!(Report::decode(&report.encode()), Some(report));
        }
        assert_eq!(Report::decode(&[255; Report::SIZE]), None);
    }
}
