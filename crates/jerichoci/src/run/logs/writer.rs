//! Writes one log while its job runs.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jericho_host::OutputSink;

use super::tail::{self, Segment};

/// How much of the end of a log is kept when it is over its cap.
const TAIL_BYTES: u64 = 64 << 20;

/// Writes one log. Nothing is buffered: what [`OutputSink::write`] took can be read by others.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    head: File,
    head_limit: u64,
    tail_limit: u64,
    /// Bytes taken so far.
    taken: u64,
    /// At most two, the last one is written to.
    segments: Vec<OpenSegment>,
    last: Option<u8>,
    size: Arc<AtomicU64>,
}

#[derive(Debug)]
struct OpenSegment {
    file: File,
    segment: Segment,
}

/// What became of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSummary {
    /// Size of the file.
    pub bytes: u64,
    /// Bytes that were left out of its middle.
    pub left_out: u64,
}

impl LogWriter {
    /// Starts a log that keeps at most `cap` bytes of what it is given: the last 64 MiB (or half
    /// of the cap, when that is less), and the head as far as there is room.
    ///
    /// # Errors
    /// What open(2) says; in particular when the file exists.
    pub fn create(path: &Path, cap: u64) -> io::Result<Self> {
        let cap = cap.max(2);
        let tail_limit = TAIL_BYTES.min(cap / 2);
        Ok(Self {
            path: path.to_path_buf(),
            head: OpenOptions::new().read(true).write(true).create_new(true).open(path)?,
            head_limit: cap - tail_limit,
            tail_limit,
            taken: 0,
            segments: Vec::new(),
            last: None,
            size: Arc::default(),
        })
    }

    /// Size of the file, kept up to date while the log is written: for progress, without a lock.
    #[must_use]
    pub fn size(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.size)
    }

    /// Writes a text of the engine, each of its lines as `[jerichoci] …`, on lines of their own.
    ///
    /// # Errors
    /// As [`OutputSink::write`].
    pub fn engine_line(&mut self, text: &str) -> io::Result<()> {
        let lines = engine_lines(text, self.ends_inside_a_line());
        self.write(&lines)
    }

    /// Ends the log: appends marker and tail when it was over its cap.
    ///
    /// # Errors
    /// What the file system says. Everything is kept, and [`tail::recover`] can try again.
    pub fn finish(self) -> io::Result<LogSummary> {
        if self.segments.is_empty() {
            return Ok(LogSummary { bytes: self.taken, left_out: 0 });
        }
        let segments: Vec<Segment> = self.segments.into_iter().map(|open| open.segment).collect();
        let summary = tail::append(&self.head, self.head_limit, &segments, self.tail_limit)?;
        self.size.store(summary.bytes, Ordering::Relaxed);
        tail::remove(&segments)?;
        Ok(summary)
    }

    fn ends_inside_a_line(&self) -> bool {
        self.last.is_some_and(|byte| byte != b'\n')
    }

    fn head_room(&self) -> u64 {
        self.head_limit.saturating_sub(self.taken)
    }

    /// The segment that is written to, a new one when the last one is full.
    fn segment(&mut self) -> io::Result<&mut OpenSegment> {
        if self.segments.last().is_none_or(|open| open.segment.len >= self.tail_limit) {
            let segment = Segment::new(&self.path, self.head_limit, self.taken);
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(&segment.path)?;
            self.segments.push(OpenSegment { file, segment });
            // Only now, so that a kill never leaves less than a whole tail.
            if self.segments.len() > 2 {
                tail::remove(&[self.segments.remove(0).segment])?;
            }
        }
        match self.segments.last_mut() {
            Some(open) => Ok(open),
            None => Err(io::Error::other("a log has lost its tail")),
        }
    }

    fn account(&mut self, bytes: u64) {
        match self.segments.last_mut() {
            Some(open) => open.segment.len += bytes,
            None => {
                self.size.fetch_add(bytes, Ordering::Relaxed);
            }
        }
        self.taken += bytes;
    }
}

impl OutputSink for LogWriter {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while let Some(last) = bytes.last().copied() {
            let room = match self.head_room() {
                0 => {
                    let limit = self.tail_limit;
                    limit - self.segment()?.segment.len
                }
                room => room,
            };
            let now = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            let mut file = self.segments.last().map_or(&self.head, |open| &open.file);
            let count = match file.write(&bytes[..now]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.last = Some(if count == bytes.len() { last } else { bytes[count - 1] });
            self.account(count as u64);
            bytes = &bytes[count..];
        }
        Ok(())
    }
}

/// Adds a text of the engine to a log that nobody writes any more.
///
/// # Errors
/// What the file system says; a log that is not there is made.
pub fn append_engine_line(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let len = file.seek(SeekFrom::End(0))?;
    let mut last = [b'\n'];
    if len > 0 {
        file.read_exact_at(&mut last, len - 1)?;
    }
    file.write_all(&engine_lines(text, last != *b"\n"))
}

fn engine_lines(text: &str, inside_a_line: bool) -> Vec<u8> {
    let mut lines = Vec::with_capacity(text.len() + 16);
    if inside_a_line {
        lines.push(b'\n');
    }
    for line in text.lines() {
        lines.extend_from_slice(b"[jerichoci] ");
        lines.extend_from_slice(line.as_bytes());
        lines.push(b'\n');
    }
    lines
}
