//! How a guest's work ended: `result.json`.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{LifecycleState, SCHEMA_VERSION};
use crate::document::{self, LoadError, ParseError, WriteError};
use crate::time::{self, Timestamp};
use crate::validation::Problems;
use crate::version::SchemaVersion;

const DOCUMENT: &str = "guest result";

/// Whether the work ended well. There is no third word: the older `passed` is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeResultStatus {
    /// It did.
    Completed,
    /// It did not.
    Failed,
}

impl RuntimeResultStatus {
    /// The word in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for RuntimeResultStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<RuntimeResultStatus> for LifecycleState {
    /// The last state of a guest that ended so.
    fn from(status: RuntimeResultStatus) -> Self {
        match status {
            RuntimeResultStatus::Completed => Self::Completed,
            RuntimeResultStatus::Failed => Self::Failed,
        }
    }
}

/// How a guest's work ended. Written once, last of all, and the truth about the job.
///
/// ```
/// # let text = r#"
/// { "schema_version": 1, "status": "completed", "finished_at": "2026-04-01T12:04:08+00:00",
///   "message": "test passed", "exit_code": 0 }
/// # "#;
/// let result = pika_cloud::RuntimeTerminalResult::parse(text.as_bytes())?;
/// assert_eq!(result.exit_code, Some(0));
/// # Ok::<(), pika_cloud::ParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuntimeTerminalResult {
    /// Always 1.
    pub schema_version: SchemaVersion<SCHEMA_VERSION>,
    /// Whether it ended well.
    pub status: RuntimeResultStatus,
    /// When, by the guest's clock.
    #[serde(with = "time")]
    pub finished_at: Timestamp,
    /// One line for people.
    pub message: String,
    /// What the command returned; absent when it did not come to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// More, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
}

impl RuntimeTerminalResult {
    /// The result of a command that returned: completed when `exit_code` is 0, else failed.
    pub fn from_exit_code(
        exit_code: i32,
        finished_at: impl Into<Timestamp>,
        message: impl Into<String>,
    ) -> Self {
        let status =
            if exit_code == 0 { RuntimeResultStatus::Completed } else { RuntimeResultStatus::Failed };
        Self {
            schema_version: SchemaVersion,
            status,
            finished_at: finished_at.into(),
            message: message.into(),
            exit_code: Some(exit_code),
            details: None,
        }
    }

    /// The result of work that failed without an exit code.
    pub fn failed(finished_at: impl Into<Timestamp>, message: impl Into<String>) -> Self {
        Self {
            schema_version: SchemaVersion,
            status: RuntimeResultStatus::Failed,
            finished_at: finished_at.into(),
            message: message.into(),
            exit_code: None,
            details: None,
        }
    }

    /// Adds details.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    /// Reads a result.
    ///
    /// # Errors
    ///
    /// [`ParseError::SchemaVersion`] for another version, [`ParseError::Invalid`] for a result that
    /// is `completed` with an exit code other than 0, else [`ParseError::Json`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let result: Self = document::parse(bytes, DOCUMENT, SCHEMA_VERSION)?;
        let mut problems = Problems::of(DOCUMENT);
        if let (RuntimeResultStatus::Completed, Some(code @ (..=-1 | 1..))) =
            (result.status, result.exit_code)
        {
            problems.add("exit_code", code, "contradicts the status `completed`", "0");
        }
        problems.finish()?;
        Ok(result)
    }

    /// Reads a result from a file.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse), or when the file cannot be read.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        document::load(path, Self::parse)
    }

    /// Replaces a file by the result, atomically and durably; missing parent directories are made.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; its old content is still there then.
    pub fn write(&self, path: &Path) -> Result<(), WriteError> {
        document::write(path, self)
    }
}
