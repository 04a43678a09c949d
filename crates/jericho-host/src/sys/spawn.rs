//! Starts a process by `posix_spawn`: as cheap as the standard library's fast path, with a
//! session or group of its own, a working directory and clean signals.
#![expect(unsafe_code, reason = "posix_spawn and its attribute objects have no safe wrapper")]

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use rustix::process::Pid;

/// What the child leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leads {
    /// A process group in the caller's session.
    Group,
    /// A session, and so a group, without a terminal.
    Session,
}

/// Everything about the child, ready for the kernel.
pub(crate) struct Image<'a> {
    pub(crate) program: &'a CStr,
    pub(crate) argv: &'a [CString],
    pub(crate) envp: &'a [CString],
    pub(crate) cwd: Option<&'a CStr>,
    pub(crate) stdin: BorrowedFd<'a>,
    pub(crate) stdout: BorrowedFd<'a>,
    pub(crate) stderr: BorrowedFd<'a>,
    pub(crate) leads: Leads,
}

/// A null-terminated array of pointers into `strings`, which it must not outlive.
pub(super) fn pointers(strings: &[CString]) -> Vec<*mut c_char> {
    strings.iter().map(|s| s.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
}

fn check(code: i32) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new(leads: Leads) -> io::Result<Self> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: init writes the object it is given and nothing else.
        check(unsafe { libc::posix_spawnattr_init(raw.as_mut_ptr()) })?;
        // SAFETY: init succeeded, so the object is initialised.
        let mut this = Self(unsafe { raw.assume_init() });
        let leader = match leads {
            Leads::Group => libc::POSIX_SPAWN_SETPGROUP as libc::c_short,
            Leads::Session => libc::POSIX_SPAWN_SETSID as libc::c_short,
        };
        let flags = leader
            | libc::POSIX_SPAWN_SETSIGDEF as libc::c_short
            | libc::POSIX_SPAWN_SETSIGMASK as libc::c_short;
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: the attribute object is initialised and exclusively borrowed; the signal set is
        // initialised by sigfillset or sigemptyset before it is read.
        unsafe {
            libc::sigfillset(set.as_mut_ptr());
            check(libc::posix_spawnattr_setsigdefault(&mut this.0, set.as_ptr()))?;
            libc::sigemptyset(set.as_mut_ptr());
            check(libc::posix_spawnattr_setsigmask(&mut this.0, set.as_ptr()))?;
            check(libc::posix_spawnattr_setpgroup(&mut this.0, 0))?;
            check(libc::posix_spawnattr_setflags(&mut this.0, flags))?;
        }
        Ok(this)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed once.
        unsafe { libc::posix_spawnattr_destroy(&mut self.0) };
    }
}

struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new(image: &Image<'_>) -> io::Result<Self> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: init writes the object it is given and nothing else.
        check(unsafe { libc::posix_spawn_file_actions_init(raw.as_mut_ptr()) })?;
        // SAFETY: init succeeded, so the object is initialised.
        let mut this = Self(unsafe { raw.assume_init() });
        for (fd, target) in [(image.stdin, 0), (image.stdout, 1), (image.stderr, 2)] {
            // SAFETY: the object is initialised; the numbers are copied into it.
            check(unsafe { libc::posix_spawn_file_actions_adddup2(&mut this.0, fd.as_raw_fd(), target) })?;
        }
        if let Some(cwd) = image.cwd {
            // SAFETY: the object is initialised; the path is copied into it.
            check(unsafe { libc::posix_spawn_file_actions_addchdir_np(&mut this.0, cwd.as_ptr()) })?;
        }
        // Our own descriptors close by themselves at exec; those that this process has inherited
        // from its parent would not, and a job must not get them.
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        // SAFETY: the object is initialised.
        check(unsafe { libc::posix_spawn_file_actions_addclosefrom_np(&mut this.0, 3) })?;
        Ok(this)
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed once.
        unsafe { libc::posix_spawn_file_actions_destroy(&mut self.0) };
    }
}

/// Starts the process. An error of chdir or exec is returned here; nothing was started then.
pub(crate) fn spawn(image: &Image<'_>) -> io::Result<Pid> {
    let attributes = Attributes::new(image.leads)?;
    let actions = Actions::new(image)?;
    let argv = pointers(image.argv);
    let envp = pointers(image.envp);
    let mut pid = 0;
    // SAFETY: every pointer is to a live, initialised object; argv and envp end with a null
    // pointer, and their strings outlive the call.
    check(unsafe {
        libc::posix_spawn(
            &mut pid,
            image.program.as_ptr(),
            &actions.0,
            &attributes.0,
            argv.as_ptr(),
            envp.as_ptr(),
        )
    })?;
    let pid = Pid::from_raw(pid).ok_or_else(|| io::Error::other("posix_spawn returned no process id"))?;
    #[cfg(target_os = "linux")]
    if let Some(limit) = super::limits::of_children() {
        // posix_spawn cannot set it beforehand. A child that has ended needs none.
        let _ = rustix::process::prlimit(Some(pid), rustix::process::Resource::Nofile, limit);
    }
    Ok(pid)
}
