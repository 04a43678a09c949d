//! How a job is carried out: the trait, and the one match from a job to its implementation.
//!
//! Executors know nothing of runs: they are handed a directory, a log and a source tree, and
//! say how the job ended. What they say is data; the dispatcher of the run records it.

pub mod after;
pub mod command;
mod failure;
pub(crate) mod host_tree;
pub mod incus;
mod overlay;
mod phases;
pub mod process;
mod remote_process;
mod unbuilt;
pub mod workspace;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jericho_host::{CancelToken, Clock, Host, OutputSink};

use crate::causes::with_causes;
use crate::config::EngineConfig;
use crate::model::attempt::ArtifactRecord;
use crate::model::job::{JobPlacementKind, JobRuntimeKind, JobSpec};
use crate::model::outcome::JobOutcome;
use crate::model::record::{PhaseRecord, RemoteLinuxVmExecutionRecord};
use crate::model::staged::StagedLinuxRustPayloadRole;
use crate::remote::Hosts;
use jericho_host::secrets::Masker;

pub(crate) use phases::{Phases, millis};

/// A log of a job: the command's bytes as they come, and lines of the engine between them.
pub trait JobLog: OutputSink {
    /// Writes `[jerichoci] <line>` on a line of its own.
    ///
    /// # Errors
    /// When it cannot be written.
    fn engine_line(&mut self, line: &str) -> io::Result<()>;
}

/// Everything an executor is handed for one job.
pub struct JobContext<'a> {
    /// The job.
    pub spec: &'a JobSpec,
    /// What this run appends to its command.
    pub args: &'a [String],
    /// The run.
    pub run_id: &'a str,
    /// `<run id>/<job id>/<nonce>`: in the environment of every process of the job.
    pub tag: String,
    /// Target and job, as the part of a path: what is kept from run to run is kept under it.
    pub cache_dir: &'a Path,
    /// Private scratch directory, removed after the job. Not made yet.
    pub scratch: &'a Path,
    /// What the job leaves for people. Exists.
    pub artifacts: &'a Path,
    /// The directory of the job's records. Exists.
    pub dir: &'a Path,
    /// Whether a guest may have to be kept when the job does not pass.
    pub may_be_kept: bool,
    /// Whether its guest is made for a person to look at, so that no reaper ends it.
    pub for_a_person: bool,
    /// The host log.
    pub log: &'a mut dyn JobLog,
    /// The guest log; made when something is written to it.
    pub guest_log: &'a mut dyn OutputSink,
    /// Of the secrets of the run. The log masks them by itself, and so does the caller what it is
    /// handed back; whatever else an executor writes is its own to mask.
    pub masker: Option<&'a Arc<Masker>>,
    /// The source tree.
    pub source: &'a workspace::RunSource,
    /// What was prepared for it.
    pub prepared: &'a Prepared,
    /// Ends the job early.
    pub cancel: &'a CancelToken,
}

impl JobContext<'_> {
    /// What the job runs: its command, or the wrapper of a staged job where that is to be found.
    ///
    /// # Errors
    /// One line for people.
    pub(crate) fn compile(&self) -> Result<command::Compiled, String> {
        let Some(staged) = &self.spec.staged else {
            return command::compile_with(&self.spec.command, self.args).map_err(|error| with_causes(&error));
        };
        let output = match self.spec.runtime.kind() {
            JobRuntimeKind::HostProcess => self.prepared.build_output.as_deref(),
            _ => Some(Path::new(StagedLinuxRustPayloadRole::WorkspaceBuild.guest_mount_path())),
        };
        let output = output.ok_or_else(|| "its outputs are not prepared".to_owned())?;
        let program = output.join("bin").join(&staged.wrapper);
        let program = program.to_str().ok_or_else(|| format!("{} is no text", program.display()))?;
        command::compile_program(program).map_err(|error| with_causes(&error))
    }
}

/// What was prepared for a job, on the host it runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prepared {
    /// What it sees read-only, in this order. Empty for a job that is not staged.
    pub mounts: Vec<PreparedMount>,
    /// Where the workspace build output is for a process of that host.
    pub build_output: Option<PathBuf>,
}

/// A part of a prepared output that a job sees; writes are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedMount {
    /// Directory or file on the host of the job, absolute and without symbolic links.
    pub source: PathBuf,
    /// Where the job sees it, absolute.
    pub guest_path: PathBuf,
}

/// What an executor hands back. Always complete, also after a failure.
#[derive(Debug, Default)]
pub struct JobReport {
    /// How it ended.
    pub outcome: JobOutcome,
    /// How long each phase took.
    pub phases: Vec<PhaseRecord>,
    /// Names of the variables the command saw.
    pub environment: Vec<String>,
    /// Files that were collected from the workspace.
    pub artifacts: Vec<ArtifactRecord>,
    /// What the guest was, of a job that had one.
    pub guest: Option<RemoteLinuxVmExecutionRecord>,
    /// What is left to do once the job is told.
    pub cleanup: Option<after::Cleanup>,
}

impl JobReport {
    /// Takes over the report of a later attempt of the same job. What is told of all attempts
    /// (phases, warnings, left-overs) is added to; warnings of the later one begin with `prefix`.
    pub(crate) fn add(&mut self, later: Self, prefix: &str) {
        let mut outcome = later.outcome;
        for lines in [&mut outcome.warnings, &mut outcome.leaked, &mut outcome.left_behind] {
            lines.iter_mut().for_each(|line| line.insert_str(0, prefix));
        }
        self.outcome.warnings.append(&mut outcome.warnings);
        self.outcome.leaked.append(&mut outcome.leaked);
        self.outcome.left_behind.append(&mut outcome.left_behind);
        outcome.warnings = std::mem::take(&mut self.outcome.warnings);
        outcome.leaked = std::mem::take(&mut self.outcome.leaked);
        outcome.left_behind = std::mem::take(&mut self.outcome.left_behind);
        self.outcome = outcome;
        self.phases.extend(later.phases);
        self.environment = later.environment;
        self.artifacts = later.artifacts;
        self.guest = later.guest;
        self.cleanup = later.cleanup;
    }

    /// Adds what came of cleaning up.
    pub(crate) fn clean(&mut self, cleaned: after::Cleaned) {
        self.outcome.warnings.extend(cleaned.warnings);
        self.outcome.left_behind.extend(cleaned.left_behind);
        if let Some(guest) = &mut self.guest {
            guest.kept = cleaned.kept;
        }
    }

    /// Masks secrets in all that people read.
    pub(crate) fn conceal(&mut self, masker: &Arc<Masker>) {
        let outcome = &mut self.outcome;
        let lines = outcome.warnings.iter_mut().chain(&mut outcome.leaked).chain(&mut outcome.left_behind);
        for line in lines.chain([&mut outcome.message]) {
            *line = masker.text(line);
        }
        for artifact in &mut self.artifacts {
            artifact.path = masker.text(&artifact.path);
        }
    }
}

/// One way to carry out a job.
pub trait Executor: Send + Sync {
    /// Carries it out, blocking until nothing of it is left but what the report says.
    fn execute(&self, job: JobContext<'_>) -> JobReport;
}

/// What executors share.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Settings.
    pub config: Arc<EngineConfig>,
    /// This machine.
    pub host: Arc<dyn Host>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Other machines, as all jobs of a run share them.
    pub hosts: Arc<Hosts>,
    /// Ends guests that nobody works on.
    pub(crate) undertaker: Arc<dyn incus::Undertaker>,
}

/// The executor of a job: the one place that knows which there are.
#[must_use]
pub fn for_job(spec: &JobSpec, tools: &Tools) -> Box<dyn Executor> {
    match (spec.placement.kind(), spec.runtime.kind()) {
        (JobPlacementKind::Local, JobRuntimeKind::HostProcess) => {
            Box::new(process::HostProcess::new(tools.clone()))
        }
        (JobPlacementKind::RemoteSsh, JobRuntimeKind::HostProcess) => {
            Box::new(remote_process::RemoteProcess::new(tools.clone()))
        }
        (_, JobRuntimeKind::Incus) => Box::new(incus::IncusGuest::new(tools.clone())),
        (JobPlacementKind::RemoteSsh, _) => {
            Box::new(unbuilt::Unbuilt("the placement remote_ssh is not built into this version"))
        }
        (JobPlacementKind::Local, JobRuntimeKind::Tart) => {
            Box::new(unbuilt::Unbuilt("the runtime tart is not built into this version"))
        }
    }
}
