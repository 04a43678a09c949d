//! Words for people, and the machine-readable outputs of a run.
//!
//! A [`View`] is told every event and, at the end, the record. Standard output carries what
//! other programs read; everything else goes to standard error. No escape codes are written,
//! and none that came in with a name, a message or a log gets through.

mod human;
mod json;
mod jsonl;
pub(crate) mod printable;
pub(crate) mod status;
mod tail;
pub(crate) mod words;

use std::io::{self, Write};

use jerichoci::model::record::RunRecord;
use jerichoci::run::report::Reporter;

pub(crate) use human::Human;
pub(crate) use json::Json;
pub(crate) use jsonl::Jsonl;

/// Somewhere to write to, also from another thread.
pub(crate) type Sink = Box<dyn Write + Send>;

/// How one run is shown.
pub(crate) trait View: Reporter {
    /// The run has ended. `told` is false when standard output failed before: then only
    /// standard error is used.
    ///
    /// # Errors
    /// Standard output took no more.
    fn finish(&mut self, record: &RunRecord, told: bool) -> io::Result<()>;
}

/// What every output mode says on standard error when a run has ended: its message, and the
/// warnings of the run and its jobs but those in `known`.
pub(crate) fn say_warnings(err: &mut dyn Write, record: &RunRecord, known: &dyn Fn(&str) -> bool) {
    use crate::output::note_to;
    let of_jobs = record
        .jobs
        .iter()
        .flat_map(|job| job.warnings.iter().map(move |warning| (Some(job.id.as_str()), warning)));
    for (job, warning) in record.warnings.iter().map(|warning| (None, warning)).chain(of_jobs) {
        if known(warning) {
            continue;
        }
        match job {
            Some(job) => note_to(err, format_args!("warning: {job}: {warning}")),
            None => note_to(err, format_args!("warning: {warning}")),
        }
    }
}

#[cfg(test)]
pub(crate) mod sample {
    //! Records to render in tests.

    use jerichoci::model::outcome::Verdict;
    use jerichoci::model::record::{JobRecord, RunRecord};
    use serde_json::json;

    pub(crate) const RUN: &str = "20260401T120000Z-0a1b2c3d";

    pub(crate) fn run(verdict: Verdict) -> RunRecord {
        let mut record: RunRecord = serde_json::from_value(json!({
            "run_id": RUN, "status": "running", "rerun_of": null, "target_id": "check", "target_description": null,
            "source_root": "/src", "snapshot_dir": "", "git_head": null, "git_dirty": null,
            "created_at": "2026-04-01T12:00:00+00:00", "finished_at": null, "message": null, "jobs": [],
            "duration_ms": 4200
        }))
        .expect("a run record");
        record.verdict = verdict;
        record
    }

    pub(crate) fn job(id: &str, verdict: Verdict) -> JobRecord {
        let mut record: JobRecord = serde_json::from_value(json!({
            "id": id, "description": id, "status": "running", "executor": "host_local", "placement": "local",
            "runtime": "host_process", "plan_node_id": null, "timeout_secs": 60, "host_log_path": "",
            "guest_log_path": "", "started_at": "2026-04-01T12:00:00+00:00", "finished_at": null,
            "exit_code": null, "message": null, "pre_execution_prepare_duration_ms": null,
            "remote_linux_vm_execution": null, "duration_ms": 1234
        }))
        .expect("a job record");
        record.verdict = verdict;
        record
    }
}
