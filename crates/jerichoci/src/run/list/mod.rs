//! Lists runs: many records, and little of each.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use chrono::{DateTime, Utc};
use jericho_host::sys::processors;
use rustix::fs::{Mode, OFlags, openat};

use super::layout::Layout;
use super::owner;
use crate::engine::EngineError;
use crate::model::id::RunId;
use crate::model::outcome::{FailureKind, Verdict};

mod head;

/// Runs that one thread takes at a time; fewer than two of these are not worth a thread.
const BATCH: usize = 128;

/// What a list shows of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSummary {
    /// The run: the name of its directory.
    pub run_id: String,
    /// How it ended, or that it goes on.
    pub verdict: Verdict,
    /// Its target.
    pub target_id: Option<String>,
    /// Its first job, when it has no target.
    pub first_job_id: Option<String>,
    /// Its start.
    pub created_at: DateTime<Utc>,
}

/// All runs of a state root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunList {
    /// Newest first.
    pub runs: Vec<RunSummary>,
    /// What lies among them and cannot be read as one, with the reason; by name.
    pub problems: Vec<(String, String)>,
}

/// Lists the runs of a state root, newest first. A run that cannot be read is a problem in the
/// list; a state root that is not there has no runs.
///
/// # Errors
/// [`EngineError::File`] when the directory of runs cannot be read.
pub fn list_runs(state_root: &Path) -> Result<RunList, EngineError> {
    let layout = Layout::new(state_root);
    let dir = layout.runs();
    let failed = |source| EngineError::File { action: "read", path: dir.clone(), source };
    let mut list = RunList::default();
    let names = match names(&dir, &mut list) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(list),
        other => other.map_err(failed)?,
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let runs = openat(rustix::fs::CWD, &dir, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;

    let next = AtomicUsize::new(0);
    let threads = processors().min(8);
    let threads = threads.min(names.len() / BATCH).max(1);
    let work = || {
        let mut reader = Reader { layout: &layout, runs: &runs, buffer: Vec::with_capacity(64 << 10) };
        let mut part = RunList::default();
        loop {
            let start = next.fetch_add(BATCH, Ordering::Relaxed);
            let Some(batch) = names.get(start..names.len().min(start + BATCH)) else { break };
            for name in batch {
                reader.summarise(name, &mut part);
            }
            if batch.len() < BATCH {
                break;
            }
        }
        part
    };
    let parts = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut parts = vec![work()];
        // Nothing in there panics; if it did, the others would have taken over what was left.
        parts.extend(others.into_iter().filter_map(|other| other.join().ok()));
        parts
    });
    for part in parts {
        list.runs.extend(part.runs);
        list.problems.extend(part.problems);
    }
    list.runs.sort_unstable_by(|a, b| (b.created_at, &b.run_id).cmp(&(a.created_at, &a.run_id)));
    list.problems.sort_unstable();
    Ok(list)
}

/// Names of run directories. Files and hidden names are none; other directories are problems.
fn names(dir: &Path, list: &mut RunList) -> io::Result<Vec<RunId>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') || !entry.file_type()?.is_dir() {
            continue;
        }
        match name.parse() {
            Ok(id) => names.push(id),
            Err(error) => list.problems.push((name.into_owned(), format!("{error}"))),
        }
    }
    Ok(names)
}

struct Reader<'a> {
    layout: &'a Layout,
    runs: &'a OwnedFd,
    buffer: Vec<u8>,
}

impl Reader<'_> {
    fn summarise(&mut self, id: &RunId, list: &mut RunList) {
        match self.read(id) {
            Ok(Some(summary)) => list.runs.push(summary),
            Ok(None) => {}
            Err(problem) => list.problems.push((id.to_string(), problem)),
        }
    }

    /// Nothing for a run that is just being made.
    fn read(&mut self, id: &RunId) -> Result<Option<RunSummary>, String> {
        let summary = match self.read_record(id) {
            Ok(summary) => summary,
            Err(Unread::Missing) if owner::is_alive(&self.layout.run(id)) => return Ok(None),
            Err(Unread::Missing) => return Err("the run has no record".to_owned()),
            Err(Unread::Other(problem)) => return Err(problem),
        };
        if summary.verdict != Verdict::Running || owner::is_alive(&self.layout.run(id)) {
            return Ok(Some(summary));
        }
        // It may have ended between the two looks; the last record comes before the lock goes.
        match self.read_record(id) {
            Ok(summary) if summary.verdict == Verdict::Running => {
                Ok(Some(RunSummary { verdict: Verdict::Failed(FailureKind::Interrupted), ..summary }))
            }
            Ok(summary) => Ok(Some(summary)),
            // Removed in the meantime.
            Err(Unread::Missing) => Ok(None),
            Err(Unread::Other(problem)) => Err(problem),
        }
    }

    fn read_record(&mut self, id: &RunId) -> Result<RunSummary, Unread> {
        let mut path = String::with_capacity(40);
        path.push_str(id.as_str());
        path.push_str("/run.json");
        let file = openat(self.runs.as_fd(), path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        self.buffer.clear();
        loop {
            let room = self.buffer.capacity() - self.buffer.len();
            let count = rustix::io::read(&file, rustix::buffer::spare_capacity(&mut self.buffer))?;
            // Records are replaced, never written to, so one that gave less than was asked for
            // has no more.
            if count < room {
                break;
            }
            self.buffer.reserve(64 << 10);
        }
        let head = head::read(&self.buffer).map_err(|error| Unread::Other(error.to_string()))?;
        Ok(RunSummary {
            run_id: id.to_string(),
            verdict: head.verdict,
            target_id: head.target_id,
            first_job_id: head.first_job_id,
            created_at: head.created_at,
        })
    }
}

enum Unread {
    Missing,
    Other(String),
}

impl From<rustix::io::Errno> for Unread {
    fn from(errno: rustix::io::Errno) -> Self {
        match errno {
            rustix::io::Errno::NOENT => Self::Missing,
            other => Self::Other(format!("cannot read run.json: {}", io::Error::from(other))),
        }
    }
}
