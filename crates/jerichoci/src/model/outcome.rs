//! How something ended: four words for every reader, and a kind for every failure.

use serde::{Deserialize, Serialize};

/// The four words of `status` in records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Not at its end.
    Running,
    /// Good.
    Passed,
    /// Not good; see [`FailureKind`].
    Failed,
    /// Did not have to run, or could not because of something else.
    Skipped,
}

impl RunStatus {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// Why something failed. Ordered by weight: the greatest of all jobs is the run's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// An earlier system recorded no kind. Never written.
    Unrecorded,
    /// The command said no.
    TestFailure,
    /// The command took longer than its limit.
    Timeout,
    /// Never the fault of the command: the word for people is "errored".
    Infrastructure,
    /// The engine died; found later.
    Interrupted,
    /// Somebody ended it.
    Cancelled,
}

/// A status that cannot be a failure without a kind. In a document it is two fields:
/// `status`, and `failure_kind` when the status is `failed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "VerdictFields", into = "VerdictFields")]
pub enum Verdict {
    /// Not at its end.
    Running,
    /// Good.
    Passed,
    /// Did not run.
    Skipped,
    /// Not good, and why.
    Failed(FailureKind),
}

#[derive(Serialize, Deserialize)]
struct VerdictFields {
    status: RunStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure_kind: Option<FailureKind>,
}

impl From<VerdictFields> for Verdict {
    fn from(fields: VerdictFields) -> Self {
        match fields.status {
            RunStatus::Running => Self::Running,
            RunStatus::Passed => Self::Passed,
            RunStatus::Skipped => Self::Skipped,
            RunStatus::Failed => Self::Failed(fields.failure_kind.unwrap_or(FailureKind::Unrecorded)),
        }
    }
}

impl From<Verdict> for VerdictFields {
    fn from(verdict: Verdict) -> Self {
        let failure_kind = verdict.failure_kind().filter(|kind| *kind != FailureKind::Unrecorded);
        Self { status: verdict.status(), failure_kind }
    }
}

impl Verdict {
    /// The word that every reader knows.
    #[must_use]
    pub const fn status(self) -> RunStatus {
        match self {
            Self::Running => RunStatus::Running,
            Self::Passed => RunStatus::Passed,
            Self::Skipped => RunStatus::Skipped,
            Self::Failed(_) => RunStatus::Failed,
        }
    }

    /// Why it failed, when it did.
    #[must_use]
    pub const fn failure_kind(self) -> Option<FailureKind> {
        match self {
            Self::Failed(kind) => Some(kind),
            Self::Running | Self::Passed | Self::Skipped => None,
        }
    }

    /// The one word for people: `errored`, `timed out` and so on in place of `failed`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Failed(FailureKind::Timeout) => "timed out",
            Self::Failed(FailureKind::Infrastructure) => "errored",
            Self::Failed(FailureKind::Interrupted) => "interrupted",
            Self::Failed(FailureKind::Cancelled) => "cancelled",
            other => other.status().as_str(),
        }
    }
}

/// What an executor says about a job that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobOutcome {
    /// How it ended; never [`Verdict::Running`].
    pub verdict: Verdict,
    /// Exit code of the command, when it returned one.
    pub exit_code: Option<i32>,
    /// Signal that ended the command, when one did.
    pub signal: Option<i32>,
    /// One line for people.
    pub message: String,
    /// What the command left behind and had to be ended, one line each.
    pub leaked: Vec<String>,
    /// What is still there and should not be, one line each, with who ends it.
    pub left_behind: Vec<String>,
    /// What went wrong without changing the verdict, one line each.
    pub warnings: Vec<String>,
}

impl Default for JobOutcome {
    /// Of a job that nobody has said anything about.
    fn default() -> Self {
        Self::errored("the job has no outcome")
    }
}

impl JobOutcome {
    /// An outcome without exit code, signal, leaks or warnings.
    #[must_use]
    pub fn new(verdict: Verdict, message: impl Into<String>) -> Self {
        Self {
            verdict,
            exit_code: None,
            signal: None,
            message: message.into(),
            leaked: Vec::new(),
            left_behind: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// A failure that is not the command's fault.
    #[must_use]
    pub fn errored(message: impl Into<String>) -> Self {
        Self::new(Verdict::Failed(FailureKind::Infrastructure), message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_always_has_a_kind_and_old_records_load() {
        let old: Verdict = serde_json::from_str(r#"{"status":"failed"}"#).unwrap();
        assert_eq!(old, Verdict::Failed(FailureKind::Unrecorded));
        assert_eq!(serde_json::to_string(&old).unwrap(), r#"{"status":"failed"}"#);
        let new = Verdict::Failed(FailureKind::Timeout);
        let text = serde_json::to_string(&new).unwrap();
        assert_eq!(text, r#"{"status":"failed","failure_kind":"timeout"}"#);
        assert_eq!(serde_json::from_str::<Verdict>(&text).unwrap(), new);
    }
}
