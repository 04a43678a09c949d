//! What lies beside the record of a run: definitions, logs by their place, the snapshot's list.
//! Nothing here writes.

use std::fs::File;
use std::io;
use std::path::Path;

use super::layout::Layout;
use super::logs::LogFile;
use super::snapshots::kept_by;
use super::store::{RunSpecRecord, file_error, read_json};
use crate::beneath;
use crate::engine::EngineError;
use crate::model::id::RunId;
use crate::model::version;
use crate::snapshot::Manifest;

/// What a run was asked to do.
///
/// # Errors
/// [`EngineError::File`] also when an earlier version recorded the run, without its definitions;
/// [`EngineError::Corrupt`].
pub fn load_run_spec(state_root: &Path, run_id: &RunId) -> Result<RunSpecRecord, EngineError> {
    let path = Layout::new(state_root).run(run_id).spec();
    let spec: RunSpecRecord = read_json(&path)?;
    if spec.schema_version > version::RUN_SPEC {
        let problem = format!("it has version {}, newer than this program", spec.schema_version);
        return Err(EngineError::Corrupt { path, problem });
    }
    Ok(spec)
}

/// A file of a run by its path relative to the run directory, for example the `host_log_path` of
/// an attempt. No symbolic link on the way is followed: a job may have put one there.
///
/// # Errors
/// Of open(2); [`io::ErrorKind::InvalidInput`] for a path that leads out, a link, or no file.
pub fn open_run_file(state_root: &Path, run_id: &RunId, relative: &Path) -> io::Result<File> {
    beneath::open_file(Layout::new(state_root).run(run_id).dir(), relative)
}

/// A log of a job whose record is at hand, without reading the record again as
/// [`super::logs::open_log`] does.
///
/// # Errors
/// As [`open_run_file`].
pub fn open_job_log(state_root: &Path, run_id: &RunId, job_id: &str, log: LogFile) -> io::Result<File> {
    open_run_file(state_root, run_id, &Path::new("jobs").join(job_id).join(log.relative()))
}

/// The list of everything in the snapshot of a run; nothing for a run without one.
///
/// # Errors
/// [`EngineError::File`], [`EngineError::Corrupt`] when it is damaged or gone.
pub fn load_manifest(state_root: &Path, run_id: &RunId) -> Result<Option<Manifest>, EngineError> {
    let run = Layout::new(state_root).run(run_id);
    let path = run.manifest();
    let Some(hash) = kept_by(&run).map_err(file_error("read", &path))? else { return Ok(None) };
    let bytes = std::fs::read(&path).map_err(file_error("read", &path))?;
    let corrupt = |problem: String| EngineError::Corrupt { path: path.clone(), problem };
    let manifest = Manifest::decode(&bytes).map_err(|error| corrupt(error.to_string()))?;
    let found = manifest.hash();
    match found == hash {
        true => Ok(Some(manifest)),
        false => Err(corrupt(format!("its content has the hash {found}, and its name says {hash}"))),
    }
}
