//! The engine of Jericho CI: jobs of a target against an immutable snapshot of a source tree.
//!
//! It knows no lane, no host name and no product, reads no environment and prints nothing.
//!
//! One way through: a [`RunRequest`] is planned ([`run::plan`], pure), bound to a snapshot
//! ([`snapshot`]), scheduled ([`run::schedule`], pure), carried out by an
//! [`executor::Executor`], folded into records by the dispatcher, stored, and told to a
//! [`Reporter`]. Only a [`jericho_host::CancelToken`] travels the other way.

pub mod config;
pub mod engine;
pub mod executor;
pub mod model;
pub mod run;
pub mod snapshot;

pub use config::EngineConfig;
pub use engine::{CancelAnswer, Engine, EngineError};
pub use run::gc::{GcPolicy, GcReport};
pub use run::report::{NoReporter, Reporter};
pub use run::request::{RunMetadata, RunOptions, RunRequest};
pub use run::store::persist_run_record;
pub use snapshot::git_changed_files;
