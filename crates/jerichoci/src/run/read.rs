//! Reads the records of runs. Nothing here writes.
//!
//! Documents of the earlier system load. A state root that was moved reads as if it had always
//! been where it is. A run that nobody works on any more, and that has no end, reads as
//! interrupted.

use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::journal;
use super::layout::Layout;
use super::logs;
use super::owner;
use super::rebase::Rebase;
use super::recover::interrupted;
use crate::engine::EngineError;
use crate::model::id::RunId;
use crate::model::outcome::Verdict;
use crate::model::outputs::PreparedOutputsRecord;
use crate::model::plan::RunPlanRecord;
use crate::model::record::{RunBundle, RunRecord};
use crate::model::version;

/// The record of a run.
///
/// # Errors
/// [`EngineError::RunNotFound`], [`EngineError::Corrupt`], [`EngineError::File`].
pub fn load_run_record(state_root: &Path, run_id: &RunId) -> Result<RunRecord, EngineError> {
    let layout = Layout::new(state_root);
    let run = layout.run(run_id);
    let mut record = read_run(&layout, run_id)?;
    if record.verdict == Verdict::Running && !owner::is_alive(&run) {
        // It may have ended between the two looks; the last record comes before the lock goes.
        record = read_run(&layout, run_id)?;
        if record.verdict == Verdict::Running {
            let path = run.events();
            let journal = journal::read_journal(&path).map_err(|source| EngineError::File {
                action: "read",
                path,
                source,
            })?;
            record = interrupted(&run, record, journal);
        }
    }
    if let Some(rebase) = Rebase::of_run(&record, &layout) {
        rebase.run(&mut record);
    }
    Ok(record)
}

/// The plan of a run.
///
/// # Errors
/// As [`load_run_record`]; [`EngineError::File`] also when the run has no plan.
pub fn load_plan(state_root: &Path, run_id: &RunId) -> Result<RunPlanRecord, EngineError> {
    let path = Layout::new(state_root).run(run_id).plan();
    let bytes = read_file(&path)?;
    check_version(&bytes, version::PLAN, &path)?;
    parse(&bytes, &path)
}

/// The prepared outputs of a run.
///
/// # Errors
/// [`EngineError::NoPreparedOutputs`], [`EngineError::Corrupt`], [`EngineError::File`].
pub fn load_prepared_outputs_record(
    state_root: &Path,
    run_id: &RunId,
) -> Result<PreparedOutputsRecord, EngineError> {
    let layout = Layout::new(state_root);
    let run = layout.run(run_id);
    if !run.dir().is_dir() {
        return Err(not_found(&layout, run_id));
    }
    let path = run.prepared_outputs();
    let bytes = match read_file(&path) {
        Err(EngineError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Err(EngineError::NoPreparedOutputs { run_id: run_id.to_string() });
        }
        other => other?,
    };
    check_version(&bytes, version::PREPARED_OUTPUTS, &path)?;
    let mut record: PreparedOutputsRecord = parse(&bytes, &path)?;
    if let Some(rebase) = Rebase::of_outputs(&record, run_id.as_str(), &layout) {
        rebase.outputs(&mut record);
    }
    Ok(record)
}

/// Everything about a run in one value. Prepared outputs that cannot be read are a warning in it.
///
/// # Errors
/// As [`load_run_record`].
pub fn load_run_bundle(state_root: &Path, run_id: &RunId) -> Result<RunBundle, EngineError> {
    let run = load_run_record(state_root, run_id)?;
    let logs = logs::metadata_of(state_root, run_id, &run, None)?;
    let mut warnings = Vec::new();
    let prepared_outputs = match load_prepared_outputs_record(state_root, run_id) {
        Ok(record) => Some(record),
        Err(EngineError::NoPreparedOutputs { .. }) => None,
        Err(error) => {
            warnings.push(crate::causes::with_causes(&error));
            None
        }
    };
    Ok(RunBundle { run, logs, prepared_outputs, warnings })
}

fn read_run(layout: &Layout, run_id: &RunId) -> Result<RunRecord, EngineError> {
    let run = layout.run(run_id);
    let path = run.record();
    let bytes = match read_file(&path) {
        Err(EngineError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            if !run.dir().is_dir() {
                return Err(not_found(layout, run_id));
            }
            return Err(EngineError::Corrupt { path, problem: "the run has no record".to_owned() });
        }
        other => other?,
    };
    parse(&bytes, &path)
}

fn not_found(layout: &Layout, run_id: &RunId) -> EngineError {
    EngineError::RunNotFound { run_id: run_id.to_string(), state_root: layout.root().to_path_buf() }
}

fn read_file(path: &Path) -> Result<Vec<u8>, EngineError> {
    fs::read(path).map_err(|source| EngineError::File { action: "read", path: path.to_path_buf(), source })
}

fn parse<T: DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<T, EngineError> {
    serde_json::from_slice(bytes)
        .map_err(|error| EngineError::Corrupt { path: path.to_path_buf(), problem: error.to_string() })
}

/// Refuses a document of a newer version before its shape is looked at.
pub(crate) fn check_version(bytes: &[u8], known: u32, path: &Path) -> Result<(), EngineError> {
    #[derive(Deserialize)]
    struct Versioned {
        schema_version: u32,
    }
    match serde_json::from_slice::<Versioned>(bytes) {
        Ok(document) if document.schema_version > known => Err(EngineError::Corrupt {
            path: path.to_path_buf(),
            problem: format!(
                "it has version {}, written by a newer Jericho CI; this one knows {known}",
                document.schema_version
            ),
        }),
        // What else is wrong is found with the whole shape in hand.
        _ => Ok(()),
    }
}
