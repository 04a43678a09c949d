//! What can go wrong between a snapshot and a host, and whether trying again can help.

use std::io;
use std::path::PathBuf;

use jericho_host::{CancelReason, HostError};
use jericho_manifest::protocol::Fault;

use crate::snapshot::SnapshotError;

/// Why a host does not have a snapshot. Never the verdict of a job.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// The caller's token was cancelled.
    #[error("cancelled: {0}")]
    Cancelled(CancelReason),
    /// The way to the host.
    #[error(transparent)]
    Host(HostError),
    /// The receiver refuses.
    #[error("{message}")]
    Refused {
        /// As ssh(1) calls it.
        host: String,
        /// What kind of failure.
        fault: Fault,
        /// A sentence of the receiver.
        message: String,
    },
    /// The receiver has ended without an answer.
    #[error("the receiver {} on {host} ended without an answer: {said}", program.display())]
    Ended {
        /// As ssh(1) calls it.
        host: String,
        /// On the host.
        program: PathBuf,
        /// What it printed on standard error, or how it ended.
        said: String,
    },
    /// The receiver says what no receiver of this version says.
    #[error("the receiver {} on {host} gave an answer that makes no sense: {said}", program.display())]
    Answer {
        /// As ssh(1) calls it.
        host: String,
        /// On the host.
        program: PathBuf,
        /// The answer.
        said: String,
    },
    /// The snapshot cannot be read here.
    #[error(transparent)]
    Snapshot(SnapshotError),
    /// Something of the system itself failed.
    #[error("{0}")]
    System(&'static str, #[source] io::Error),
}

impl SyncError {
    /// Whether trying again can help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Host(HostError::Ssh(error)) => error.is_transient(),
            Self::Refused { fault, .. } => match fault {
                Fault::Base | Fault::Content | Fault::System => true,
                Fault::WorkDir | Fault::NoSpace | Fault::Request => false,
            },
            // It was killed, or the program is another one by now.
            Self::Ended { .. } => true,
            Self::Cancelled(_)
            | Self::Host(_)
            | Self::Answer { .. }
            | Self::Snapshot(_)
            | Self::System(..) => false,
        }
    }

    /// Whether the disk of the host was full, or nearly so.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::Refused { fault: Fault::NoSpace, .. })
    }
}

impl From<HostError> for SyncError {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Cancelled(reason) => Self::Cancelled(reason),
            other => Self::Host(other),
        }
    }
}

impl From<SnapshotError> for SyncError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Cancelled(reason) => Self::Cancelled(reason),
            other => Self::Snapshot(other),
        }
    }
}
