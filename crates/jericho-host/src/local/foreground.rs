//! A program that has the terminal of this process, for somebody who sits at it.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt as _;

use crate::command::Command;
use crate::host::{Exit, HostError};
use crate::local::LocalHost;

impl LocalHost {
    /// Runs a program with the standard streams of this process, until it ends. It is not
    /// supervised: what it leaves behind is its own affair, as at any shell.
    ///
    /// # Errors
    /// [`HostError::NotFound`], [`HostError::Start`].
    #[expect(
        clippy::disallowed_methods,
        reason = "it is to have the terminal, and nothing of it is captured"
    )]
    pub fn foreground(&self, command: &Command) -> Result<Exit, HostError> {
        let mut child = std::process::Command::new(&command.program);
        child.args(&command.args).env_clear().envs(command.env.iter());
        if let Some(cwd) = &command.cwd {
            child.current_dir(cwd);
        }
        let program = || OsStr::to_string_lossy(&command.program).into_owned();
        let status = child.status().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => HostError::NotFound { program: program() },
            _ => HostError::Start { program: program(), source: error },
        })?;
        Ok(match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or_default()),
        })
    }
}
