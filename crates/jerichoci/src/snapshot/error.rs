//! What can go wrong with a snapshot, its store or a tree made from it.

use std::io;
use std::path::PathBuf;

use jericho_host::lock::LockError;
use jericho_host::{CancelReason, HostError};

pub(crate) use jericho_manifest::shown::shown;

use super::hash::ContentHash;
use crate::lock::WaitError;

/// Why a snapshot could not be taken, kept, read or laid out. Every path is named; names that
/// are not UTF-8 or hold control characters are shown escaped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The caller's token was cancelled.
    #[error("cancelled: {0}")]
    Cancelled(CancelReason),
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// A verb and what it is done to.
        action: &'static str,
        /// The file it was about.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file cannot be locked, for example because its file system has no locks.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The source root is not a directory that can be read.
    #[error("{} is not a readable directory", path.display())]
    BadRoot {
        /// As it was asked for.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The state root is the source root itself, so that nothing would be left.
    #[error("the state root {} is the source root itself", path.display())]
    StateRootIsSource {
        /// Both of them.
        path: PathBuf,
    },
    /// A file of the source cannot be read.
    #[error("cannot read {file} in the source tree")]
    Unreadable {
        /// Relative to the source root, escaped.
        file: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file of the source changed every time it was read.
    #[error("{file} keeps changing while it is read; tried {tries} times")]
    Unsteady {
        /// Relative to the source root, escaped.
        file: String,
        /// Reads.
        tries: u32,
    },
    /// Git is there and so is a repository, but git refuses or fails.
    #[error("git {command} failed in {}: {message}", dir.display())]
    Git {
        /// The subcommand.
        command: String,
        /// Where it ran.
        dir: PathBuf,
        /// Git's own words.
        message: String,
    },
    /// A job asks for a `.git`, and there is none to be had.
    #[error("a job asks for git in its workspace, but {why} ({})", source_root.display())]
    History {
        /// The source tree.
        source_root: PathBuf,
        /// Why.
        why: String,
    },
    /// Git could not be started or followed.
    #[error("cannot run git in {}", dir.display())]
    GitStart {
        /// Where it was to run.
        dir: PathBuf,
        /// Why.
        #[source]
        source: HostError,
    },
    /// A line of `.jerichociignore` is not a pattern.
    #[error("{}: {message}", path.display())]
    BadIgnoreFile {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line.
        message: String,
    },
    /// More names than the format can hold (4 GiB of them).
    #[error("too many files: their names exceed 4 GiB")]
    TooLarge,
    /// The store has no such snapshot.
    #[error("no snapshot {0} in the store")]
    UnknownSnapshot(ContentHash),
    /// A manifest is not what its name says.
    #[error("the manifest of snapshot {hash} is damaged: {why}")]
    DamagedManifest {
        /// Its name.
        hash: ContentHash,
        /// What is wrong.
        why: String,
    },
    /// The content of a file is not in the store, or not what its name says. Taking the
    /// snapshot again mends it while the source still has the file.
    #[error("the stored content {object} of {file} is damaged: {why}")]
    DamagedObject {
        /// Its name.
        object: ContentHash,
        /// One file that has it, escaped.
        file: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The state kept beside a tree cannot be written down.
    #[error("cannot encode {what}")]
    Encode {
        /// Which document.
        what: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A worker thread panicked: a defect of this program.
    #[error("internal error: a snapshot worker panicked")]
    Panicked,
}

impl From<WaitError> for SnapshotError {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Lock(error) => Self::Lock(error),
            WaitError::Cancelled(reason) => Self::Cancelled(reason),
            // Nobody gives these waits a limit.
            WaitError::Panicked | WaitError::TooLong(_) => Self::Panicked,
        }
    }
}

impl SnapshotError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// Whether the file system was full.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }

    /// Whether taking the same snapshot again may mend it.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::DamagedManifest { .. } | Self::DamagedObject { .. })
    }
}
