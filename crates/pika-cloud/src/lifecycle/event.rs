//! One entry of a guest's journal: a line of `events.jsonl`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{LifecycleState, SCHEMA_VERSION};
use crate::time::{self, Timestamp};
use crate::version::SchemaVersion;

/// Something that happened to a guest, with its place in the journal.
///
/// ```
/// # let line = r#"
/// {"schema_version":1,"seq":1,"timestamp":"2026-04-01T12:00:30+00:00","kind":"booted","message":"guest is up","boot_id":"b1"}
/// # "#;
/// let event: pika_cloud::LifecycleEvent = serde_json::from_str(line)?;
/// assert_eq!((event.seq, event.kind), (1, pika_cloud::LifecycleState::Booted));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LifecycleEvent {
    /// Always 1.
    pub schema_version: SchemaVersion<SCHEMA_VERSION>,
    /// Place in the journal, from 1. Order is by this, never by time.
    pub seq: u64,
    /// When, by the guest's clock.
    #[serde(with = "time")]
    pub timestamp: Timestamp,
    /// The state it came to.
    pub kind: LifecycleState,
    /// One line for people.
    pub message: String,
    /// The boot it was in, as the guest's kernel names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// More, for programs; `{"exit_code": 0}` once the work has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
}

/// Something that happened to a guest, before the journal gives it its place.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// When, by the guest's clock.
    pub timestamp: Timestamp,
    /// The state it came to.
    pub kind: LifecycleState,
    /// One line for people.
    pub message: String,
    /// The boot it was in, as the guest's kernel names it.
    pub boot_id: Option<String>,
    /// More, for programs.
    pub details: Option<Value>,
}

impl NewEvent {
    /// An event without boot id and details.
    pub fn new(kind: LifecycleState, timestamp: impl Into<Timestamp>, message: impl Into<String>) -> Self {
        Self { timestamp: timestamp.into(), kind, message: message.into(), boot_id: None, details: None }
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

    /// The event at its place.
    pub(crate) fn at(self, seq: u64) -> LifecycleEvent {
        let Self { timestamp, kind, message, boot_id, details } = self;
        LifecycleEvent { schema_version: SchemaVersion, seq, timestamp, kind, message, boot_id, details }
    }
}
