//! Repeats a run: the recorded job definitions on the recorded snapshot, byte for byte.

use super::flow::{self, Repeat};
use super::layout::Layout;
use super::read::load_run_record;
use super::report::Reporter;
use super::request::RunRequest;
use super::store::{RunSpecRecord, read_json};
use crate::engine::{Engine, EngineError};
use crate::model::id::RunId;
use crate::model::outcome::Verdict;
use crate::model::record::RunRecord;
use crate::model::version;
use jericho_host::CancelToken;

pub(crate) fn rerun(
    engine: &Engine,
    run_id: &RunId,
    reporter: &mut dyn Reporter,
    cancel: &CancelToken,
) -> Result<RunRecord, EngineError> {
    let record = load_run_record(&engine.config.state_root, run_id)?;
    let run = Layout::new(&engine.config.state_root).run(run_id);
    let refuse = |why: String| EngineError::NotRepeatable { run_id: run_id.to_string(), why };
    if !run.spec().exists() {
        return Err(refuse("an earlier version recorded it, without the job definitions".to_owned()));
    }
    let spec: RunSpecRecord = read_json(&run.spec())?;
    if spec.schema_version > version::RUN_SPEC {
        return Err(refuse(format!(
            "spec.json has version {}, newer than this program",
            spec.schema_version
        )));
    }
    let mut request =
        RunRequest { jobs: spec.jobs, metadata: spec.metadata, options: spec.options, skip: None };
    let hash = match (record.verdict, record.snapshot_hash) {
        (Verdict::Skipped, _) => {
            request.skip = record.message.clone().or_else(|| Some("skipped".to_owned()));
            String::new()
        }
        (_, Some(hash)) => hash,
        (Verdict::Running, None) => return Err(refuse("it goes on, and has no snapshot yet".to_owned())),
        (_, None) => return Err(refuse("it ended before it had a snapshot".to_owned())),
    };
    let repeat =
        Repeat { run_id: run_id.clone(), hash, git_head: record.git_head, git_dirty: record.git_dirty };
    flow::run(engine, &request, Some(&repeat), reporter, cancel)
}
