//! Why a host cannot be used, told apart by what a person does about it.

use std::path::PathBuf;
use std::sync::Arc;

use jericho_host::quote::quote;
use jericho_host::{CancelReason, HostError, SshError};

use super::runner_binary::NAME;
use crate::causes::with_causes;
use crate::model::job::JobRuntimeKind;
use crate::model::outcome::JobOutcome;

/// What is wrong with a work directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkDirProblem {
    /// Snapshots and programs would lie wherever it leads.
    #[error("is a symbolic link")]
    Link,
    /// Something else has its name.
    #[error("is no directory")]
    NoDirectory,
    /// Its owner could change what is run from it.
    #[error("belongs to {owner}, not to the account {account} of the connection")]
    Owner {
        /// Name of the owner, or the number.
        owner: String,
        /// Name of the account of the connection.
        account: String,
    },
    /// Others could change what is run from it.
    #[error("can be written by others")]
    Open,
    /// Nothing can be put into it.
    #[error("cannot be written: {0}")]
    ReadOnly(String),
    /// It could not be made.
    #[error("cannot be made: {0}")]
    Missing(String),
    /// It is not absolute, or has a part that is no name.
    #[error("is no absolute path without `..`")]
    Path,
}

/// Why a host could not be used. Never the verdict of a command.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// ssh could not connect, was not let in, met another key, or lost the connection: see
    /// [`SshError`].
    #[error("host {host}")]
    Ssh {
        /// The name that the job uses.
        host: String,
        /// What ssh(1) is told.
        destination: String,
        /// What went wrong.
        #[source]
        source: Arc<HostError>,
    },
    /// The caller's token was cancelled before the host was ready.
    #[error("cancelled: {0}")]
    Cancelled(CancelReason),
    /// Its operator does not let jobs have this runtime.
    #[error("host {host} does not allow jobs with the runtime {}", word(*runtime))]
    NotAllowed {
        /// The name that the job uses.
        host: String,
        /// What the job asks for.
        runtime: JobRuntimeKind,
        /// What jobs may have there.
        allowed: Vec<JobRuntimeKind>,
    },
    /// The work directory cannot be used.
    #[error("host {host}: the work directory {} {problem}", path.display())]
    WorkDir {
        /// The name that the job uses.
        host: String,
        /// What ssh(1) is told.
        destination: String,
        /// The directory there.
        path: PathBuf,
        /// Why.
        problem: WorkDirProblem,
    },
    /// There is less room than a run may begin with.
    #[error(
        "host {host}: {} has {} free, and a run begins with {} at least",
        path.display(), gib(*free_bytes), gib(*floor_bytes)
    )]
    Disk {
        /// The name that the job uses.
        host: String,
        /// The work directory there.
        path: PathBuf,
        /// Free for this account.
        free_bytes: u64,
        /// What is needed.
        floor_bytes: u64,
    },
    /// There is no runner for the processors of the host.
    #[error(
        "host {host}: there is no runner for {arch}: in a checkout `scripts/build-guest` builds it; else \
         JERICHOCI_GUEST_RUNNER_DIR names the directory of {arch}/jerichoci-incus-run"
    )]
    NoRunner {
        /// The name that the job uses.
        host: String,
        /// Of the host, as `uname -m` says it; with the system before it when that is not Linux.
        arch: String,
        /// Where one was looked for.
        searched: Vec<PathBuf>,
    },
    /// The runner is there on this side and could not be read or put on the host.
    #[error("host {host}: the runner could not be delivered: {reason}")]
    Runner {
        /// The name that the job uses.
        host: String,
        /// Why.
        reason: String,
    },
    /// The host answers something that it never should.
    #[error("host {host} answers what nobody has asked for: {said}")]
    Answer {
        /// The name that the job uses.
        host: String,
        /// What it said.
        said: String,
    },
}

/// The word of the settings for a runtime.
pub(crate) const fn word(runtime: JobRuntimeKind) -> &'static str {
    match runtime {
        JobRuntimeKind::HostProcess => "host_process",
        JobRuntimeKind::Incus => "incus",
        JobRuntimeKind::Tart => "tart",
    }
}

fn gib(bytes: u64) -> String {
    let tenths = u128::from(bytes) * 10 / (1 << 30);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

fn word_of_shell(text: impl Into<std::ffi::OsString>) -> String {
    let text = text.into();
    quote(&text)
        .map_or_else(|_| text.to_string_lossy().into_owned(), |word| word.to_string_lossy().into_owned())
}

impl RemoteError {
    /// What to do about it, where there is something: a sentence with what can be typed.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Ssh { host, destination, source } => ssh_hint(host, destination, source),
            Self::Cancelled(_) => None,
            Self::NotAllowed { host, runtime, allowed } => {
                let words: Vec<String> =
                    allowed.iter().chain([runtime]).map(|kind| format!("\"{}\"", word(*kind))).collect();
                Some(format!(
                    "who answers for the host lets them with `allow = [{}]` under `[hosts.{host}]`",
                    words.join(", ")
                ))
            }
            Self::WorkDir { host, destination, path, problem } => {
                let there = |command: &str| {
                    let command = format!("{command} {}", word_of_shell(path.as_os_str()));
                    format!("`ssh {} {}`", word_of_shell(destination), word_of_shell(command))
                };
                let other = format!("another one is named with `work_dir = \"…\"` under `[hosts.{host}]`");
                Some(match problem {
                    WorkDirProblem::Open => format!("mend it with {}", there("chmod 0700")),
                    WorkDirProblem::Owner { account, .. } => {
                        let chown = there(&format!("sudo chown {account}"));
                        format!("give it to the account with {chown}, or {other}")
                    }
                    WorkDirProblem::ReadOnly(_) => {
                        format!("look at it with {}, or {other}", there("ls -ld"))
                    }
                    WorkDirProblem::Link
                    | WorkDirProblem::NoDirectory
                    | WorkDirProblem::Missing(_)
                    | WorkDirProblem::Path => other,
                })
            }
            Self::Disk { host, .. } => Some(format!(
                "make room there, or name a directory on a larger disk with `work_dir = \"…\"` under `[hosts.{host}]`"
            )),
            Self::NoRunner { arch, searched, .. } => {
                let places = match searched.as_slice() {
                    [] => String::new(),
                    dirs => {
                        let dirs: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
                        format!(" (looked in {})", dirs.join(", "))
                    }
                };
                Some(format!(
                    "build it with `scripts/build-guest --arch {arch}`, or name the directory that holds \
                     {arch}/jerichoci-incus-run with JERICHOCI_GUEST_RUNNER_DIR{places}"
                ))
            }
            Self::Runner { .. } | Self::Answer { .. } => None,
        }
    }

    /// The error, its causes and what to do about it, in one line.
    #[must_use]
    pub fn told(&self) -> String {
        let mut line = with_causes(self);
        if let Some(hint) = self.hint() {
            line.push_str("; ");
            line.push_str(&hint);
        }
        line
    }

    /// How a job ends that needed the host: cancelled with its token, else not by its own fault.
    #[must_use]
    pub fn outcome(&self) -> JobOutcome {
        use crate::model::outcome::{FailureKind, Verdict};
        match self {
            Self::Cancelled(CancelReason::RecordsFailed) => JobOutcome::errored(self.told()),
            Self::Cancelled(_) => JobOutcome::new(Verdict::Failed(FailureKind::Cancelled), self.told()),
            _ => JobOutcome::errored(self.told()),
        }
    }

    /// Whether the connection was there and has gone: what [`super::BuildHost::reconnect`] is for.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Ssh { source, .. } if is_lost(source))
    }
}

/// Whether a connection was there and has gone.
pub(crate) fn is_lost(error: &HostError) -> bool {
    matches!(error, HostError::Ssh(SshError::Lost { .. } | SshError::Unconfirmed { .. }))
}

fn ssh_hint(host: &str, destination: &str, error: &HostError) -> Option<String> {
    let try_it = || format!("`ssh {} true`", word_of_shell(destination));
    match error {
        HostError::NotFound { .. } => Some(
            "install an OpenSSH client, or name one with JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_BINARY"
                .to_owned(),
        ),
        HostError::Start { program, source }
            if source.kind() == std::io::ErrorKind::PermissionDenied && program.ends_with(NAME) =>
        {
            Some(format!(
                "the file system of the work directory is mounted noexec, or the runner there was changed; another \
                 directory is named with `work_dir = \"…\"` under `[hosts.{host}]`"
            ))
        }
        HostError::Ssh(SshError::Connect { .. }) => Some(format!(
            "try {}; where to connect is `ssh = \"…\"` under `[hosts.{host}]`, or what ssh_config(5) says",
            try_it()
        )),
        HostError::Ssh(SshError::Authentication { too_many: true, .. }) => Some(format!(
            "name the key in ~/.ssh/config, with IdentityFile and `IdentitiesOnly yes` under `Host {}`",
            word_of_shell(destination)
        )),
        HostError::Ssh(SshError::Authentication { .. }) => Some(format!(
            "{} must work without asking for anything: put the public key into ~/.ssh/authorized_keys there, \
             or load the private one with `ssh-add`",
            try_it()
        )),
        HostError::Ssh(SshError::HostKey { forget: Some(forget), .. }) => Some(format!(
            "when its operator says that it has a new one: `{forget}`, then accept it once with {}",
            try_it()
        )),
        HostError::Ssh(SshError::HostKey { .. }) => {
            Some(format!("compare the key with the operator's and accept it once with {}", try_it()))
        }
        HostError::Ssh(SshError::Sessions { .. }) => {
            Some("raise MaxSessions in the sshd_config of the host; ten are enough".to_owned())
        }
        HostError::Ssh(SshError::Shell { .. }) => {
            Some(format!("{} must print nothing; see the start files of the account's shell", try_it()))
        }
        _ => None,
    }
}
