//! A command inside a dev shell: how it is started, and whether it was.

use std::fs;
use std::path::{Path, PathBuf};

use jericho_host::Command;

use super::{DevShellError, Script};

/// Run by the bash of the dev shell. Values come by the environment, never as arguments: those
/// can be read by everybody.
const ENTER: &str = include_str!("enter.sh");

/// A command that enters a dev shell first.
pub(in super::super) struct Inside {
    /// What to start.
    pub(in super::super) command: Command,
    progress: PathBuf,
}

/// How far a command came that had to enter a dev shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Entered {
    /// It was started: its exit is its own.
    Started,
    /// The shell was entered and has no such program.
    NoProgram,
    /// The shell ended by itself, as a shell hook that calls `exit` makes it.
    Never,
}

/// Puts a command into a shell. What the shell must not change of the command's environment is
/// given in `kept`, by name; `scratch` is a directory of the job's own.
pub(in super::super) fn enter<'a>(
    script: &Script,
    command: Command,
    kept: impl IntoIterator<Item = &'a str>,
    scratch: &Path,
) -> Result<Inside, DevShellError> {
    let [own, temporary, progress] = ["dev-shell.sh", "tmp", "dev-shell"].map(|name| scratch.join(name));
    fs::create_dir_all(&temporary).map_err(|error| DevShellError::File(temporary.clone(), error))?;
    fs::write(&own, &script.text).map_err(|error| DevShellError::File(own.clone(), error))?;
    // Privileged: what the job declares for its own shells (BASH_ENV) is not for this one.
    let mut inside = Command { program: script.bash.clone().into(), args: Vec::new(), ..command.clone() }
        .args(["-p", "-c", ENTER, "jerichoci-dev-shell"])
        .args([&own, &progress, &temporary])
        // Others are no variables to a shell: it passes them on and cannot change them.
        .args(kept.into_iter().filter(|name| is_identifier(name)))
        .arg("--")
        .arg(command.program);
    inside.args.extend(command.args);
    Ok(Inside { command: inside, progress })
}

impl Inside {
    /// Asked when it has ended by itself.
    pub(in super::super) fn entered(&self) -> Entered {
        match fs::read(&self.progress).as_deref() {
            Ok(b"started") => Entered::Started,
            Ok(b"missing") => Entered::NoProgram,
            _ => Entered::Never,
        }
    }
}

fn is_identifier(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
