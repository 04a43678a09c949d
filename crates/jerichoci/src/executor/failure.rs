//! Why a job has no verdict of its command.

use jericho_host::{CancelReason, CancelToken};

use super::process::cancelled;
use crate::causes::with_causes;
use crate::model::outcome::JobOutcome;
use crate::remote::RemoteError;

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

impl From<RemoteError> for Failure {
    fn from(error: RemoteError) -> Self {
        match error {
            RemoteError::Cancelled(reason) => Self::Cancelled(reason),
            other => Self::Errored(other.told()),
        }
    }
}
