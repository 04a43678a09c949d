//! Why an output was not realised, told apart by step and exit code: the texts of nix differ
//! from version to version.

use std::path::PathBuf;

use jericho_host::{CancelReason, Exit, HostError};

use crate::lock::WaitError;
use crate::model::outcome::{FailureKind, Verdict};
use crate::nix::{complaint, says_disk_full};

/// Why an output was not realised.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RealizeError {
    /// A builder said no.
    #[error("`{output}` could not be built: {said}")]
    Build {
        /// Flake attribute.
        output: String,
        /// The end of the build log, one line.
        said: String,
    },
    /// A builder took, or was silent, longer than nix allows.
    #[error("`{output}` was not built in the time that nix allows: {said}")]
    BuildTimeout {
        /// Flake attribute.
        output: String,
        /// The end of the build log, one line.
        said: String,
    },
    /// The flake does not have it, or throws.
    #[error("`{output}` of flake.nix cannot be evaluated: {said}")]
    Evaluate {
        /// Flake attribute.
        output: String,
        /// The end of what nix said, one line.
        said: String,
    },
    /// Nix is not there.
    #[error("`{output}` needs nix, and {program} is not installed on {host}")]
    NoNix {
        /// Flake attribute.
        output: String,
        /// As it was looked for.
        program: String,
        /// Label of the host.
        host: String,
    },
    /// No space for the source, the derivation or the output.
    #[error("`{output}` could not be realised, the disk of {host} is full: {said}")]
    DiskFull {
        /// Flake attribute.
        output: String,
        /// Label of the host.
        host: String,
        /// The end of what nix said, one line.
        said: String,
    },
    /// Nix itself failed.
    #[error("nix could not {step} `{output}` on {host}: {said}")]
    Nix {
        /// A verb.
        step: &'static str,
        /// Flake attribute.
        output: String,
        /// Label of the host.
        host: String,
        /// The end of what nix said, one line.
        said: String,
    },
    /// The source tree is not to be had.
    #[error("the source tree could not be given to nix: {0}")]
    Tree(String),
    /// The caller's token was cancelled.
    #[error("cancelled: {0}")]
    Cancelled(CancelReason),
    /// The host could not be asked.
    #[error("the host could not be asked to realise `{output}`")]
    Host {
        /// Flake attribute.
        output: String,
        /// What went wrong.
        #[source]
        source: HostError,
    },
    /// The lock of the derivation could not be taken.
    #[error("cannot lock {}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
}

impl RealizeError {
    /// What it is to those that need the output: the builder and the flake are the source's own,
    /// everything else is not.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        Verdict::Failed(match self {
            Self::Build { .. } | Self::Evaluate { .. } => FailureKind::TestFailure,
            Self::BuildTimeout { .. } => FailureKind::Timeout,
            Self::Cancelled(CancelReason::RecordsFailed) => FailureKind::Infrastructure,
            Self::Cancelled(_) => FailureKind::Cancelled,
            _ => FailureKind::Infrastructure,
        })
    }

    pub(super) fn of_wait(error: WaitError, path: &std::path::Path) -> Self {
        match error {
            WaitError::Cancelled(reason) => Self::Cancelled(reason),
            other => Self::Lock { path: path.to_path_buf(), source: std::io::Error::other(other) },
        }
    }
}

/// For messages: what is asked for, and of whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) output: &'a str,
    pub(super) host: &'a str,
}

impl Asked<'_> {
    /// Of a call that has no verdict of nix.
    pub(super) fn host_error(self, error: HostError) -> RealizeError {
        let output = self.output.to_owned();
        match error {
            HostError::Cancelled(reason) => RealizeError::Cancelled(reason),
            HostError::NotFound { program } => {
                RealizeError::NoNix { output, program, host: self.host.to_owned() }
            }
            source if source.is_no_space() => RealizeError::DiskFull {
                output,
                host: "this machine".to_owned(),
                said: crate::causes::with_causes(&source),
            },
            source => RealizeError::Host { output, source },
        }
    }

    /// Of a step that is not the build. `by_source` is whether a plain failure is the source's.
    pub(super) fn refused(
        self,
        step: &'static str,
        by_source: bool,
        exit: Exit,
        stderr: &[u8],
    ) -> RealizeError {
        let (output, host, said) = (self.output.to_owned(), self.host.to_owned(), complaint(stderr));
        match exit {
            _ if says_disk_full(stderr) => RealizeError::DiskFull { output, host, said },
            // A shell that does not find a program says so by this code.
            Exit::Code(127) => RealizeError::NoNix { output, program: "nix".to_owned(), host },
            Exit::Code(1) if by_source && !is_not_the_source(stderr) => {
                RealizeError::Evaluate { output, said }
            }
            _ => RealizeError::Nix { step, output, host, said },
        }
    }

    /// Of `nix-store --realise`.
    pub(super) fn not_built(self, exit: Exit, said: &[u8]) -> RealizeError {
        /// Nix adds 1 for a time-out, 2 for a wrong hash, 4 for a build that is not repeatable.
        const BUILD: std::ops::RangeInclusive<i32> = 100..=107;
        match exit {
            Exit::Code(code) if BUILD.contains(&code) && !says_disk_full(said) => {
                let (output, text) = (self.output.to_owned(), complaint(said));
                match code & 1 {
                    1 => RealizeError::BuildTimeout { output, said: text },
                    _ => RealizeError::Build { output, said: text },
                }
            }
            other => self.refused("realise", false, other, said),
        }
    }
}

/// An evaluation that fails for a reason that is not in the flake has the same exit code. Only what nix says as its
/// own error counts: around it nix shows lines of the source, which may have any words.
fn is_not_the_source(stderr: &[u8]) -> bool {
    /// Of nix, and of the system, which nix passes on.
    const TEXTS: [&str; 9] = [
        "cannot connect to socket",
        "unable to download",
        "could not resolve host",
        "unable to open database",
        "database is locked",
        "permission denied",
        "read-only file system",
        "disk quota exceeded",
        "cannot allocate memory",
    ];
    let said = String::from_utf8_lossy(stderr).to_lowercase();
    let mut errors = said
        .lines()
        .map(str::trim_start)
        .filter(|line| line.strip_prefix("warning: ").unwrap_or(line).starts_with("error:"));
    errors.any(|line| TEXTS.iter().any(|text| line.contains(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked<'_> = Asked { output: "ci.x", host: "local" };

    fn kind(error: &RealizeError) -> Option<FailureKind> {
        error.verdict().failure_kind()
    }

    #[test]
    fn a_build_fails_by_the_codes_of_nix_and_a_full_disk_is_never_its_fault() {
        let built = |code, said: &str| kind(&ASKED.not_built(Exit::Code(code), said.as_bytes())).unwrap();
        assert_eq!(built(100, "error: builder failed"), FailureKind::TestFailure);
        assert_eq!(built(101, "timed out"), FailureKind::Timeout);
        assert_eq!(built(102, "hash mismatch"), FailureKind::TestFailure);
        assert_eq!(built(104, "not deterministic"), FailureKind::TestFailure);
        assert_eq!(built(100, "x: No space left on device\nfailed"), FailureKind::Infrastructure);
        assert_eq!(built(1, "don't know how to build"), FailureKind::Infrastructure);
        assert_eq!(kind(&ASKED.not_built(Exit::Signal(9), b"")), Some(FailureKind::Infrastructure));
    }

    #[test]
    fn a_flake_that_throws_is_the_sources_and_a_daemon_that_is_away_is_not() {
        let refused = |code, said: &str| ASKED.refused("evaluate", true, Exit::Code(code), said.as_bytes());
        assert!(matches!(refused(1, "error: throw"), RealizeError::Evaluate { .. }));
        assert!(matches!(refused(1, "error: cannot connect to socket"), RealizeError::Nix { .. }));
        for text in
            ["Read-only file system", "Disk quota exceeded", "Could not resolve host: x", "Permission denied"]
        {
            let told = refused(1, &format!("error:\n       … while x\n       error: opening `x`: {text}"));
            assert!(matches!(told, RealizeError::Nix { .. }), "{text}");
            let shown = refused(1, &format!("error: attribute 'x' missing\n  3| y = \"{text}\";"));
            assert!(matches!(shown, RealizeError::Evaluate { .. }), "{text}");
        }
        assert!(matches!(refused(1, "No space left on device"), RealizeError::DiskFull { .. }));
        assert!(matches!(refused(127, "sh: nix: not found"), RealizeError::NoNix { .. }));
        assert!(matches!(refused(255, ""), RealizeError::Nix { .. }));
    }
}
