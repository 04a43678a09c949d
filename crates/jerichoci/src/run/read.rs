//! Loading of records.

use std::path::Path;

use super::layout::Layout;
use super::store::read_json;
use crate::engine::EngineError;
use crate::model::id::RunId;
use crate::model::record::RunRecord;

/// The record of a run.
///
/// # Errors
/// [`EngineError::RunNotFound`], [`EngineError::Corrupt`].
pub fn load_run_record(state_root: &Path, run_id: &RunId) -> Result<RunRecord, EngineError> {
    let run = Layout::new(state_root).run(run_id);
    if !run.record().exists() {
        return Err(EngineError::RunNotFound { run_id: run_id.to_string(), state_root: state_root.to_path_buf() });
    }
    read_json(&run.record())
}
