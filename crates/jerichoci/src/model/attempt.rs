//! What a job that was tried more than once, or that left files, adds to its record.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::outcome::Verdict;

/// One attempt of a job: an element of [`super::record::JobRecord::attempts`].
///
/// ```json
/// { "attempt": 1, "status": "failed", "failure_kind": "test_failure", "host_log_path":
///   "jobs/test/attempts/1/host.log", "started_at": "2026-04-01T12:00:00+00:00", "duration_ms": 81 }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// From 1.
    pub attempt: u32,
    /// `status`, and `failure_kind` when it failed.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Its host log, relative to the run directory.
    pub host_log_path: String,
    /// Start.
    #[serde(with = "super::time")]
    pub started_at: DateTime<Utc>,
    /// End.
    #[serde(default, with = "super::time::option")]
    pub finished_at: Option<DateTime<Utc>>,
    /// From start to end, monotonic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Exit code of the command, when it returned one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Signal that ended the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// One line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// One file that was collected from the workspace of a job: an element of
/// [`super::record::JobRecord::artifacts`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRecord {
    /// Relative to the `artifacts` directory of the job, and before that to its workspace.
    pub path: String,
    /// Size.
    pub bytes: u64,
}
