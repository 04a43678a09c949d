//! The Nix dev shell of a source tree: captured once as a script, entered by each job.
//!
//! On disk, under `cache/dev-env/<shell>/`: `env.sh` (what `nix print-dev-env` said),
//! `state.json` (what it was made from), `profile` (the GC root of everything the script names)
//! and a lock. The script is used again without asking Nix when the source is the same, byte for
//! byte; when it is not, but the shell's derivation is, after one evaluation.
//!
//! A job is handed a copy of the script: another run, of another source, may replace it.

mod enter;
mod nix;

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jericho_host::{CancelReason, CancelToken, Environment, Host, HostError};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::lock::{self, WaitError};
use crate::model::id::{IdError, check_name};

pub(super) use enter::{Entered, Inside, enter};

/// Version of `state.json`.
const VERSION: u32 = 1;

/// Why there is no dev shell.
#[derive(Debug, thiserror::Error)]
pub(super) enum DevShellError {
    /// The job was cancelled meanwhile.
    #[error("cancelled: {0}")]
    Cancelled(CancelReason),
    /// The name would not be one path component.
    #[error("a dev shell cannot be called that")]
    Name(#[from] IdError),
    /// Nix is not there.
    #[error("the job asks for the dev shell `{shell}`, and {program} is not installed")]
    NoNix {
        /// The shell.
        shell: String,
        /// Nix, as it was looked for.
        program: String,
    },
    /// Nix said no.
    #[error("nix could not {step} the dev shell `{shell}`: {said}")]
    Nix {
        /// A verb, or two words.
        step: &'static str,
        /// The shell.
        shell: String,
        /// The end of what nix said.
        said: String,
    },
    /// What nix printed cannot be used.
    #[error("nix printed no script for the dev shell `{shell}`: {why}")]
    Unusable {
        /// The shell.
        shell: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The machine refused.
    #[error("the dev shell could not be captured")]
    Host(#[source] HostError),
    /// The cache could not be locked.
    #[error("the cache of the dev shell could not be locked")]
    Lock(#[source] WaitError),
    /// A file could not be written or read.
    #[error("cannot use {}", .0.display())]
    File(PathBuf, #[source] io::Error),
}

impl From<WaitError> for DevShellError {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Cancelled(reason) => Self::Cancelled(reason),
            other => Self::Lock(other),
        }
    }
}

impl From<HostError> for DevShellError {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Cancelled(reason) => Self::Cancelled(reason),
            other => Self::Host(other),
        }
    }
}

/// `state.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    schema_version: u32,
    shell: String,
    /// Derivation path of the shell.
    shell_fingerprint: String,
    /// Content hash of the last source that was found to give this derivation.
    validated_source_content_hash: Option<String>,
    /// Of `env.sh`, hexadecimal.
    #[serde(default)]
    script_sha256: String,
}

/// A script that makes a shell a dev shell.
#[derive(Debug)]
pub(super) struct Script {
    text: Vec<u8>,
    /// The bash of the dev shell: the script may need that of its own Nix rather than an older one.
    bash: PathBuf,
}

impl Script {
    /// A script as nix prints it, when the bash it names is there: the garbage collector may have
    /// taken it.
    fn new(text: Vec<u8>) -> Option<Self> {
        // Nix takes only bash for a builder. `BASH` is the second choice: where the builder has no
        // PATH, bash writes the login shell of the user there.
        let bash = ["builder='", "BASH='"].iter().find_map(|variable| named_bash(&text, variable))?;
        bash.is_file().then_some(Self { text, bash })
    }
}

/// The value of a variable of a script, when it is the path of a bash.
fn named_bash(script: &[u8], variable: &str) -> Option<PathBuf> {
    let mut lines = script.split(|&byte| byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(variable.as_bytes()))?.strip_suffix(b"'")?;
    let path = Path::new(std::ffi::OsStr::from_bytes(value));
    path.ends_with("bash").then(|| path.to_path_buf())
}

/// What a dev shell is made from.
pub(super) struct Source<'a> {
    /// The tree with `flake.nix`.
    pub(super) tree: &'a Path,
    /// Its content hash.
    pub(super) content_hash: &'a str,
    /// Nix, a path or a name.
    pub(super) nix: &'a Path,
    /// Environment that nix is run with.
    pub(super) env: &'a Environment,
    /// What nix is given to end its builders when it is cancelled.
    pub(super) grace: Duration,
}

/// Finds or captures a shell.
pub(super) fn capture(
    host: &dyn Host,
    cache: &Path,
    shell: &str,
    source: &Source<'_>,
    cancel: &CancelToken,
) -> Result<Script, DevShellError> {
    check_name(shell)?;
    // Two processes that realise one derivation poll each other for seconds: one at a time.
    let (dir, _lock) = loop {
        let dir = make_dir(&cache.join(shell))?;
        let path = dir.join("lock");
        let lock = lock::exclusive(&path, cancel)?;
        // A collection that was faster has removed the directory, and with it this file.
        if lock::is_at(&lock, &path) {
            lock::touch(&lock).map_err(|error| DevShellError::File(path, error))?;
            break (dir, lock);
        }
    };
    let known = Known::read(&dir, shell);
    let known = match known {
        Some(known) if known.state.validated_source_content_hash.as_deref() == Some(source.content_hash) => {
            return Ok(known.script);
        }
        other => other,
    };
    let nix = nix::Nix { host, shell, source, dir: &dir, cancel };
    let evaluated = nix.evaluate()?;
    let script = match known {
        Some(known) if known.state.shell_fingerprint == evaluated.fingerprint => known.script,
        _ => {
            let text = relative_outputs(&nix.print(&evaluated, &dir.join("profile"))?, &dir);
            let why = "it names no bash that is there";
            let script = Script::new(text).ok_or(DevShellError::Unusable { shell: shell.to_owned(), why })?;
            host.write_atomic(&dir.join("env.sh"), &script.text, false)?;
            forget_old_profiles(&dir);
            script
        }
    };
    let state = State {
        schema_version: VERSION,
        shell: shell.to_owned(),
        shell_fingerprint: evaluated.fingerprint,
        validated_source_content_hash: Some(source.content_hash.to_owned()),
        script_sha256: sha256(&script.text),
    };
    let path = dir.join("state.json");
    let text =
        serde_json::to_vec_pretty(&state).map_err(|error| DevShellError::File(path.clone(), error.into()))?;
    host.write_atomic(&path, &text, false)?;
    Ok(script)
}

/// What an earlier capture left.
struct Known {
    state: State,
    script: Script,
}

impl Known {
    /// Nothing when any part is missing, damaged, collected, or without its GC root.
    fn read(dir: &Path, shell: &str) -> Option<Self> {
        let state: State = serde_json::from_slice(&fs::read(dir.join("state.json")).ok()?).ok()?;
        let text = fs::read(dir.join("env.sh")).ok()?;
        let sound = state.schema_version == VERSION
            && state.shell == shell
            && state.script_sha256 == sha256(&text)
            && dir.join("profile").exists();
        sound.then(|| Script::new(text)).flatten().map(|script| Self { state, script })
    }
}

/// Nix lets `$out` of a dev shell be `outputs/out` below the directory in which it printed the
/// script. Below the directory in which the script is sourced no two jobs share it.
fn relative_outputs(script: &[u8], printed_in: &Path) -> Vec<u8> {
    let absolute = [printed_in.as_os_str().as_bytes(), b"/outputs/"].concat();
    let mut text = Vec::with_capacity(script.len());
    let mut rest = script;
    while let Some(at) = rest.windows(absolute.len()).position(|window| window == absolute) {
        text.extend_from_slice(&rest[..at]);
        // Values stand in single quotes.
        text.extend_from_slice(b"'\"$PWD\"'/outputs/");
        rest = &rest[at + absolute.len()..];
    }
    text.extend_from_slice(rest);
    text
}

/// A profile keeps its earlier generations from being collected: only the last one is used.
fn forget_old_profiles(dir: &Path) {
    let Ok(current) = fs::read_link(dir.join("profile")) else { return };
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let generation = name
            .to_str()
            .is_some_and(|name| name.strip_prefix("profile-").is_some_and(|rest| rest.ends_with("-link")));
        if generation && Some(name.as_os_str()) != current.file_name() {
            // One that stays costs disk only.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn make_dir(dir: &Path) -> Result<PathBuf, DevShellError> {
    fs::create_dir_all(dir)
        .and_then(|()| dir.canonicalize())
        .map_err(|error| DevShellError::File(dir.to_path_buf(), error))
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_of_a_shell_lie_where_it_is_entered() {
        let script =
            b"out='/c/dev/outputs/out'\nexport out\nflags='--prefix=/c/dev/outputs/out x'\nb='/c/dev'\n";
        let text = String::from_utf8(relative_outputs(script, Path::new("/c/dev"))).unwrap();
        assert_eq!(
            text,
            "out=''\"$PWD\"'/outputs/out'\nexport out\nflags='--prefix='\"$PWD\"'/outputs/out x'\nb='/c/dev'\n"
        );
    }

    #[test]
    fn a_script_is_usable_while_the_bash_it_names_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let bash = dir.path().join("bash");
        let text = format!("unset shellHook\nA='x\ny'\nBASH='{}'\n", bash.display());
        assert!(Script::new(text.clone().into_bytes()).is_none());
        fs::write(&bash, "").unwrap();
        assert_eq!(Script::new(text.into_bytes()).unwrap().bash, bash);
        let text = format!("BASH='/bin/sh'\nbuilder='{}'\n", bash.display());
        assert_eq!(Script::new(text.into_bytes()).unwrap().bash, bash);
        assert!(Script::new(b"BASH='/bin/sh'\n".to_vec()).is_none());
        assert!(Script::new(b"error: no\n".to_vec()).is_none());
    }
}
