//! What nix is asked for a dev shell. The forms are those that nix 2.8 and newer all have.

use std::path::Path;

use jericho_host::{CancelToken, Command, Host, HostError, Output};

use super::{DevShellError, Source};
use crate::nix::{complaint, percent_encode};

/// Nix, asked for one shell of one source.
pub(super) struct Nix<'a> {
    pub(super) host: &'a dyn Host,
    pub(super) shell: &'a str,
    pub(super) source: &'a Source<'a>,
    /// Working directory.
    pub(super) dir: &'a Path,
    pub(super) cancel: &'a CancelToken,
}

/// A shell that evaluates.
pub(super) struct Evaluated {
    installable: String,
    /// Path of its derivation: the same path is the same shell.
    pub(super) fingerprint: String,
}

impl Nix<'_> {
    /// Which derivation the shell of the source is.
    pub(super) fn evaluate(&self) -> Result<Evaluated, DevShellError> {
        let system = self.run("ask for the system of", |nix| {
            nix.args(["eval", "--impure", "--raw", "--expr", "builtins.currentSystem"])
        })?;
        let mut added = self.add_source()?;
        let mut evaluated = self.derivation(&added, &text(&system));
        // Nothing keeps the source from being collected between two commands.
        if evaluated.is_err() && !Path::new(&added).exists() {
            added = self.add_source()?;
            evaluated = self.derivation(&added, &text(&system));
        }
        evaluated
    }

    /// The script that makes a bash this shell. Builds what is missing; `profile` becomes a GC
    /// root of all of it.
    pub(super) fn print(&self, evaluated: &Evaluated, profile: &Path) -> Result<Vec<u8>, DevShellError> {
        let printed = self.run("build", |nix| {
            nix.args(["print-dev-env", "--no-update-lock-file", "--profile"])
                .arg(profile)
                .arg(evaluated.installable.as_str())
        })?;
        Ok(printed.stdout)
    }

    /// Puts the source into the store once: nix would copy a `path:` of another place at every
    /// evaluation. The name must be `source`: it is part of the path, and what flakes expect.
    fn add_source(&self) -> Result<String, DevShellError> {
        let added = self.run("add the source of", |nix| {
            nix.args(["store", "add-path", "--name", "source"]).arg(self.source.tree)
        })?;
        Ok(text(&added))
    }

    fn derivation(&self, added: &str, system: &str) -> Result<Evaluated, DevShellError> {
        let hashed = self.run("hash the source of", |nix| nix.args(["hash", "path"]).arg(added))?;
        let hash = percent_encode(&text(&hashed));
        // In quotes, since a name may have dots.
        let installable = format!("path:{added}?narHash={hash}#devShells.{system}.%22{}%22", self.shell);
        let path = self.run("evaluate", |nix| {
            nix.args(["eval", "--no-update-lock-file", "--raw"]).arg(format!("{installable}.drvPath"))
        })?;
        Ok(Evaluated { installable, fingerprint: text(&path) })
    }

    fn run(
        &self,
        step: &'static str,
        args: impl FnOnce(Command) -> Command,
    ) -> Result<Output, DevShellError> {
        let nix = Command::new(self.source.nix)
            .args(["--extra-experimental-features", "nix-command flakes"])
            .env(self.source.env.clone())
            .cwd(self.dir)
            // Killed, it would leave its builders behind.
            .grace(self.source.grace);
        let shell = self.shell.to_owned();
        let output = self.host.run(&args(nix), self.cancel).map_err(|error| match error {
            HostError::NotFound { program } => DevShellError::NoNix { shell: shell.clone(), program },
            other => other.into(),
        })?;
        if output.exit.success() {
            return Ok(output);
        }
        Err(DevShellError::Nix { step, shell, said: complaint(&output.stderr) })
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
