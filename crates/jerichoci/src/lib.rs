//! The engine of Jericho CI: jobs of a target against an immutable snapshot of a source tree.
//!
//! It knows no lane, no host name and no product, reads no environment and prints nothing.
//!
//! One way through: a [`RunRequest`] is planned ([`run::plan`], pure), bound to a snapshot
//! ([`snapshot`]), scheduled ([`run::schedule`], pure), carried out by an
//! [`executor::Executor`], folded into records by the dispatcher, stored, and told to a
//! [`Reporter`]. Only a [`jericho_host::CancelToken`] travels the other way.

mod beneath;
mod causes;
pub mod config;
pub mod doctor;
pub mod engine;
pub mod executor;
mod limit;
mod lock;
pub mod model;
mod nix;
pub mod remote;
pub mod run;
pub mod shell;
pub use jericho_host::secrets;
pub mod snapshot;

pub use config::{EngineConfig, Secrets};
pub use engine::{CancelAnswer, Engine, EngineError};
pub use run::gc::{GcPolicy, GcReport, HostGcReport};
pub use run::list::{RunList, RunSummary, list_runs};
pub use run::logs::{
    LogFile, LogFollower, LogKind, Logs, follow_log, load_logs, load_logs_metadata, open_log,
    persist_job_logs,
};
pub use run::read::{load_prepared_outputs_record, load_run_bundle, load_run_record};
pub use run::reap::{ReapOptions, ReapReport};
pub use run::report::{NoReporter, Reporter};
pub use run::request::{RerunRequest, RunMetadata, RunOptions, RunRequest};
pub use run::store::persist_run_record;
pub use run::watch::{LastLines, OutputWatch};
pub use snapshot::git_changed_files;
