//! The source root: the top of the git work tree around a directory, or the directory itself.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use jericho_host::{CancelToken, Command, Environment, Host, HostError};

use crate::error::CliError;
use crate::exit::Exit;
use crate::render::text::{printable, typed};

/// A source tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// Its top, absolute.
    pub(crate) root: PathBuf,
    /// Why git has no say in it; none when it has.
    pub(crate) without_git: Option<WithoutGit>,
}

/// Why git has no say in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WithoutGit {
    /// It is not installed.
    #[error("there is no git on this machine's PATH")]
    NoProgram,
    /// There is nothing for it to say.
    #[error("it is not in a git repository")]
    NoRepository,
}

/// Finds the source tree that `directory` (absolute, existing) lies in.
pub(crate) fn find(host: &dyn Host, directory: &Path, env: &Environment) -> Result<Source, CliError> {
    let plain = |root: &Path, why: WithoutGit| Source { root: root.to_path_buf(), without_git: Some(why) };
    let mut env = env.clone();
    // The words below are looked for in what git says.
    env.set("LC_ALL", "C").remove("LANGUAGE");
    let command = Command::new("git").args(["rev-parse", "--show-toplevel"]).env(env).cwd(directory);
    let cancel = CancelToken::new().map_err(|error| failed(directory).because(error))?;
    let output = match host.run(&command, &cancel) {
        Ok(output) => output,
        Err(HostError::NotFound { .. }) => {
            let top = directory.ancestors().find(|above| above.join(".git").exists());
            return Ok(plain(top.unwrap_or(directory), WithoutGit::NoProgram));
        }
        Err(error) => return Err(failed(directory).because(error)),
    };
    if output.exit.success() {
        let mut top = output.stdout;
        if top.last() == Some(&b'\n') {
            top.pop();
        }
        return Ok(Source { root: PathBuf::from(OsString::from_vec(top)), without_git: None });
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("not a git repository") {
        return Ok(plain(directory, WithoutGit::NoRepository));
    }
    if said.contains("must be run in a work tree") {
        return Err(CliError::usage(format!(
            "{} is inside a repository, but in no work tree",
            directory.display()
        ))
        .hint("pikaci -C DIR, with a directory of the work tree"));
    }
    let first = said.lines().next().unwrap_or("it said nothing");
    let error = failed(directory).because(printable(first.as_bytes()));
    Err(match said.contains("dubious ownership") {
        true => error.hint(format!("git config --global --add safe.directory {}", typed(directory))),
        false => error.hint(format!("git -C {} status", typed(directory))),
    })
}

fn failed(directory: &Path) -> CliError {
    CliError::new(
        Exit::Infrastructure,
        format!("git cannot say where the source tree of {} begins", directory.display()),
    )
}
