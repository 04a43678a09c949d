//! Where in the guest the lifecycle files lie.

use serde::{Deserialize, Serialize};

use super::validate::check_paths;
use crate::validation::{Problems, ValidationErrors};

/// Absolute paths in the guest. What a document leaves out is the canonical path:
///
/// ```
/// let paths: pika_cloud::RuntimePaths = serde_json::from_str("{}")?;
/// # assert_eq!(paths, pika_cloud::RuntimePaths::default());
/// let canonical = serde_json::json!(
/// {
///   "state_dir": "/run/pika-cloud",
///   "events_path": "/run/pika-cloud/events.jsonl",
///   "status_path": "/run/pika-cloud/status.json",
///   "result_path": "/run/pika-cloud/result.json",
///   "guest_request_path": "/run/pika-cloud/guest-request.json",
///   "logs_dir": "/run/pika-cloud/logs",
///   "guest_log_path": "/run/pika-cloud/logs/guest.log",
///   "artifacts_dir": "/run/pika-cloud/artifacts"
/// }
/// );
/// assert_eq!(serde_json::to_value(&paths)?, canonical);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimePaths {
    /// Directory that holds all the others.
    pub state_dir: String,
    /// The journal of lifecycle events.
    pub events_path: String,
    /// The latest status.
    pub status_path: String,
    /// The result; exists once the guest has ended its work.
    pub result_path: String,
    /// What a CI guest is to run.
    pub guest_request_path: String,
    /// Directory of logs.
    pub logs_dir: String,
    /// Output of the command.
    pub guest_log_path: String,
    /// Directory of artifacts.
    pub artifacts_dir: String,
}

impl RuntimePaths {
    /// Canonical [`state_dir`](Self::state_dir).
    pub const STATE_DIR: &str = "/run/pika-cloud";
    /// Canonical [`events_path`](Self::events_path).
    pub const EVENTS: &str = "/run/pika-cloud/events.jsonl";
    /// Canonical [`status_path`](Self::status_path).
    pub const STATUS: &str = "/run/pika-cloud/status.json";
    /// Canonical [`result_path`](Self::result_path).
    pub const RESULT: &str = "/run/pika-cloud/result.json";
    /// Canonical [`guest_request_path`](Self::guest_request_path).
    pub const GUEST_REQUEST: &str = "/run/pika-cloud/guest-request.json";
    /// Canonical [`logs_dir`](Self::logs_dir).
    pub const LOGS_DIR: &str = "/run/pika-cloud/logs";
    /// Canonical [`guest_log_path`](Self::guest_log_path).
    pub const GUEST_LOG: &str = "/run/pika-cloud/logs/guest.log";
    /// Canonical [`artifacts_dir`](Self::artifacts_dir).
    pub const ARTIFACTS_DIR: &str = "/run/pika-cloud/artifacts";

    /// The same files in another directory, for a host that has more than one job.
    #[must_use]
    pub fn in_dir(state_dir: &str) -> Self {
        let state_dir = state_dir.trim_end_matches('/');
        let place = |canonical: &str| {
            let name = canonical.strip_prefix(Self::STATE_DIR).unwrap_or(canonical);
            format!("{state_dir}{name}")
        };
        Self {
            state_dir: state_dir.to_owned(),
            events_path: place(Self::EVENTS),
            status_path: place(Self::STATUS),
            result_path: place(Self::RESULT),
            guest_request_path: place(Self::GUEST_REQUEST),
            logs_dir: place(Self::LOGS_DIR),
            guest_log_path: place(Self::GUEST_LOG),
            artifacts_dir: place(Self::ARTIFACTS_DIR),
        }
    }

    /// Checks that all are absolute, without `..`, inside `state_dir`, and no file at the path of another.
    ///
    /// # Errors
    ///
    /// All problems, as of a spec with these paths.
    pub fn validate(&self) -> Result<(), ValidationErrors> {
        let mut problems = Problems::of("runtime paths");
        check_paths(&mut problems, self);
        problems.finish()
    }

    /// Field names and values, in document order; the state directory is the first.
    pub(crate) fn fields(&self) -> [(&'static str, &str); 8] {
        [
            ("state_dir", &self.state_dir),
            ("events_path", &self.events_path),
            ("status_path", &self.status_path),
            ("result_path", &self.result_path),
            ("guest_request_path", &self.guest_request_path),
            ("logs_dir", &self.logs_dir),
            ("guest_log_path", &self.guest_log_path),
            ("artifacts_dir", &self.artifacts_dir),
        ]
    }
}

impl Default for RuntimePaths {
    fn default() -> Self {
        Self {
            state_dir: Self::STATE_DIR.to_owned(),
            events_path: Self::EVENTS.to_owned(),
            status_path: Self::STATUS.to_owned(),
            result_path: Self::RESULT.to_owned(),
            guest_request_path: Self::GUEST_REQUEST.to_owned(),
            logs_dir: Self::LOGS_DIR.to_owned(),
            guest_log_path: Self::GUEST_LOG.to_owned(),
            artifacts_dir: Self::ARTIFACTS_DIR.to_owned(),
        }
    }
}
