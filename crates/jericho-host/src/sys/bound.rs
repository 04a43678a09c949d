//! A child that ends with the thread that has started it, however that ends.
#![expect(unsafe_code, reason = "prctl between fork and exec has no safe wrapper")]

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Stdio};

use crate::command::Environment;

/// Starts a program in a session of its own. The kernel sends it TERM when the calling thread is
/// gone, also after a KILL of this process: the caller keeps the thread for as long.
pub(crate) fn spawn(
    program: &Path,
    args: &[OsString],
    env: &Environment,
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
) -> io::Result<Child> {
    let parent = std::process::id();
    #[expect(clippy::disallowed_methods, reason = "posix_spawn cannot bind a child to its parent")]
    let mut command = std::process::Command::new(program);
    command
        .args(args)
        .env_clear()
        .envs(env.iter())
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(stdout))
        .stderr(Stdio::from(stderr));
    // SAFETY: only bare system calls, which are allowed between fork and exec.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM as libc::c_ulong, 0, 0, 0) != 0 {
                return Err(io::Error::last_os_error());
            }
            // It may have ended before the kernel was asked.
            if u32::try_from(libc::getppid()) != Ok(parent) {
                return Err(io::Error::from_raw_os_error(libc::ECHILD));
            }
            libc::setsid();
            Ok(())
        });
    }
    command.spawn()
}
