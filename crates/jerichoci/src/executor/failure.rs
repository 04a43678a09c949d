//! Why a job has no verdict of its command.

use jericho_host::{CancelReason, CancelToken};

use super::process::cancelled;
use crate::causes::with_causes;
use crate::model::outcome::JobOutcome;
use crate::remote::sync::SyncError;
use crate::remote::{BuildHost, RemoteError};

/// What came in between.
pub(super) enum Failure {
    /// It was ended.
    Cancelled(CancelReason),
    /// Something failed that is not the job's.
    Errored(String),
}

impl Failure {
    pub(super) fn into_outcome(self) -> JobOutcome {
        match self {
            Self::Cancelled(reason) => cancelled(reason),
            Self::Errored(message) => JobOutcome::errored(message),
        }
    }

    pub(super) fn errored(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Errored(with_causes(error))
    }

    /// What was cut short by the token did not fail by itself.
    pub(super) fn of(cancel: &CancelToken, error: &(dyn std::error::Error + 'static)) -> Self {
        match cancel.reason() {
            Some(reason) => Self::Cancelled(reason),
            None => Self::errored(error),
        }
    }
}

impl Failure {
    /// The same of a host, with what can be done about it.
    pub(super) fn of_host(cancel: &CancelToken, error: RemoteError) -> Self {
        cancel.reason().map_or_else(|| error.into(), Self::Cancelled)
    }

    /// The same of a source tree that did not get there.
    pub(super) fn of_delivery(host: &BuildHost, error: SyncError) -> Self {
        match error {
            SyncError::Cancelled(reason) => Self::Cancelled(reason),
            SyncError::Host(error) => host.error(error).into(),
            other => Self::Errored(format!("host {}: {}", host.name(), with_causes(&other))),
        }
    }
}

impl From<RemoteError> for Failure {
    fn from(error: RemoteError) -> Self {
        match error {
            RemoteError::Cancelled(reason) => Self::Cancelled(reason),
            other => Self::Errored(other.told()),
        }
    }
}
