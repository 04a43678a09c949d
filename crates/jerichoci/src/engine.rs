//! The facade: everything a front end does with the engine.

use std::path::PathBuf;
use std::sync::Arc;

use jericho_host::{Clock, Host, HostError, IdSource};

use crate::config::EngineConfig;
use crate::model::id::IdError;
use crate::run::request::RequestError;

/// Why the engine could not do what it was asked for. The verdict of a job or a run is never
/// one of these: that is in the record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The request makes no sense.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A text that is not an id.
    #[error(transparent)]
    Id(#[from] IdError),
    /// No such run.
    #[error("no run {run_id} under {}", state_root.display())]
    RunNotFound {
        /// The run.
        run_id: String,
        /// Where it was looked for.
        state_root: PathBuf,
    },
    /// The run has no such job.
    #[error("run {run_id} has no job `{job_id}`; it has: {known}")]
    JobNotFound {
        /// The run.
        run_id: String,
        /// The job.
        job_id: String,
        /// What it has, comma separated.
        known: String,
    },
    /// A log that is not there.
    #[error("job `{job_id}` of run {run_id} has no {kind} log")]
    LogNotFound {
        /// The run.
        run_id: String,
        /// The job.
        job_id: String,
        /// `host` or `guest`.
        kind: &'static str,
    },
    /// The run has no job at all.
    #[error("run {run_id} has no jobs")]
    NoJobs {
        /// The run.
        run_id: String,
    },
    /// The run has no prepared outputs.
    #[error("run {run_id} has no prepared outputs")]
    NoPreparedOutputs {
        /// The run.
        run_id: String,
    },
    /// A document under the state root cannot be understood.
    #[error("{}: {problem}", path.display())]
    Corrupt {
        /// The document.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A run that cannot be repeated.
    #[error("run {run_id} cannot be repeated: {why}")]
    NotRepeatable {
        /// The run.
        run_id: String,
        /// Why.
        why: String,
    },
    /// Another process is in the way.
    #[error("{0}")]
    Busy(String),
    /// The state root, or something in it, cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// A verb.
        action: &'static str,
        /// What it was about.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The machine refused something else.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// An error and what caused it, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// What became of a request to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelAnswer {
    /// The run has ended.
    Ended,
    /// The run was told, and has not ended in the given time.
    Requested,
    /// The run had ended before.
    NotRunning,
}

/// An engine over one state root and one source root.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) config: Arc<EngineConfig>,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
}

impl Engine {
    /// With other parts, for tests and for other front ends.
    #[must_use]
    pub fn with_parts(
        config: EngineConfig,
        host: Arc<dyn Host>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
    ) -> Self {
        Self { config: Arc::new(config), host, clock, ids }
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }
}
