//! What happened: the records of a run and of its jobs.
//!
//! `run.json`, shortened:
//!
//! ```json
//! { "run_id": "20260401T120000Z-0a1b2c3d", "status": "passed", "rerun_of": null,
//!   "target_id": "check", "snapshot_dir": "/s/runs/20260401T120000Z-0a1b2c3d/snapshot",
//!   "created_at": "2026-04-01T12:00:00.100+00:00", "jobs": [], "snapshot_hash": "0011…" }
//! ```

use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::attempt::{ArtifactRecord, AttemptRecord};
use super::is_false;
use super::job::{JobPlacementKind, JobRuntimeKind, JobSpec};
use super::outcome::Verdict;
use super::outputs::{Consumer, InvocationMode, LauncherTransportMode, PreparedOutputsRecord};

pub use super::outcome::RunStatus;

/// One run: `runs/<run id>/run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// See [`super::id::RunId`]; not checked on reading.
    pub run_id: String,
    /// `status`, and `failure_kind` when it failed.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The run whose snapshot and definitions this one repeats.
    pub rerun_of: Option<String>,
    /// Target that was asked for.
    pub target_id: Option<String>,
    /// One line about it.
    pub target_description: Option<String>,
    /// Top of the source tree, absolute.
    pub source_root: String,
    /// Directory of the snapshot; empty until there is one and for skipped runs.
    pub snapshot_dir: String,
    /// Commit of `HEAD`.
    pub git_head: Option<String>,
    /// Whether the tree differed from `HEAD`; null without git.
    pub git_dirty: Option<bool>,
    /// Start.
    #[serde(with = "super::time")]
    pub created_at: DateTime<Utc>,
    /// End; for a skipped run the same as the start.
    #[serde(default, with = "super::time::option")]
    pub finished_at: Option<DateTime<Utc>>,
    /// The plan.
    pub plan_path: Option<String>,
    /// The prepared outputs.
    pub prepared_outputs_path: Option<String>,
    /// Who makes prepared outputs visible.
    pub prepared_output_consumer: Option<Consumer>,
    /// Name of a fixed combination of settings.
    pub prepared_output_mode: Option<String>,
    /// How the helper is started.
    pub prepared_output_invocation_mode: Option<InvocationMode>,
    /// Launcher program.
    pub prepared_output_invocation_wrapper_program: Option<String>,
    /// How the launcher is reached.
    pub prepared_output_launcher_transport_mode: Option<LauncherTransportMode>,
    /// Program that reaches it.
    pub prepared_output_launcher_transport_program: Option<String>,
    /// Host it is on.
    pub prepared_output_launcher_transport_host: Option<String>,
    /// Launcher on that host.
    pub prepared_output_launcher_transport_remote_launcher_program: Option<String>,
    /// Helper on that host.
    pub prepared_output_launcher_transport_remote_helper_program: Option<String>,
    /// Work directory on that host.
    pub prepared_output_launcher_transport_remote_work_dir: Option<String>,
    /// Files that differ from the base, relative to the source root.
    #[serde(default)]
    pub changed_files: Vec<String>,
    /// Path filters of the target.
    #[serde(default)]
    pub filters: Vec<String>,
    /// One line for people.
    pub message: Option<String>,
    /// How long each prepare node took.
    #[serde(default)]
    pub prepare_timings: Vec<PrepareTimingRecord>,
    /// The jobs, in the order they were asked for.
    pub jobs: Vec<JobRecord>,

    // Additions. Left out when empty, so that a document of an earlier system round-trips.
    /// What the changed files were counted against; absent when nobody looked for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseRecord>,
    /// Content hash of the snapshot, 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_hash: Option<String>,
    /// From start to end, monotonic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Version of the engine that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_version: Option<String>,
    /// Whether host jobs saw the caller's whole environment.
    #[serde(default, skip_serializing_if = "is_false")]
    pub inherit_env: bool,
    /// Settings in force, with where each came from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<SettingRecord>,
    /// How long each phase of the engine took before the first job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<PhaseRecord>,
    /// What went wrong without changing the verdict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The prepare nodes that ended, in the order of their ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prepares: Vec<PrepareRecord>,
}

/// One job of a run: `runs/<run id>/jobs/<job id>/status.json`, and inside [`RunRecord::jobs`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Unique in the run.
    pub id: String,
    /// One line for people.
    pub description: String,
    /// `status`, and `failure_kind` when it failed.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Label of the placement and runtime pair.
    pub executor: String,
    /// Where it ran; absent in the oldest records.
    pub placement: Option<JobPlacementKind>,
    /// In what isolation; absent in the oldest records.
    pub runtime: Option<JobRuntimeKind>,
    /// `execute-<job id>`.
    pub plan_node_id: Option<String>,
    /// Limit in seconds.
    pub timeout_secs: u64,
    /// What the host saw: engine lines, and the output of a host process.
    pub host_log_path: String,
    /// What the guest wrote. A host process has none.
    pub guest_log_path: String,
    /// Start.
    #[serde(with = "super::time")]
    pub started_at: DateTime<Utc>,
    /// End.
    #[serde(default, with = "super::time::option")]
    pub finished_at: Option<DateTime<Utc>>,
    /// Exit code of the command; null on timeout, signal and everything else that has none.
    pub exit_code: Option<i32>,
    /// One line for people.
    pub message: Option<String>,
    /// Sum of the prepare nodes it waited for; null when 0.
    pub pre_execution_prepare_duration_ms: Option<u64>,
    /// What the instance was, kept also when the job errored.
    pub remote_linux_vm_execution: Option<RemoteLinuxVmExecutionRecord>,

    // Additions.
    /// From start to end, monotonic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Signal that ended the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// How long each phase of the job took.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<PhaseRecord>,
    /// Names of the variables the command saw. Values are not recorded: some are secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<String>,
    /// What the command left behind and the engine ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaked: Vec<String>,
    /// What is still there and should not be, with who ends it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_behind: Vec<String>,
    /// What went wrong without changing the verdict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// All attempts in their order, the last one included, when there was more than one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptRecord>,
    /// It passed, after an attempt that did not.
    #[serde(default, skip_serializing_if = "is_false")]
    pub flaky: bool,
    /// Files that were collected from the workspace, sorted by path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<ArtifactRecord>,
}

impl JobRecord {
    /// A job that has not started, with these two log paths.
    #[must_use]
    pub fn of_spec(job: &JobSpec, host_log: &Path, guest_log: &Path, now: DateTime<Utc>) -> Self {
        let execution = job.execution();
        Self {
            id: job.id.clone(),
            description: job.description.clone(),
            verdict: Verdict::Running,
            executor: execution.executor_label().to_owned(),
            placement: Some(execution.placement),
            runtime: Some(execution.runtime),
            plan_node_id: Some(format!("execute-{}", job.id)),
            timeout_secs: job.timeout_secs,
            host_log_path: host_log.to_string_lossy().into_owned(),
            guest_log_path: guest_log.to_string_lossy().into_owned(),
            started_at: now,
            finished_at: None,
            exit_code: None,
            message: None,
            pre_execution_prepare_duration_ms: None,
            remote_linux_vm_execution: None,
            duration_ms: None,
            signal: None,
            phases: Vec::new(),
            environment: Vec::new(),
            leaked: Vec::new(),
            left_behind: Vec::new(),
            warnings: Vec::new(),
            attempts: Vec::new(),
            flaky: false,
            artifacts: Vec::new(),
        }
    }
}

/// What changed files were counted against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseRecord {
    /// The revision, as given or as found, such as `refs/remotes/origin/main`.
    pub rev: String,
    /// Commit that the head and it have in common.
    pub merge_base: String,
}

/// How a prepare node ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrepareRecord {
    /// Node of the plan.
    pub node_id: String,
    /// `status`, and `failure_kind` when it failed.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// One line for people; absent when there is nothing to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Its log, relative to the run directory; absent when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_path: Option<String>,
}

/// How long a prepare node took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrepareTimingRecord {
    /// Node of the plan.
    pub node_id: String,
    /// Start.
    #[serde(with = "super::time")]
    pub started_at: DateTime<Utc>,
    /// End.
    #[serde(with = "super::time")]
    pub finished_at: DateTime<Utc>,
    /// Monotonic.
    pub duration_ms: u64,
}

/// How long a phase took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseRecord {
    /// Name of the phase, for example `snapshot`.
    pub phase: String,
    /// Start.
    #[serde(with = "super::time")]
    pub started_at: DateTime<Utc>,
    /// End.
    #[serde(with = "super::time")]
    pub finished_at: DateTime<Utc>,
    /// Monotonic.
    pub duration_ms: u64,
}

/// One setting that was in force, for the question "why did it do that?".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingRecord {
    /// Its name.
    pub name: String,
    /// Its value as text.
    pub value: String,
    /// `default`, `flag`, `environment`, or a file.
    pub origin: String,
}

/// What an Incus job ran in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteLinuxVmExecutionRecord {
    /// What made the instance.
    pub backend: RemoteLinuxVmBackend,
    /// The image.
    pub incus_image: Option<RemoteLinuxVmImageRecord>,
    /// How long each phase took.
    #[serde(default)]
    pub phases: Vec<RemoteLinuxVmPhaseRecord>,

    // Additions.
    /// The instance, once it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Until when it is there to be looked at, when it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptInstanceRecord>,
}

/// An instance that was kept to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptInstanceRecord {
    /// The run it belongs to.
    pub run_id: String,
    /// The job it belongs to.
    pub job_id: String,
    /// The host by the name that the job used; absent for this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Incus project.
    pub project: String,
    /// Name of the instance.
    pub instance: String,
    /// By the clock of its host; after that the next reaping removes it.
    #[serde(with = "super::time")]
    pub keep_until: DateTime<Utc>,
}

/// What makes instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RemoteLinuxVmBackend {
    /// Incus.
    Incus,
}

/// An image, as resolved for a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteLinuxVmImageRecord {
    /// Role whose default alias it is; absent when another alias was configured.
    #[serde(default, alias = "role", skip_serializing_if = "Option::is_none")]
    pub guest_role: Option<pika_incus_guest_role::IncusGuestRole>,
    /// Incus project.
    pub project: String,
    /// Image alias.
    pub alias: String,
    /// Fingerprint, when known.
    pub fingerprint: Option<String>,
}

/// A phase of an Incus job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RemoteLinuxVmPhase {
    /// Directories on the host.
    PrepareDirectories,
    /// Snapshot to the host.
    StageWorkspaceSnapshot,
    /// Instance and devices.
    PrepareRuntime,
    /// Start of the command.
    LaunchGuest,
    /// The command.
    WaitForCompletion,
    /// Logs, result, artifacts.
    CollectArtifacts,
}

/// How long a phase of an Incus job took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteLinuxVmPhaseRecord {
    /// Which.
    pub phase: RemoteLinuxVmPhase,
    /// Start.
    #[serde(with = "super::time")]
    pub started_at: DateTime<Utc>,
    /// End.
    #[serde(with = "super::time")]
    pub finished_at: DateTime<Utc>,
    /// Monotonic.
    pub duration_ms: u64,
}

/// Where the logs of a run are: `pikaci logs <run> --metadata-json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLogsMetadata {
    /// The run.
    pub run_id: String,
    /// Its status.
    pub status: RunStatus,
    /// One entry a job.
    #[serde(default)]
    pub jobs: Vec<JobLogMetadata>,
}

/// Where the logs of a job are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobLogMetadata {
    /// The job.
    pub id: String,
    /// Its host log.
    pub host_log_path: String,
    /// Its guest log.
    pub guest_log_path: String,
    /// Whether the host log is there.
    pub host_log_exists: bool,
    /// Whether the guest log is there.
    pub guest_log_exists: bool,
    /// Size of the host log, when it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_log_bytes: Option<u64>,
    /// Size of the guest log, when it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_log_bytes: Option<u64>,
}

/// Everything about a run in one value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunBundle {
    /// Its record.
    pub run: RunRecord,
    /// Where its logs are.
    pub logs: RunLogsMetadata,
    /// Its prepared outputs, when there are any that can be read.
    pub prepared_outputs: Option<PreparedOutputsRecord>,
    /// What could not be read, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}
