//! Reads `events.jsonl`, also of a run whose engine was killed in the middle of a line.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use crate::model::event::{JournalEntry, RunLifecycleEvent};
use crate::model::record::{JobRecord, RunRecord};

/// What a journal says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Journal {
    /// The events, in order.
    pub entries: Vec<JournalEntry>,
    /// Lines that are no event, by number from 1, and why. The last line of a killed engine is
    /// one; so are events of kinds that a newer version added.
    pub problems: Vec<(usize, String)>,
}

/// Reads a whole journal. One that is not there is empty.
///
/// # Errors
/// What the file system says; never because of what is in the file.
pub fn read_journal(path: &Path) -> io::Result<Journal> {
    let mut reader = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Journal::default()),
        other => BufReader::with_capacity(64 << 10, other?),
    };
    let mut journal = Journal::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        match serde_json::from_slice(&line) {
            Ok(entry) => journal.entries.push(entry),
            Err(error) => journal.problems.push((number, error.to_string())),
        }
    }
    Ok(journal)
}

/// Brings a record up to what the journal knows: it is stored before anything is told, the
/// record a little later.
pub fn fold(record: &mut RunRecord, journal: Journal) {
    for entry in journal.entries {
        match entry.event {
            RunLifecycleEvent::JobStarted { job, .. } | RunLifecycleEvent::JobFinished { job, .. } => {
                put(&mut record.jobs, *job);
            }
            RunLifecycleEvent::JobRetry { job_id, failed, .. } => {
                let known = record.jobs.iter_mut().find(|job| job.id == job_id);
                // The record itself may be as new as this.
                if let Some(job) = known
                    && job.attempts.iter().all(|attempt| attempt.attempt != failed.attempt)
                {
                    job.attempts.push(*failed);
                }
            }
            RunLifecycleEvent::RunFinished { run } => *record = *run,
            _ => {}
        }
    }
}

fn put(jobs: &mut Vec<JobRecord>, job: JobRecord) {
    match jobs.iter_mut().find(|known| known.id == job.id) {
        Some(known) => *known = job,
        None => jobs.push(job),
    }
}
