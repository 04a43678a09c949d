//! The Nix dev shell of a source tree, captured once as a script and sourced by each job.
//!
//! On disk, under `cache/dev-env/<shell>/`: `env.sh` (what `nix print-dev-env` said),
//! `state.json` (what it was made from), `profile` (the link that keeps it from being
//! collected) and a lock. The script is used again without asking Nix when the source is the
//! same, byte for byte; when it is not, but the shell's derivation is, after one evaluation.

use std::fs;
use std::path::{Path, PathBuf};

use jericho_host::lock::{FileLock, LockError};
use jericho_host::{CancelToken, Command, Environment, Host, HostError, Output};
use serde::{Deserialize, Serialize};

use crate::model::id::{IdError, check_name};

/// Version of `state.json`.
const VERSION: u32 = 1;

/// Why there is no dev shell.
#[derive(Debug, thiserror::Error)]
pub(super) enum DevShellError {
    /// The name would not be one path component.
    #[error("the dev shell cannot be called that")]
    Name(#[from] IdError),
    /// Nix is not there, or could not be run.
    #[error("nix could not be run")]
    Host(#[from] HostError),
    /// Nix said no.
    #[error("nix could not {step} the dev shell `{shell}`: {said}")]
    Nix {
        /// A verb.
        step: &'static str,
        /// Its name.
        shell: String,
        /// The end of what nix said.
        said: String,
    },
    /// The lock of the cache could not be taken.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The cache could not be written.
    #[error("cannot write {}", .0.display())]
    File(PathBuf, #[source] std::io::Error),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    schema_version: u32,
    shell: String,
    /// Derivation path of the shell.
    shell_fingerprint: String,
    /// Content hash of the last source that was found to give this derivation.
    validated_source_content_hash: Option<String>,
}

/// What a dev shell is made from.
pub(super) struct Source<'a> {
    /// The tree with `flake.nix`.
    pub(super) tree: &'a Path,
    /// Its content hash.
    pub(super) content_hash: &'a str,
    /// Environment that nix is run with.
    pub(super) env: &'a Environment,
}

/// Finds or captures a shell. Returns the script to source.
pub(super) fn capture(
    host: &dyn Host,
    nix: &Path,
    cache: &Path,
    shell: &str,
    source: &Source<'_>,
    cancel: &CancelToken,
) -> Result<PathBuf, DevShellError> {
    check_name(shell)?;
    let dir = cache.join(shell);
    fs::create_dir_all(&dir).map_err(|error| DevShellError::File(dir.clone(), error))?;
    // Two processes that realise one derivation poll each other for seconds: one at a time.
    let _lock = FileLock::exclusive_blocking(&dir.join("lock"))?;
    let script = dir.join("env.sh");
    let known = read_state(&dir).filter(|state| state.shell == shell && usable(&script));
    if let Some(state) = &known
        && state.validated_source_content_hash.as_deref() == Some(source.content_hash)
    {
        return Ok(script);
    }
    let nix = Nix { host, program: nix, shell, env: source.env, cancel };
    let flake = nix.add_source(source.tree)?;
    let fingerprint = nix.fingerprint(&flake)?;
    if known.is_none_or(|state| state.shell_fingerprint != fingerprint) {
        let text = nix.print(&flake, &dir.join("profile"))?;
        host.write_atomic(&script, &text, false)?;
    }
    let state = State {
        schema_version: VERSION,
        shell: shell.to_owned(),
        shell_fingerprint: fingerprint,
        validated_source_content_hash: Some(source.content_hash.to_owned()),
    };
    let path = dir.join("state.json");
    let text =
        serde_json::to_vec_pretty(&state).map_err(|error| DevShellError::File(path.clone(), error.into()))?;
    host.write_atomic(&path, &text, false)?;
    Ok(script)
}

/// A command that runs another one inside the shell.
pub(super) fn enter(script: &Path, command: Command) -> Command {
    let mut inside = Command { program: "bash".into(), args: Vec::new(), ..command.clone() }
        .args(["--noprofile", "--norc", "-c", "source \"$1\"; shift; exec \"$@\"", "bash"])
        .arg(script)
        .arg(command.program);
    inside.args.extend(command.args);
    inside
}

fn read_state(dir: &Path) -> Option<State> {
    let state: State = serde_json::from_slice(&fs::read(dir.join("state.json")).ok()?).ok()?;
    (state.schema_version == VERSION).then_some(state)
}

/// Whether the shell that a script names is still in the store: it may have been collected.
fn usable(script: &Path) -> bool {
    let Ok(text) = fs::read_to_string(script) else { return false };
    let bash = text.lines().take(32).find_map(|line| line.trim_start().strip_prefix("BASH='"));
    bash.and_then(|rest| rest.strip_suffix('\'')).is_some_and(|bash| Path::new(bash).exists())
}

struct Nix<'a> {
    host: &'a dyn Host,
    program: &'a Path,
    shell: &'a str,
    env: &'a Environment,
    cancel: &'a CancelToken,
}

impl Nix<'_> {
    /// Puts the source into the store once, and returns a flake reference that nix does not copy
    /// again at every evaluation. The name must be `source`: it is part of the path.
    fn add_source(&self, tree: &Path) -> Result<String, DevShellError> {
        let added = self
            .run("add the source of", |nix| nix.args(["store", "add-path", "--name", "source"]).arg(tree))?;
        let path = text(&added);
        let hashed = self.run("hash the source of", |nix| nix.args(["hash", "path"]).arg(path.as_str()))?;
        Ok(format!("path:{path}?narHash={}", percent_encode(&text(&hashed))))
    }

    fn fingerprint(&self, flake: &str) -> Result<String, DevShellError> {
        let system = self.run("ask for the system of", |nix| {
            nix.args(["eval", "--impure", "--raw", "--expr", "builtins.currentSystem"])
        })?;
        let attribute = format!("{flake}#devShells.{}.{}.drvPath", text(&system), self.shell);
        let path =
            self.run("evaluate", |nix| nix.args(["eval", "--no-update-lock-file", "--raw"]).arg(attribute))?;
        Ok(text(&path))
    }

    fn print(&self, flake: &str, profile: &Path) -> Result<Vec<u8>, DevShellError> {
        let shell = format!("{flake}#{}", self.shell);
        let printed = self.run("build", |nix| {
            nix.args(["print-dev-env", "--no-update-lock-file", "--profile"]).arg(profile).arg(shell)
        })?;
        Ok(printed.stdout)
    }

    fn run(
        &self,
        step: &'static str,
        args: impl FnOnce(Command) -> Command,
    ) -> Result<Output, DevShellError> {
        let nix = Command::new(self.program)
            .args(["--extra-experimental-features", "nix-command flakes"])
            .env(self.env.clone());
        let output = self.host.run(&args(nix), self.cancel)?;
        if output.exit.success() {
            return Ok(output);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        let said = lines[lines.len().saturating_sub(5)..].join("; ");
        Err(DevShellError::Nix { step, shell: self.shell.to_owned(), said })
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A narHash inside a URL: base64 has three characters that mean something else there.
fn percent_encode(hash: &str) -> String {
    hash.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}
