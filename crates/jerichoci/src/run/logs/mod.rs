//! Logs of jobs: bytes exactly as they came, bounded on disk, never held in memory.
//!
//! `host.log` of a host process holds its standard output and error, merged in the order
//! written, and nothing else; lines of the engine start with `[jerichoci]` and appear only when
//! there is something to say. A log over its cap keeps its head and its end:
//!
//! | file | what |
//! |---|---|
//! | `host.log` | the head, up to cap − tail; at the end a marker line and the tail are appended |
//! | `host.log.tail-<head>-<start>` | while the log is over its cap: output from offset `start` on |
//!
//! Tail segments are only ever appended to, and two full ones are enough to hold the last
//! 64 MiB whatever happens: so a kill at any point leaves head and tail behind, and
//! [`tail::recover`] puts them together. An offset of `host.log` that was written once never
//! changes.

pub mod follow;
pub mod read;
pub mod tail;
pub mod writer;

pub use follow::{LogFollower, follow_log};
pub(crate) use read::metadata_of;
pub use read::{LogFile, LogKind, Logs, load_logs, load_logs_metadata, open_log, persist_job_logs};
pub use writer::{LogSummary, LogWriter, append_engine_line};
