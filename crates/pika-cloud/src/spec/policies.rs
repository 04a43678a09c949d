//! What becomes of a guest, and of what it made, when it ends.

use serde::{Deserialize, Serialize};

/// When a guest that ended is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// Not at all.
    #[default]
    Never,
    /// When it failed.
    OnFailure,
    /// Whenever it ended.
    Always,
}

/// When a guest is removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetentionPolicy {
    /// As soon as it ended.
    #[default]
    DestroyOnCompletion,
    /// When its owner stops it.
    KeepUntilStopped,
    /// Kept for a person to look at, until it expires.
    DebugKeep,
}

/// When a guest's output is brought back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputCollectionMode {
    /// Never.
    None,
    /// When it failed.
    FailureOnly,
    /// Whenever it ended.
    #[default]
    Always,
}

/// What of a guest's output is brought back, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputCollectionPolicy {
    /// When. Must be there in a given document.
    pub mode: OutputCollectionMode,
    /// Whether the logs are.
    #[serde(default = "yes")]
    pub include_logs: bool,
    /// Whether the result is.
    #[serde(default = "yes")]
    pub include_result: bool,
    /// Which artifacts are; none when empty.
    #[serde(default)]
    pub artifact_globs: Vec<String>,
}

impl Default for OutputCollectionPolicy {
    fn default() -> Self {
        Self {
            mode: OutputCollectionMode::default(),
            include_logs: true,
            include_result: true,
            artifact_globs: Vec::new(),
        }
    }
}

/// What becomes of a guest when it ends.
///
/// A spec may leave the whole object out; when it is given, the two policies must be there:
///
/// ```
/// # let text = r#"
/// { "restart_policy": "on_failure", "retention_policy": "debug_keep",
///   "output_collection": { "mode": "failure_only", "artifact_globs": ["*.xml"] } }
/// # "#;
/// let policies: pika_cloud::RuntimePolicies = serde_json::from_str(text)?;
/// assert!(policies.output_collection.include_logs);
/// assert!(serde_json::from_str::<pika_cloud::RuntimePolicies>("{}").is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimePolicies {
    /// When it is started again.
    pub restart_policy: RestartPolicy,
    /// When it is removed.
    pub retention_policy: RetentionPolicy,
    /// What is brought back from it.
    #[serde(default)]
    pub output_collection: OutputCollectionPolicy,
}

const fn yes() -> bool {
    true
}
