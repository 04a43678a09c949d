//! Appends to a guest's journal, from any number of processes, over any crash.
//!
//! `<events>.seq` holds the number given last and is the lock: whoever appends holds it
//! exclusively. The line is written and synced before the counter, so that a crash between the
//! two leaves no gap; the next writer takes the greater of the counter and the last line.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use jericho_host::lock::{FileLock, LockError};
use serde::Deserialize;

use super::event_read::without_nuls;
use super::{LifecycleEvent, NewEvent};
use crate::atomic::Sync;

/// How much of the journal's end is read first; doubled until a whole line is found.
const TAIL: u64 = 16 * 1024;

/// Why an event was not appended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventLogError {
    /// The journal or its counter could not be read or written.
    #[error("cannot append to {}", path.display())]
    Io {
        /// The journal, or its counter.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The counter could not be locked; on a file system without locks nothing can be appended.
    #[error("cannot append to a journal")]
    Lock(#[from] LockError),
    /// The event has no JSON form (a time outside the years of RFC 3339).
    #[error("cannot encode an event for {}", path.display())]
    Encode {
        /// The journal.
        path: PathBuf,
        /// What could not be encoded.
        source: serde_json::Error,
    },
    /// The last event has the greatest number there is.
    #[error("{} has no sequence number left", path.display())]
    Exhausted {
        /// The journal.
        path: PathBuf,
    },
}

/// A guest's journal, for writing.
#[derive(Debug, Clone)]
pub struct EventLog {
    path: PathBuf,
    counter: PathBuf,
    sync: Sync,
}

impl EventLog {
    /// The journal at this path; nothing is made until something is appended.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let mut counter = OsString::from(&path);
        counter.push(".seq");
        Self { path, counter: counter.into(), sync: Sync::Now }
    }

    /// The same with its counter elsewhere than at `<events>.seq`: whoever appends must name the same one.
    #[must_use]
    pub fn with_counter(mut self, path: impl Into<PathBuf>) -> Self {
        self.counter = path.into();
        self
    }

    /// The same, not waiting for the disk: a loss of power may take events back, the end of a process
    /// does not.
    #[must_use]
    pub fn unsynced(mut self) -> Self {
        self.sync = Sync::Later;
        self
    }

    /// Appends one line and returns it with the number it got; once this returns it is on disk, unless
    /// the journal is [`unsynced`](Self::unsynced).
    ///
    /// Waits while another process appends. A last line that a crash tore is ended first, so that
    /// it spoils no other; bytes already in the file never change. Missing parent directories
    /// are made.
    ///
    /// # Errors
    ///
    /// See [`EventLogError`]. After an error of the system a part of the line may be in the file:
    /// readers skip it.
    pub fn append(&self, event: NewEvent) -> Result<LifecycleEvent, EventLogError> {
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent).map_err(|source| io_error(&self.path, source))?;
        }
        let lock = FileLock::exclusive_blocking(&self.counter)?;
        let journal = self.open_journal().map_err(|source| io_error(&self.path, source))?;
        self.append_locked(event, lock.file(), journal)
    }

    fn append_locked(
        &self,
        event: NewEvent,
        mut counter: &File,
        mut journal: File,
    ) -> Result<LifecycleEvent, EventLogError> {
        let counted = read_counter(&mut counter).map_err(|source| io_error(&self.counter, source))?;
        let end = read_end(&journal).map_err(|source| io_error(&self.path, source))?;
        let seq = next_seq(counted, end.last_seq)
            .ok_or_else(|| EventLogError::Exhausted { path: self.path.clone() })?;
        let event = event.at(seq);

        let mut line = if end.is_torn { b"\n".to_vec() } else { Vec::new() };
        serde_json::to_writer(&mut line, &event)
            .map_err(|source| EventLogError::Encode { path: self.path.clone(), source })?;
        line.push(b'\n');
        journal
            .write_all(&line)
            .and_then(|()| if self.sync == Sync::Now { journal.sync_data() } else { Ok(()) })
            .map_err(|source| io_error(&self.path, source))?;

        // The event is stored. A counter that could not be written is repaired by the next writer.
        let _ = write_counter(counter, seq);
        Ok(event)
    }

    fn open_journal(&self) -> io::Result<File> {
        OpenOptions::new().read(true).append(true).create(true).open(&self.path)
    }
}

fn io_error(path: &Path, source: io::Error) -> EventLogError {
    EventLogError::Io { path: path.to_owned(), source }
}

/// One more than the greater of both; a counter that leaves no number is garbled, so then one
/// more than the last line.
fn next_seq(counted: u64, last: u64) -> Option<u64> {
    counted.max(last).checked_add(1).or_else(|| last.checked_add(1))
}

/// The number given last; 0 when the file is new, lost or garbled.
fn read_counter(counter: &mut &File) -> io::Result<u64> {
    let mut text = Vec::new();
    counter.take(32).read_to_end(&mut text)?;
    Ok(std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0))
}

/// In place, since the file is the lock; a crash in between leaves what the next writer repairs.
fn write_counter(counter: &File, seq: u64) -> io::Result<()> {
    let text = format!("{seq}\n");
    counter.write_all_at(text.as_bytes(), 0)?;
    counter.set_len(text.len() as u64)
}

/// What the end of the journal tells.
struct End {
    /// Number of the last line that can be read; 0 when there is none.
    last_seq: u64,
    /// Whether the last line lacks its newline.
    is_torn: bool,
}

fn read_end(journal: &File) -> io::Result<End> {
    let length = journal.metadata()?.len();
    let mut window = TAIL;
    loop {
        let start = length.saturating_sub(window);
        let mut bytes = vec![0; usize::try_from(length - start).map_err(io::Error::other)?];
        journal.read_exact_at(&mut bytes, start)?;
        let is_torn = bytes.last().is_some_and(|last| *last != b'\n');
        // The first piece of a window that starts inside the file may be the end of a longer line.
        let pieces: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').skip(usize::from(start > 0)).collect();
        let last = pieces.into_iter().rev().find_map(seq_of);
        if last.is_some() || start == 0 {
            return Ok(End { last_seq: last.unwrap_or(0), is_torn });
        }
        window = window.saturating_mul(2);
    }
}

/// The number of a line, also of one whose other fields this build cannot read.
fn seq_of(line: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Numbered {
        seq: u64,
    }
    // As the reader does, so that both see the same lines.
    serde_json::from_slice::<Numbered>(without_nuls(line.trim_ascii())).ok().map(|numbered| numbered.seq)
}
