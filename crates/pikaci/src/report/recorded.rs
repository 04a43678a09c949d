//! A run as it is recorded, with what lies beside its record.

use std::fs::File;
use std::path::{Path, PathBuf};

use jerichoci::EngineError;
use jerichoci::load_run_record;
use jerichoci::model::attempt::AttemptRecord;
use jerichoci::model::id::RunId;
use jerichoci::model::job::JobSpec;
use jerichoci::model::record::{JobRecord, RunRecord};
use jerichoci::run::beside::{load_manifest, load_run_spec, open_job_log, open_run_file};
use jerichoci::run::layout::Layout;
use jerichoci::run::logs::LogFile;
use jerichoci::run::store::RunSpecRecord;
use jerichoci::snapshot::Manifest;

/// A run, and its definitions.
#[derive(Debug)]
pub(crate) struct Recorded {
    state_root: PathBuf,
    pub(crate) run_id: RunId,
    pub(crate) run: RunRecord,
    /// Absent in runs of an earlier system.
    pub(crate) spec: Option<RunSpecRecord>,
}

impl Recorded {
    /// Reads a run.
    ///
    /// # Errors
    /// As [`load_run_record`]. What lies beside the record may be missing or damaged.
    pub(crate) fn load(state_root: &Path, run_id: &RunId) -> Result<Self, EngineError> {
        Ok(Self::of(state_root, run_id, load_run_record(state_root, run_id)?))
    }

    /// Of a record that is at hand.
    pub(crate) fn of(state_root: &Path, run_id: &RunId, run: RunRecord) -> Self {
        Self {
            state_root: state_root.to_path_buf(),
            run_id: run_id.clone(),
            run,
            spec: load_run_spec(state_root, run_id).ok(),
        }
    }

    /// Where all of it lies.
    pub(crate) fn run_directory(&self) -> PathBuf {
        Layout::new(&self.state_root).run(&self.run_id).dir().to_path_buf()
    }

    /// A log of a job, when it is there and can be read.
    pub(crate) fn log(&self, job: &JobRecord, log: LogFile) -> Option<File> {
        open_job_log(&self.state_root, &self.run_id, &job.id, log).ok()
    }

    /// The log of an attempt, when it is there and can be read.
    pub(crate) fn attempt_log(&self, attempt: &AttemptRecord) -> Option<File> {
        open_run_file(&self.state_root, &self.run_id, Path::new(&attempt.host_log_path)).ok()
    }

    /// The list of everything in the snapshot; nothing for a run without one.
    ///
    /// # Errors
    /// As [`load_manifest`].
    pub(crate) fn manifest(&self) -> Result<Option<Manifest>, EngineError> {
        load_manifest(&self.state_root, &self.run_id)
    }

    /// The definition of a job.
    pub(crate) fn definition(&self, job: &JobRecord) -> Option<&JobSpec> {
        self.spec.as_ref()?.jobs.iter().find(|spec| spec.id == job.id)
    }

    /// What people call the run: its target, or its only job.
    pub(crate) fn name(&self) -> &str {
        match (&self.run.target_id, self.run.jobs.as_slice()) {
            (Some(target), _) => target,
            (None, [job]) => &job.id,
            (None, _) => "run",
        }
    }
}
