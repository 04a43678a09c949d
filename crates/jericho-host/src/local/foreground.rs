//! A program that has the terminal of this process, for somebody who sits at it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::cancel::{CancelReason, CancelToken};
use crate::command::Command;
use crate::host::{Exit, HostError};
use crate::local::LocalHost;
use crate::wait::{is_ready, now, wait};

/// From one signal to the next.
const GRACE: Duration = Duration::from_millis(500);

impl LocalHost {
    /// Runs a program with the standard streams of this process, until it ends or a cancellation ends it: with TERM, with
    /// HUP (which ends a shell that somebody types at), and in the end with KILL. It is not supervised: what it leaves
    /// behind is its own affair, as at any shell.
    ///
    /// # Errors
    /// [`HostError::NotFound`], [`HostError::Start`].
    pub fn foreground_until(&self, command: &Command, cancel: &CancelToken) -> Result<Exit, HostError> {
        run(command, cancel)
    }
}

#[expect(clippy::disallowed_methods, reason = "it is to have the terminal, and nothing of it is captured")]
fn run(command: &Command, cancel: &CancelToken) -> Result<Exit, HostError> {
    let mut child = std::process::Command::new(&command.program);
    child.args(&command.args).env_clear().envs(command.env.iter());
    if let Some(cwd) = &command.cwd {
        child.current_dir(cwd);
    }
    let program = || OsStr::to_string_lossy(&command.program).into_owned();
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => HostError::NotFound { program: program() },
        _ => HostError::Start { program: program(), source: error },
    };
    let mut child = child.spawn().map_err(failed)?;
    // Not reaped yet, so that its number is its own. Without a descriptor left it ends by itself.
    if let Ok(held) = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty())
        && let Err(error) = end_when_cancelled(&held, cancel)
    {
        // Nobody would wait for it, or could end it.
        let _ = child.kill().and_then(|()| child.wait());
        return Err(failed(error));
    }
    let status = child.wait().map_err(failed)?;
    Ok(match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or_default()),
    })
}

/// Waits for the end of a process, and sees to it once the token is cancelled.
fn end_when_cancelled(process: &OwnedFd, cancel: &CancelToken) -> io::Result<()> {
    let mut signals = [Signal::TERM, Signal::HUP, Signal::KILL].into_iter();
    let mut next = None;
    while !is_ready(process.as_fd()) {
        let (token, due) = match (cancel.reason(), next) {
            // Nothing more can be done than wait.
            (Some(_), _) if signals.len() == 0 => return Ok(()),
            (Some(CancelReason::Forced), _) => (None, true),
            (Some(_), None) => (None, true),
            (Some(_), Some(at)) => (Some(cancel.forced_fd()), now() >= at),
            (None, _) => (Some(cancel.fd()), false),
        };
        if due {
            let signal = match cancel.reason() {
                Some(CancelReason::Forced) => signals.next_back(),
                _ => signals.next(),
            };
            // One that has ended is as good; one that is stopped ends once it goes on.
            for signal in signal.into_iter().chain([Signal::CONT]) {
                let _ = rustix::process::pidfd_send_signal(process, signal);
            }
            next = Some(now().saturating_add(GRACE));
            continue;
        }
        let mut fds = vec![PollFd::new(process, PollFlags::IN)];
        fds.extend(token.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        wait(&mut fds, next)?;
    }
    Ok(())
}
