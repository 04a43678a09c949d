//! Repeats a run: the recorded job definitions on the recorded snapshot, byte for byte; or only
//! what of it is outstanding; or today's tree and definitions in their place.

use std::collections::HashSet;

use super::flow::{self, Repeat};
use super::layout::Layout;
use super::outputs::Mode;
use super::outputs::mode::Transport;
use super::outstanding::{closure_of_needs, needs_outside, outstanding};
use super::read::load_run_record;
use super::report::Reporter;
use super::request::{RerunRequest, RunRequest};
use super::store::{RunSpecRecord, read_json};
use crate::causes::with_causes;
use crate::config::OutputsConfig;
use crate::engine::{Engine, EngineError};
use crate::model::id::RunId;
use crate::model::job::{JobPlacement, JobSpec};
use crate::model::outcome::Verdict;
use crate::model::record::RunRecord;
use crate::model::version;
use jericho_host::CancelToken;

/// The setting that says which host the build host was.
const BUILD_HOST: &str = "build_host";

pub(crate) fn rerun(
    engine: &Engine,
    asked: &RerunRequest,
    reporter: &mut dyn Reporter,
    cancel: &CancelToken,
) -> Result<RunRecord, EngineError> {
    let run_id = &asked.run_id;
    let record = load_run_record(&engine.config.state_root, run_id)?;
    let refuse = |why: &str| EngineError::NotRepeatable { run_id: run_id.to_string(), why: why.to_owned() };
    let spec = load_run_spec(engine, run_id)?;
    let mut request =
        RunRequest { jobs: spec.jobs, metadata: spec.metadata, options: spec.options, skip: None };
    request.options.keep_on_failure |= asked.keep_on_failure;
    let source = match &asked.current {
        Some(jobs) => {
            // Files changed since then, and the filters' word on them was about another tree.
            request.metadata.changed_files.clear();
            request.metadata.base = None;
            request.metadata.message = None;
            request.jobs = closure_of_needs(jobs, &request.options.only)?;
            request.options.satisfied.clear();
            None
        }
        None => Some(match (record.verdict, record.snapshot_hash.clone()) {
            (Verdict::Skipped, hash) => {
                request.skip = record.message.clone().or_else(|| Some("skipped".to_owned()));
                hash.unwrap_or_default()
            }
            (_, Some(hash)) => hash,
            (Verdict::Running, None) => return Err(refuse("it goes on, and has no snapshot yet")),
            (_, None) => return Err(refuse("it ended before it had a snapshot")),
        }),
    };
    if asked.failed_only {
        if record.verdict == Verdict::Running {
            return Err(refuse("it goes on, so nobody knows yet what will be outstanding"));
        }
        let passed = record.jobs.iter().filter(|job| job.verdict == Verdict::Passed);
        let mut passed: HashSet<&str> = passed.map(|job| job.id.as_str()).collect();
        passed.extend(request.options.satisfied.iter().map(String::as_str));
        let left = outstanding(&request.jobs, &passed);
        if left.is_empty() && request.skip.is_none() {
            request.skip = Some(format!("nothing of {run_id} is outstanding: every job passed"));
        }
        // A need that is no job at all stays one that the plan refuses.
        let mut satisfied = needs_outside(&left);
        satisfied.retain(|need| passed.contains(need.as_str()));
        request.jobs = left;
        request.options.satisfied = satisfied;
    }
    // Today's definitions come with today's settings.
    let outputs = match asked.current {
        Some(_) => Ok(None),
        None => {
            follow_build_host(&mut request.jobs, &record, &engine.config.outputs);
            Mode::from_record(&record).map_err(|error| with_causes(&error))
        }
    };
    let repeat = Repeat {
        run_id: run_id.clone(),
        outputs,
        source,
        git_head: record.git_head,
        git_dirty: record.git_dirty,
        message: match (asked.failed_only, asked.current.is_some()) {
            (false, false) => format!("rerun of {run_id}"),
            (true, false) => format!("rerun of what was outstanding in {run_id}"),
            (false, true) => format!("rerun of {run_id} with the current tree"),
            (true, true) => format!("rerun of what was outstanding in {run_id}, with the current tree"),
        },
    };
    flow::run(engine, &request, Some(&repeat), reporter, cancel)
}

/// Staged jobs of the build host go to the one of today: it may have moved since.
fn follow_build_host(jobs: &mut [JobSpec], record: &RunRecord, today: &OutputsConfig) {
    let setting = record.settings.iter().find(|setting| setting.name == BUILD_HOST);
    let then = setting.map(|setting| &setting.value);
    let then = then.or(record.prepared_output_launcher_transport_host.as_ref());
    let (Some(then), Transport::Ssh { host: Some(now), .. }) = (then, &today.ssh) else { return };
    for job in jobs.iter_mut().filter(|job| job.staged.is_some()) {
        if let JobPlacement::RemoteSsh { host } = &mut job.placement
            && host == then
        {
            host.clone_from(now);
        }
    }
}

/// What a run was asked to do.
pub(crate) fn load_run_spec(engine: &Engine, run_id: &RunId) -> Result<RunSpecRecord, EngineError> {
    let run = Layout::new(&engine.config.state_root).run(run_id);
    if !run.dir().is_dir() {
        return Err(engine.run_not_found(run_id));
    }
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
    Ok(spec)
}
