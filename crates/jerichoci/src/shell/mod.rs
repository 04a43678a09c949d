//! A shell where a job of a run ran: in its guest while that is there, else in a fresh one with the same
//! image and mounts and the same snapshot; for a host process, in a private copy of the snapshot on its machine.
//!
//! No secret gets there: what somebody types at is in the process list of the host.

mod fresh;
mod guest;
mod keep;
mod place;
mod remote;
mod workspace;

pub(crate) use place::{is_open, sweep, sweep_behind};

use jericho_host::{CancelToken, HostError};
use pika_cloud::ops::{Console, OpsError};

use crate::engine::{Engine, EngineError};
use crate::executor::incus::GuestPlace;
use crate::model::id::RunId;
use crate::model::job::{JobPlacement, JobRuntimeConfig, JobSpec};
use crate::run::guests::{Problem, Reaper};
use crate::run::layout::Layout;
use crate::run::rerun::load_run_spec;

/// What is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellRequest {
    /// The run.
    pub run_id: RunId,
    /// The job; may be left out where the run has only one.
    pub job_id: Option<String>,
    /// In a fresh guest also when that of the job is still there.
    pub fresh: bool,
    /// Program and arguments in place of a login shell.
    pub command: Vec<String>,
    /// `TERM` of the terminal.
    pub term: Option<String>,
}

/// Hears what takes a while, in one line each.
pub type Tell<'t> = dyn FnMut(&str) + Send + 't;

/// Runs the command of the request; returns its exit code.
type Opened = Result<i32, EngineError>;

impl Engine {
    /// Opens a shell where a job ran, and returns its exit code. `tell` hears what takes a while.
    ///
    /// # Errors
    /// [`EngineError::RunNotFound`], [`EngineError::JobNotFound`], [`EngineError::WhichJob`], [`EngineError::NotRepeatable`] when the
    /// snapshot is gone, [`EngineError::Shell`] when it cannot be opened or its connection is lost.
    pub fn shell(
        &self,
        request: &ShellRequest,
        console: &mut dyn Console,
        tell: &mut Tell<'_>,
        cancel: &CancelToken,
    ) -> Result<i32, EngineError> {
        let job = self.job_of(request)?;
        let shell = Shell { engine: self, request, job: &job, cancel };
        match (&job.runtime, &job.placement) {
            (JobRuntimeConfig::Incus(_), _) => {
                if !request.fresh
                    && let Some(code) = guest::open(&shell, console, tell)?
                {
                    return Ok(code);
                }
                fresh::open(&shell, console, tell)
            }
            (JobRuntimeConfig::HostProcess(_), JobPlacement::Local) => workspace::open(&shell, console, tell),
            (JobRuntimeConfig::HostProcess(_), JobPlacement::RemoteSsh { host }) => {
                remote::open(&shell, host, tell)
            }
            (JobRuntimeConfig::Tart(_), _) => {
                Err(shell.error("the runtime tart is not built into this version".to_owned()))
            }
        }
    }

    fn job_of(&self, request: &ShellRequest) -> Result<JobSpec, EngineError> {
        let mut jobs = load_run_spec(self, &request.run_id)?.jobs;
        let run_id = request.run_id.to_string();
        let found = match &request.job_id {
            Some(id) => jobs.iter().position(|job| job.id == *id),
            None if jobs.len() == 1 => Some(0),
            None => None,
        };
        match found {
            Some(found) => Ok(jobs.swap_remove(found)),
            None if jobs.is_empty() => Err(EngineError::NoJobs { run_id }),
            None => {
                let known = jobs.iter().map(|job| job.id.as_str()).collect::<Vec<_>>().join(", ");
                Err(match request.job_id.clone() {
                    Some(job_id) => EngineError::JobNotFound { run_id, job_id, known },
                    None => EngineError::WhichJob { run_id, known },
                })
            }
        }
    }
}

/// One shell in the making.
struct Shell<'s> {
    engine: &'s Engine,
    request: &'s ShellRequest,
    job: &'s JobSpec,
    cancel: &'s CancelToken,
}

impl Shell<'_> {
    fn layout(&self) -> Layout {
        Layout::new(&self.engine.config.state_root)
    }

    fn error(&self, why: String) -> EngineError {
        EngineError::Shell { run_id: self.request.run_id.to_string(), job_id: self.job.id.clone(), why }
    }

    /// That it was cancelled, if it was.
    fn cancelled(&self) -> Option<EngineError> {
        self.cancel.reason().map(|reason| HostError::Cancelled(reason).into())
    }

    /// What the Incus of a place has against it.
    fn refused(&self, reaper: &Reaper, place: &GuestPlace, problem: impl Into<Problem>) -> EngineError {
        match (problem.into(), self.cancel.reason()) {
            (Problem::Incus(OpsError::Cancelled(reason)), _) | (_, Some(reason)) => {
                HostError::Cancelled(reason).into()
            }
            (problem, None) => self.error(reaper.explain(place, &problem, self.cancel)),
        }
    }
}
