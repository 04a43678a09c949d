//! The states of a guest's life.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A state of a guest: what its status says, and of what kind an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LifecycleState {
    /// Asked for.
    Requested,
    /// Being created.
    Provisioning,
    /// Its system is up.
    Booted,
    /// It does not answer.
    Unreachable,
    /// Stopped, and still there.
    Stopped,
    /// Gone.
    Destroyed,
    /// Its work is about to start.
    Starting,
    /// It serves.
    Ready,
    /// Its work ended badly.
    Failed,
    /// Its work ended well.
    Completed,
}

impl LifecycleState {
    /// Every state, in the order of the contract.
    pub const ALL: [Self; 10] = [
        Self::Requested,
        Self::Provisioning,
        Self::Booted,
        Self::Unreachable,
        Self::Stopped,
        Self::Destroyed,
        Self::Starting,
        Self::Ready,
        Self::Failed,
        Self::Completed,
    ];

    /// The word in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Provisioning => "provisioning",
            Self::Booted => "booted",
            Self::Unreachable => "unreachable",
            Self::Stopped => "stopped",
            Self::Destroyed => "destroyed",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Completed => "completed",
        }
    }
}

impl fmt::Display for LifecycleState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
