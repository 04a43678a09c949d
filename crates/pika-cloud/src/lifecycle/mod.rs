//! What a guest tells of itself: a journal of events, the latest status, the result.
//!
//! A CI guest writes, in this order: `booted`; `starting`; `completed` or `failed`, each as status
//! and event; then the result. The result is the last file written, and the truth about the job.

mod event;
mod event_log;
mod event_read;
mod result;
mod state;
mod status;

pub use event::{LifecycleEvent, NewEvent};
pub use event_log::{EventLog, EventLogError};
pub use event_read::{EventLogContents, EventProblem, EventProblemKind, parse_events, read_events};
pub use result::{RuntimeResultStatus, RuntimeTerminalResult};
pub use state::LifecycleState;
pub use status::RuntimeStatusSnapshot;

/// The schema version of events, status and result.
pub(crate) const SCHEMA_VERSION: u32 = 1;
