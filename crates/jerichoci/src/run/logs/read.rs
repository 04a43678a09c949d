//! Reads the logs of jobs, and says where they are.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use jericho_host::fs::write_atomic;

use crate::beneath;
use crate::engine::EngineError;
use crate::model::id::{RunId, check_name};
use crate::model::record::{JobLogMetadata, JobRecord, RunLogsMetadata, RunRecord};
use crate::run::layout::Layout;
use crate::run::read::load_run_record;

/// One of the two logs of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFile {
    /// What the host saw.
    Host,
    /// What the guest wrote. A host process has none.
    Guest,
}

impl LogFile {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Guest => "guest",
        }
    }

    /// Below the job directory, as [`crate::run::layout::JobLayout`] has it.
    pub(crate) const fn relative(self) -> &'static str {
        match self {
            Self::Host => "host.log",
            Self::Guest => "artifacts/guest.log",
        }
    }
}

/// Which logs of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogKind {
    /// [`LogFile::Host`]; it must be there.
    Host,
    /// [`LogFile::Guest`]; it must be there.
    Guest,
    /// Those that are there; at least one must be.
    #[default]
    Both,
}

/// Logs of a job as they were written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Logs {
    /// The host log.
    pub host: Option<Vec<u8>>,
    /// The guest log.
    pub guest: Option<Vec<u8>>,
}

/// The logs of a job, the run's first one by default, in memory: see [`open_log`] for long ones.
///
/// # Errors
/// [`EngineError::JobNotFound`], [`EngineError::NoJobs`], [`EngineError::LogNotFound`], and those
/// of [`load_run_record`].
pub fn load_logs(
    state_root: &Path,
    run_id: &RunId,
    job_id: Option<&str>,
    kind: LogKind,
) -> Result<Logs, EngineError> {
    let run = load_run_record(state_root, run_id)?;
    let job = find_job(&run, run_id, job_id)?;
    let read = |log| -> Result<Option<Vec<u8>>, EngineError> {
        let Some(mut file) = open(state_root, run_id, job, log)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|source| failed(state_root, run_id, job, log, source))?;
        Ok(Some(bytes))
    };
    let required = |log| read(log)?.ok_or_else(|| missing(run_id, job, log.as_str()));
    Ok(match kind {
        LogKind::Host => Logs { host: Some(required(LogFile::Host)?), guest: None },
        LogKind::Guest => Logs { host: None, guest: Some(required(LogFile::Guest)?) },
        LogKind::Both => {
            let logs = Logs { host: read(LogFile::Host)?, guest: read(LogFile::Guest)? };
            if logs.host.is_none() && logs.guest.is_none() {
                return Err(missing(run_id, job, "host or guest"));
            }
            logs
        }
    })
}

/// One log of a job, the run's first one by default, to be read piece by piece. While the job
/// runs the file grows; what was read once does not change.
///
/// # Errors
/// As [`load_logs`].
pub fn open_log(
    state_root: &Path,
    run_id: &RunId,
    job_id: Option<&str>,
    log: LogFile,
) -> Result<File, EngineError> {
    let run = load_run_record(state_root, run_id)?;
    let job = find_job(&run, run_id, job_id)?;
    open(state_root, run_id, job, log)?.ok_or_else(|| missing(run_id, job, log.as_str()))
}

/// Where the logs of a run are, of one job or of all.
///
/// # Errors
/// As [`load_logs`], but for logs that are not there: that is what it tells.
pub fn load_logs_metadata(
    state_root: &Path,
    run_id: &RunId,
    job_id: Option<&str>,
) -> Result<RunLogsMetadata, EngineError> {
    let run = load_run_record(state_root, run_id)?;
    metadata_of(state_root, run_id, &run, job_id)
}

/// The same of a record that was read already.
pub(crate) fn metadata_of(
    state_root: &Path,
    run_id: &RunId,
    run: &RunRecord,
    job_id: Option<&str>,
) -> Result<RunLogsMetadata, EngineError> {
    let only = job_id.map(|job_id| find_job(run, run_id, Some(job_id))).transpose()?;
    let jobs = run.jobs.iter().filter(|job| only.is_none_or(|only| only.id == job.id));
    let jobs = jobs.map(|job| {
        // A log that cannot be read is as good as none, for whoever asks where to look.
        let size = |log| {
            let file = open(state_root, run_id, job, log).ok().flatten()?;
            file.metadata().ok().map(|metadata| metadata.len())
        };
        let (host, guest) = (size(LogFile::Host), size(LogFile::Guest));
        JobLogMetadata {
            id: job.id.clone(),
            host_log_path: job.host_log_path.clone(),
            guest_log_path: job.guest_log_path.clone(),
            host_log_exists: host.is_some(),
            guest_log_exists: guest.is_some(),
            host_log_bytes: host,
            guest_log_bytes: guest,
        }
    });
    Ok(RunLogsMetadata { run_id: run.run_id.clone(), status: run.verdict.status(), jobs: jobs.collect() })
}

/// Writes whole logs of a job, for a front end that has them from elsewhere. A log that is absent
/// here is left as it is.
///
/// # Errors
/// [`EngineError::Id`] for a job id that is none, [`EngineError::File`].
pub fn persist_job_logs(
    state_root: &Path,
    run_id: &RunId,
    job_id: &str,
    host: Option<&[u8]>,
    guest: Option<&[u8]>,
) -> Result<(), EngineError> {
    check_name(job_id)?;
    let job = Layout::new(state_root).run(run_id).job(job_id);
    for (content, path) in [(host, job.host_log()), (guest, job.guest_log())] {
        let Some(content) = content else { continue };
        let dir = path.parent().unwrap_or(job.dir());
        std::fs::create_dir_all(dir)
            .and_then(|()| write_atomic(&path, content, false))
            .map_err(|source| EngineError::File { action: "write", path, source })?;
    }
    Ok(())
}

fn find_job<'a>(
    run: &'a RunRecord,
    run_id: &RunId,
    job_id: Option<&str>,
) -> Result<&'a JobRecord, EngineError> {
    let Some(job_id) = job_id else {
        return run.jobs.first().ok_or_else(|| EngineError::NoJobs { run_id: run_id.to_string() });
    };
    run.jobs.iter().find(|job| job.id == job_id).ok_or_else(|| EngineError::JobNotFound {
        run_id: run_id.to_string(),
        job_id: job_id.to_owned(),
        known: run.jobs.iter().map(|job| job.id.as_str()).collect::<Vec<_>>().join(", "),
    })
}

/// By the layout, never by a path of the record: that may say anything.
fn open(
    state_root: &Path,
    run_id: &RunId,
    job: &JobRecord,
    log: LogFile,
) -> Result<Option<File>, EngineError> {
    check_name(&job.id)?;
    let layout = Layout::new(state_root).run(run_id).job(&job.id);
    match beneath::open_file(layout.dir(), Path::new(log.relative())) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed(state_root, run_id, job, log, source)),
    }
}

fn failed(
    state_root: &Path,
    run_id: &RunId,
    job: &JobRecord,
    log: LogFile,
    source: io::Error,
) -> EngineError {
    let path = Layout::new(state_root).run(run_id).job(&job.id).dir().join(log.relative());
    EngineError::File { action: "read", path, source }
}

fn missing(run_id: &RunId, job: &JobRecord, kind: &'static str) -> EngineError {
    EngineError::LogNotFound { run_id: run_id.to_string(), job_id: job.id.clone(), kind }
}
