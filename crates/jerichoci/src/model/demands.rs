//! What a job asks of its surroundings, beside a command and a place: caches, secrets, artifacts, git.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// A directory that is kept from run to run under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheSpec {
    /// Where the job sees it. Relative to the workspace for a host process; absolute in a guest.
    pub path: String,
    /// Who may have it at the same time.
    #[serde(default)]
    pub sharing: CacheSharing,
}

/// Directories of a guest in which, and above which, there can be no cache: it makes them anew when it starts, or
/// finds its source, its runner and its programs there.
const OF_THE_GUEST: [&str; 8] = [
    "/dev",
    "/nix/store",
    "/opt/jericho",
    "/proc",
    "/run",
    "/sys",
    "/var/lib/pika-cloud",
    "/workspace/.snapshot",
];

/// Directories of a guest that cannot be a cache as a whole, nor one that they lie in: they are not empty, and what a
/// job has left there would be what the next one finds.
const NOT_AS_A_WHOLE: [&str; 8] =
    ["/bin", "/etc", "/lib", "/lib32", "/lib64", "/sbin", "/usr", "/workspace/snapshot"];

impl CacheSpec {
    /// Why a guest cannot have a cache at an absolute path, in words that follow a colon; nothing when it can.
    #[must_use]
    pub fn problem_in_guest(path: &str) -> Option<String> {
        let path = Path::new(path);
        let taken =
            OF_THE_GUEST.into_iter().find(|of| path.starts_with(of) || Path::new(of).starts_with(path));
        let taken = taken.or_else(|| NOT_AS_A_WHOLE.into_iter().find(|of| Path::new(of).starts_with(path)));
        taken.map(|taken| match taken {
            "/workspace/.snapshot" | "/workspace/snapshot" => "the source of the job is there".to_owned(),
            other => format!("the guest has {other} of its own"),
        })
    }
}

/// Who may have a cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheSharing {
    /// One job, of all runs of a state root; the others wait.
    #[default]
    Locked,
    /// Any number of jobs; the tool that uses it does its own locking.
    Shared,
}

/// A value from the caller's environment that no log, event or record may show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSpec {
    /// Name of the variable in the caller's environment.
    pub name: String,
    /// How the job gets it.
    #[serde(default)]
    pub delivery: SecretDelivery,
}

/// How a job gets a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretDelivery {
    /// As the variable `NAME`.
    #[default]
    Env,
    /// As a file of mode 0400 outside the workspace, whose path is in `NAME_FILE`.
    File,
}

/// When artifacts are collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactsWhen {
    /// Whatever the verdict.
    #[default]
    Always,
    /// When the job did not pass.
    Failure,
    /// Never.
    Never,
}

impl ArtifactsWhen {
    /// Whether this is the default.
    #[must_use]
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
    pub(crate) const fn is_always(&self) -> bool {
        matches!(self, Self::Always)
    }
}

/// What of the repository a job finds as `.git` in its workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceGit {
    /// Nothing.
    #[default]
    None,
    /// The commit of the snapshot, without its history.
    Shallow,
    /// All of the history that the caller's repository has.
    Full,
}

impl WorkspaceGit {
    /// Whether this is the default.
    #[must_use]
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
    pub(crate) const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}
