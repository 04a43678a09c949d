//! What is known of a run whose engine died: its last record, brought up to date from the journal.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::layout::RunLayout;
use super::store::{RunSpecRecord, read_json};
use crate::model::event::{JournalEntry, RunLifecycleEvent};
use crate::model::outcome::{FailureKind, Verdict};
use crate::model::record::{JobRecord, RunRecord};

/// What people read about an interrupted job or run.
pub(crate) const INTERRUPTED: &str = "interrupted: the engine that worked on it died";

/// The journal as far as it can be read. A torn last line is what a killed writer leaves.
pub(crate) struct JournalTail {
    /// Highest sequence number.
    pub(crate) last_seq: u64,
    /// Time of the last entry.
    pub(crate) last_time: Option<DateTime<Utc>>,
    /// Newest record of each job.
    jobs: BTreeMap<String, JobRecord>,
    /// The terminal record, when it came that far.
    finished: Option<RunRecord>,
}

/// Reads the journal of a run.
pub(crate) fn read_journal(run: &RunLayout) -> JournalTail {
    let mut tail = JournalTail { last_seq: 0, last_time: None, jobs: BTreeMap::new(), finished: None };
    let text = std::fs::read(run.events()).unwrap_or_default();
    for line in text.split(|byte| *byte == b'\n') {
        let Ok(entry) = serde_json::from_slice::<JournalEntry>(line) else { continue };
        tail.last_seq = tail.last_seq.max(entry.seq);
        tail.last_time = Some(entry.time);
        match entry.event {
            RunLifecycleEvent::JobStarted { job, .. } | RunLifecycleEvent::JobFinished { job, .. } => {
                tail.jobs.insert(job.id.clone(), *job);
            }
            RunLifecycleEvent::RunFinished { run } => tail.finished = Some(*run),
            _ => {}
        }
    }
    tail
}

/// The terminal record of a run that nobody works on any more. Writes nothing.
pub(crate) fn interrupted(run: &RunLayout, record: &RunRecord, journal: &JournalTail) -> RunRecord {
    if let Some(finished) = &journal.finished
        && finished.run_id == record.run_id
    {
        return finished.clone();
    }
    let mut record = record.clone();
    // Nobody knows when it died; the last thing it did is the best answer that never lies in the future.
    let end = journal.last_time.unwrap_or(record.created_at);
    for (id, newer) in &journal.jobs {
        match record.jobs.iter_mut().find(|job| job.id == *id) {
            Some(job) => *job = newer.clone(),
            None => record.jobs.push(newer.clone()),
        }
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
