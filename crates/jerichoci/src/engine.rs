//! The facade: everything a front end does with the engine.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use jericho_host::lock::{FileLock, LockError};
use jericho_host::{CancelToken, Clock, Host, HostError, IdSource, LocalHost, SystemClock, SystemIds};

use crate::config::EngineConfig;
use crate::executor::Tools;
use crate::model::id::{IdError, RunId};
use crate::model::record::RunRecord;
use crate::remote::Hosts;
use crate::run::gc::{self, GcPolicy, GcReport};
use crate::run::guests::{Others, Reaper};
use crate::run::layout::Layout;
use crate::run::outstanding::closure_of_needs;
use crate::run::owner::is_alive;
use crate::run::reap::{self, ReapOptions, ReapReport};
use crate::run::report::Reporter;
use crate::run::request::{RequestError, RerunRequest, RunRequest};
use crate::run::store::RunSpecRecord;
use crate::run::{control, flow, rerun, snapshots};
use crate::snapshot::{ChangedFiles, SnapshotError};

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
    /// The run has several jobs, and none of them was named.
    #[error("run {run_id} has several jobs, so one has to be named; it has: {known}")]
    WhichJob {
        /// The run.
        run_id: String,
        /// What it has, comma separated.
        known: String,
    },
    /// A shell could not be opened, or was lost.
    #[error("no shell for job `{job_id}` of run {run_id}: {why}")]
    Shell {
        /// The run.
        run_id: String,
        /// The job.
        job_id: String,
        /// Why.
        why: String,
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
    /// A lock could not be taken.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A snapshot could not be taken, found or written out.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The machine refused something else.
    #[error(transparent)]
    Host(#[from] HostError),
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
    /// On this machine, with its clock.
    #[must_use]
    pub fn new(config: EngineConfig) -> Self {
        Self::with_parts(config, Arc::new(LocalHost::new()), Arc::new(SystemClock), Arc::new(SystemIds))
    }

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

    /// Runs the jobs of a request against a snapshot of the source tree, to the end.
    ///
    /// # Errors
    /// Only when no record could be made at all. Everything later is in the record.
    pub fn run(
        &self,
        request: &RunRequest,
        reporter: &mut dyn Reporter,
        cancel: &CancelToken,
    ) -> Result<RunRecord, EngineError> {
        let mut request = request.clone();
        request.jobs = closure_of_needs(&request.jobs, &request.options.only)?;
        flow::run(self, &request, None, reporter, cancel)
    }

    /// Repeats a run, see [`RerunRequest`]. The values of its secrets come from this engine's
    /// configuration again: the jobs of [`Engine::run_spec`] name them.
    ///
    /// # Errors
    /// [`EngineError::RunNotFound`], [`EngineError::NotRepeatable`], or as [`Engine::run`].
    pub fn rerun(
        &self,
        request: &RerunRequest,
        reporter: &mut dyn Reporter,
        cancel: &CancelToken,
    ) -> Result<RunRecord, EngineError> {
        rerun::rerun(self, request, reporter, cancel)
    }

    /// What a run was asked to do: its jobs and options, for reruns.
    ///
    /// # Errors
    /// [`EngineError::RunNotFound`], [`EngineError::NotRepeatable`], [`EngineError::Corrupt`].
    pub fn run_spec(&self, run_id: &RunId) -> Result<RunSpecRecord, EngineError> {
        rerun::load_run_spec(self, run_id)
    }

    /// Asks the engine that works on a run to cancel it, and waits at most `wait` for its end.
    ///
    /// # Errors
    /// [`EngineError::RunNotFound`], [`EngineError::File`].
    pub fn cancel_run(&self, run_id: &RunId, wait: Duration) -> Result<CancelAnswer, EngineError> {
        let run = Layout::new(&self.config.state_root).run(run_id);
        if !run.dir().is_dir() {
            return Err(self.run_not_found(run_id));
        }
        if !is_alive(&run) {
            return Ok(CancelAnswer::NotRunning);
        }
        let control = run.control();
        let asked = control::ask(&control);
        if !asked.map_err(|source| EngineError::File { action: "write", path: control, source })? {
            return Ok(CancelAnswer::NotRunning);
        }
        // The owner's lock is free when it has ended. A lock cannot be waited for with a limit,
        // so a thread waits; when the limit comes first, it ends with this process.
        let (ended, end) = mpsc::channel();
        let owner = run.owner();
        std::thread::spawn(move || {
            let _ = ended.send(FileLock::shared_blocking(&owner).map(drop));
        });
        match end.recv_timeout(wait) {
            Ok(result) => result.map(|()| CancelAnswer::Ended).map_err(EngineError::Lock),
            Err(_) => Ok(CancelAnswer::Requested),
        }
    }

    /// Collects what nobody needs.
    ///
    /// # Errors
    /// When the state root cannot be read. What could not be collected is in the report.
    pub fn gc(&self, policy: &GcPolicy) -> Result<GcReport, EngineError> {
        let cancel =
            CancelToken::new().map_err(|error| HostError::System("cannot make an eventfd", error))?;
        gc::collect(self, policy, &cancel)
    }

    /// The same, and what nobody needs on these hosts, by the names that jobs use, and in the Incus of each machine
    /// where this engine makes guests.
    ///
    /// # Errors
    /// As [`Engine::gc`]. A host that cannot be reached is told in the report.
    pub fn gc_everywhere(
        &self,
        policy: &GcPolicy,
        hosts: &[String],
        cancel: &CancelToken,
    ) -> Result<GcReport, EngineError> {
        gc::everywhere(self, policy, hosts, cancel)
    }

    /// Puts in order what an engine that died has left. Every run does so when it starts.
    ///
    /// # Errors
    /// When the state root cannot be read. What could not be put in order is in the report.
    pub fn reap(&self) -> Result<ReapReport, EngineError> {
        reap::reap(self)
    }

    /// The same, and ends guests that nobody owns any more: where this engine has ever made any, and on the
    /// hosts that are named.
    ///
    /// # Errors
    /// As [`Engine::reap`]. A host that cannot be reached is a problem in the report.
    pub fn reap_all(&self, options: &ReapOptions, cancel: &CancelToken) -> Result<ReapReport, EngineError> {
        reap::reap_all(self, options, cancel)
    }

    /// The guests that are kept to be looked at, in the report's `kept`. Nothing is ended.
    ///
    /// # Errors
    /// When the state root cannot be read. A host that cannot be reached is a problem in the report.
    pub fn kept_instances(
        &self,
        options: &ReapOptions,
        cancel: &CancelToken,
    ) -> Result<ReapReport, EngineError> {
        reap::kept(self, options, cancel)
    }

    /// Files of the source tree that differ from the base, for path filters.
    ///
    /// # Errors
    /// [`EngineError::Snapshot`] when git fails. That there is no base is no error.
    pub fn changed_files(
        &self,
        base: Option<&str>,
        cancel: &CancelToken,
    ) -> Result<ChangedFiles, EngineError> {
        let environment = &self.config.caller_environment;
        Ok(crate::snapshot::git_changed_files(&self.config.source_root, base, environment, cancel)?)
    }

    /// The source tree of a run, written out when nobody asked for it before. It is shared by
    /// all runs of the same snapshot and goes with the last of them: read it, do not change it.
    ///
    /// # Errors
    /// [`EngineError::RunNotFound`], [`EngineError::NotRepeatable`] when the run has no snapshot,
    /// [`EngineError::Snapshot`].
    pub fn snapshot_tree(&self, run_id: &RunId) -> Result<PathBuf, EngineError> {
        snapshots::tree_of(self, run_id)
    }

    /// Other machines, as one run or one look around shares them; nothing is connected.
    pub(crate) fn hosts(&self, engine_id: String) -> Hosts {
        Hosts::new(Arc::clone(&self.config), Arc::clone(&self.clock), Arc::clone(&self.ids), engine_id)
    }

    /// What executors share.
    pub(crate) fn tools(&self, hosts: Hosts) -> Tools {
        let hosts = Arc::new(hosts);
        let reaper = Reaper {
            layout: Layout::new(&self.config.state_root),
            hosts: Arc::clone(&hosts),
            clock: Arc::clone(&self.clock),
            others: Others::Ignored,
            dry_run: false,
        };
        Tools {
            config: Arc::clone(&self.config),
            host: Arc::clone(&self.host),
            clock: Arc::clone(&self.clock),
            hosts,
            undertaker: Arc::new(reaper),
        }
    }

    pub(crate) fn run_not_found(&self, run_id: &RunId) -> EngineError {
        EngineError::RunNotFound { run_id: run_id.to_string(), state_root: self.config.state_root.clone() }
    }
}
