//! What is told while a run goes on: one JSON object a line, stored in `events.jsonl` first.
//!
//! ```json
//! {"event":"run_started","seq":1,"time":"2026-04-01T12:00:00+00:00","run_id":"20260401T120000Z-0a1b2c3d",
//!  "created_at":"2026-04-01T12:00:00+00:00","rerun_of":null,"target_id":"check","target_description":null}
//! ```

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::attempt::AttemptRecord;
use super::outcome::Verdict;
use super::record::{JobRecord, RunRecord};

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// From 1, without gaps. Order is by this, never by time.
    pub seq: u64,
    /// Wall clock of the engine.
    #[serde(with = "super::time")]
    pub time: DateTime<Utc>,
    /// What happened.
    #[serde(flatten)]
    pub event: RunLifecycleEvent,
}

/// What happened. The first four kinds and their fields are what existing readers know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RunLifecycleEvent {
    /// First event of every run.
    RunStarted {
        /// The run.
        run_id: String,
        /// Its start.
        #[serde(with = "super::time")]
        created_at: DateTime<Utc>,
        /// The run it repeats.
        rerun_of: Option<String>,
        /// Its target.
        target_id: Option<String>,
        /// One line about the target.
        target_description: Option<String>,
    },
    /// A job starts.
    JobStarted {
        /// The run.
        run_id: String,
        /// The job, status `running`.
        job: Box<JobRecord>,
    },
    /// A job that was started has ended.
    JobFinished {
        /// The run.
        run_id: String,
        /// The job as it will be recorded.
        job: Box<JobRecord>,
    },
    /// Last event of every run.
    RunFinished {
        /// The run as it is recorded.
        run: Box<RunRecord>,
    },
    /// A prepare node starts.
    PrepareStarted {
        /// The run.
        run_id: String,
        /// Node of the plan.
        node_id: String,
    },
    /// A prepare node has ended.
    PrepareFinished {
        /// The run.
        run_id: String,
        /// Node of the plan.
        node_id: String,
        /// How it ended: `status`, and `failure_kind` when it failed.
        #[serde(flatten)]
        verdict: Verdict,
        /// Monotonic.
        duration_ms: u64,
    },
    /// A phase of the run, or of a job, has ended.
    PhaseFinished {
        /// The run.
        run_id: String,
        /// The job; absent for a phase of the run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job_id: Option<String>,
        /// Name of the phase.
        phase: String,
        /// Monotonic.
        duration_ms: u64,
    },
    /// A log has grown. At most about one a second and job.
    LogProgress {
        /// The run.
        run_id: String,
        /// The job.
        job_id: String,
        /// Bytes in the host log.
        host_log_bytes: u64,
        /// Bytes in the guest log.
        guest_log_bytes: u64,
    },
    /// A job did not pass and is tried again.
    JobRetry {
        /// The run.
        run_id: String,
        /// The job.
        job_id: String,
        /// The attempt that did not pass.
        failed: Box<AttemptRecord>,
        /// Number of the attempt that starts now.
        next: u32,
        /// Attempts that there may be at most.
        of: u32,
    },
    /// Something a person should know that changes no verdict.
    Warning {
        /// The run.
        run_id: String,
        /// The job it is about.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job_id: Option<String>,
        /// One line.
        message: String,
    },
}

impl RunLifecycleEvent {
    /// Whether it is one of the four kinds that strict readers of `--output jsonl` know.
    #[must_use]
    pub const fn is_classic(&self) -> bool {
        matches!(
            self,
            Self::RunStarted { .. }
                | Self::JobStarted { .. }
                | Self::JobFinished { .. }
                | Self::RunFinished { .. }
        )
    }
}
