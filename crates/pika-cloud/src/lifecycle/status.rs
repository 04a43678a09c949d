//! The latest status of a guest: `status.json`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{LifecycleState, SCHEMA_VERSION};
use crate::atomic::Sync;
use crate::document::{self, LoadError, ParseError, WriteError};
use crate::time::{self, Timestamp};
use crate::version::SchemaVersion;

const DOCUMENT: &str = "guest status";

/// The state a guest is in, replaced as a whole whenever it changes.
///
/// ```
/// # let text = r#"
/// { "schema_version": 1, "state": "completed", "updated_at": "2026-04-01T12:04:08+00:00",
///   "message": "test passed", "details": { "exit_code": 0 } }
/// # "#;
/// let status = pika_cloud::RuntimeStatusSnapshot::parse(text.as_bytes())?;
/// assert_eq!(status.state, pika_cloud::LifecycleState::Completed);
/// # Ok::<(), pika_cloud::ParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuntimeStatusSnapshot {
    /// Always 1.
    pub schema_version: SchemaVersion<SCHEMA_VERSION>,
    /// The state.
    pub state: LifecycleState,
    /// Since when, by the guest's clock.
    #[serde(with = "time")]
    pub updated_at: Timestamp,
    /// One line for people.
    pub message: String,
    /// The boot it was in, as the guest's kernel names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// More, for programs; `{"exit_code": 0}` once the work has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
}

impl RuntimeStatusSnapshot {
    /// A status without boot id and details.
    pub fn new(state: LifecycleState, updated_at: impl Into<Timestamp>, message: impl Into<String>) -> Self {
        Self {
            schema_version: SchemaVersion,
            state,
            updated_at: updated_at.into(),
            message: message.into(),
            boot_id: None,
            details: None,
        }
    }

    /// Adds the boot id.
    #[must_use]
    pub fn with_boot_id(mut self, boot_id: impl Into<String>) -> Self {
        self.boot_id = Some(boot_id.into());
        self
    }

    /// Adds details.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    /// Reads a status.
    ///
    /// # Errors
    ///
    /// [`ParseError::SchemaVersion`] for another version, else [`ParseError::Json`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        document::parse(bytes, DOCUMENT, SCHEMA_VERSION)
    }

    /// Reads a status from a file.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse), or when the file cannot be read.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        document::load(path, Self::parse)
    }

    /// Replaces a file by the status, atomically and durably; missing parent directories are made.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; its old content is still there then.
    pub fn write(&self, path: &Path) -> Result<(), WriteError> {
        document::write(path, self)
    }

    /// The same, but not waiting for the disk: a loss of power may take it back.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub fn write_unsynced(&self, path: &Path) -> Result<(), WriteError> {
        document::write_with(path, self, Sync::Later)
    }
}
