//! What is known of a run whose engine died: its last record, brought up to date from the journal.

use super::journal::{self, Journal};
use super::layout::RunLayout;
use super::store::{RunSpecRecord, read_json};
use crate::model::outcome::{FailureKind, Verdict};
use crate::model::record::{JobRecord, RunRecord};

/// What people read about an interrupted job or run.
pub(crate) const INTERRUPTED: &str = "interrupted: the engine that worked on it died";

/// The terminal record of a run that nobody works on any more. Writes nothing.
pub(crate) fn interrupted(run: &RunLayout, mut record: RunRecord, journal: Journal) -> RunRecord {
    // Nobody knows when it died; the last thing it did is an answer that never lies in the future.
    let end = journal.entries.last().map_or(record.created_at, |entry| entry.time);
    journal::fold(&mut record, journal);
    if record.verdict != Verdict::Running {
        return record;
    }
    for job in &mut record.jobs {
        if job.verdict == Verdict::Running {
            job.verdict = Verdict::Failed(FailureKind::Interrupted);
            job.finished_at = Some(end);
            job.message = Some(INTERRUPTED.to_owned());
        }
    }
    // Jobs that never started are in no record yet.
    if let Ok(spec) = read_json::<RunSpecRecord>(&run.spec()) {
        for job in &spec.jobs {
            if !record.jobs.iter().any(|known| known.id == job.id) {
                let files = run.job(&job.id);
                let mut skipped = JobRecord::of_spec(job, &files.host_log(), &files.guest_log(), end);
                skipped.verdict = Verdict::Skipped;
                skipped.finished_at = Some(end);
                skipped.message = Some("not run: the engine that worked on the run died".to_owned());
                record.jobs.push(skipped);
            }
        }
        let position = |id: &str| spec.jobs.iter().position(|job| job.id == id);
        record.jobs.sort_by_key(|job| position(&job.id));
    }
    record.verdict = Verdict::Failed(FailureKind::Interrupted);
    record.finished_at = Some(end);
    record.message = Some(INTERRUPTED.to_owned());
    record
}
