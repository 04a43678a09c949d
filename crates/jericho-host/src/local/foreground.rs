//! A program that has the terminal of this process, for somebody who sits at it.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::ExitStatusExt as _;

use rustix::process::{Pid, PidfdFlags, Signal};

use crate::cancel::CancelToken;
use crate::command::Command;
use crate::host::{Exit, HostError};
use crate::local::LocalHost;

impl LocalHost {
    /// Runs a program with the standard streams of this process, until it ends. It is not
    /// supervised: what it leaves behind is its own affair, as at any shell.
    ///
    /// # Errors
    /// [`HostError::NotFound`], [`HostError::Start`].
    pub fn foreground(&self, command: &Command) -> Result<Exit, HostError> {
        run(command, None)
    }

    /// The same for one that a cancellation ends, with TERM.
    pub(crate) fn foreground_until(
        &self,
        command: &Command,
        cancel: &CancelToken,
    ) -> Result<Exit, HostError> {
        run(command, Some(cancel))
    }
}

#[expect(clippy::disallowed_methods, reason = "it is to have the terminal, and nothing of it is captured")]
fn run(command: &Command, cancel: Option<&CancelToken>) -> Result<Exit, HostError> {
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
    if let Some(cancel) = cancel {
        // Not reaped yet, so that its number is its own. Without a descriptor left it ends by itself.
        if let Ok(held) = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            cancel.on_cancel(move |_| {
                // One that has ended is as good.
                let _ = rustix::process::pidfd_send_signal(&held, Signal::TERM);
            });
        }
    }
    let status = child.wait().map_err(failed)?;
    Ok(match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or_default()),
    })
}
