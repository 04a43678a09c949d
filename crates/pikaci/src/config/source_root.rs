//! Where the source tree begins: the top of the git work tree, else the directory itself.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use jericho_host::{CancelToken, Command, Environment, Host, HostError, LocalHost, Output};

use super::pick;

/// The top of a source tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceRoot {
    /// Absolute, without symbolic links.
    pub(crate) path: PathBuf,
    /// Why this is not the top of a git work tree, when it is not.
    pub(crate) no_git: Option<String>,
}

impl SourceRoot {
    /// Asks git; without an answer it is `directory` itself.
    pub(super) fn find(directory: &Path, environment: &Environment) -> Self {
        match git_top_level(directory, environment) {
            Ok(path) => Self { path, no_git: None },
            Err(why) => {
                let path = std::fs::canonicalize(directory).unwrap_or_else(|_| directory.to_path_buf());
                Self { path, no_git: Some(why) }
            }
        }
    }
}

fn git_top_level(directory: &Path, environment: &Environment) -> Result<PathBuf, String> {
    let command = Command::new("git")
        .args(["rev-parse", "--show-toplevel"])
        .cwd(directory)
        .env(git_environment(environment));
    // Nobody can cancel this yet: it takes milliseconds.
    let cancel = CancelToken::new().map_err(|error| format!("git could not be asked: {error}"))?;
    match LocalHost::new().run(&command, &cancel) {
        Ok(Output { exit, mut stdout, .. }) if exit.success() => {
            if stdout.last() == Some(&b'\n') {
                stdout.pop();
            }
            Ok(PathBuf::from(OsString::from_vec(stdout)))
        }
        Ok(Output { stderr, .. }) => {
            let said = String::from_utf8_lossy(&stderr);
            let first = said.lines().next().unwrap_or("git gave no reason").trim();
            Err(first.strip_prefix("fatal: ").unwrap_or(first).to_owned())
        }
        Err(HostError::NotFound { .. }) => Err("git is not installed".to_owned()),
        Err(error) => Err(format!("git could not be asked: {error}")),
    }
}

/// What git may know of the caller: where it is configured, and how far it may look for a
/// repository. `GIT_DIR` and the like, as set in a hook, would name another tree.
fn git_environment(environment: &Environment) -> Environment {
    let mut names = vec![
        "PATH",
        "HOME",
        "XDG_CONFIG_HOME",
        "GIT_CEILING_DIRECTORIES",
        "GIT_DISCOVERY_ACROSS_FILESYSTEM",
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_SYSTEM",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_CONFIG_COUNT",
    ];
    let numbered: Vec<&str> = environment
        .iter()
        .filter_map(|(name, _)| name.to_str())
        .filter(|name| name.starts_with("GIT_CONFIG_KEY_") || name.starts_with("GIT_CONFIG_VALUE_"))
        .collect();
    names.extend(numbered);
    let mut git: Environment = pick(environment, &names).collect();
    git.set("LC_ALL", "C").set("GIT_OPTIONAL_LOCKS", "0");
    git
}
