//! The end of a log that is over its cap: segments beside it, put together at the end.
//!
//! Segments appear and go in an order that tells after a kill what had happened: a segment goes
//! only when two younger ones are there, or when the tail has been appended. So one that stands
//! alone and does not begin where the head ends is a left-over of a finished log.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::writer::LogSummary;

/// One file of output beyond the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    /// Size of the head, and so the offset at which the first segment starts.
    head: u64,
    /// Offset in all the output of its first byte.
    start: u64,
    pub(super) len: u64,
}

impl Segment {
    pub(super) fn new(log: &Path, head: u64, start: u64) -> Self {
        let mut name = prefix(log);
        name.push(format!("{head}-{start}"));
        Self { path: log.with_file_name(name), head, start, len: 0 }
    }

    fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

/// Completes a log whose writer was killed: appends what is left of the tail. Returns whether
/// there was anything to do. Repeating it is harmless. The log must have no writer.
///
/// # Errors
/// What the file system says; what could not be done is left for the next time.
pub fn recover(log: &Path) -> io::Result<bool> {
    let segments = find(log)?;
    let Some(first) = segments.first() else { return Ok(false) };
    if segments.len() > 1 || first.start == first.head {
        // A hole can only come from outside; what lies behind it is the end of the log.
        let hole = segments.windows(2).rposition(|pair| pair[0].end() != pair[1].start);
        let whole = &segments[hole.map_or(0, |hole| hole + 1)..];
        // All segments but the last are as long as a tail is.
        let keep = whole.iter().map(|segment| segment.len).max().unwrap_or(0);
        let head = OpenOptions::new().read(true).write(true).open(log)?;
        append(&head, first.head, whole, keep)?;
    }
    remove(&segments)?;
    Ok(true)
}

/// Appends marker and tail behind the head. Done again, it writes the same bytes to the same
/// places.
pub(super) fn append(mut log: &File, head: u64, segments: &[Segment], keep: u64) -> io::Result<LogSummary> {
    let end = segments.last().map_or(head, Segment::end);
    let first = segments.first().map_or(head, |first| first.start);
    let from = end.saturating_sub(keep).max(first);
    let left_out = from.saturating_sub(head);
    log.seek(SeekFrom::Start(head))?;
    if left_out > 0 {
        let mut last = [b'\n'];
        if head > 0 {
            log.read_exact_at(&mut last, head - 1)?;
        }
        let newline = if last == *b"\n" { "" } else { "\n" };
        log.write_all(
            format!(
                "{newline}[jerichoci] the log is over its limit: {left_out} bytes are left out here, \
                 the last {} follow\n",
                end.saturating_sub(from)
            )
            .as_bytes(),
        )?;
    }
    for segment in segments {
        let skip = from.saturating_sub(segment.start).min(segment.len);
        let mut file = File::open(&segment.path)?;
        file.seek(SeekFrom::Start(skip))?;
        io::copy(&mut file.take(segment.len - skip), &mut log)?;
    }
    Ok(LogSummary { bytes: log.stream_position()?, left_out })
}

/// Removes segments, the oldest first.
pub(super) fn remove(segments: &[Segment]) -> io::Result<()> {
    for segment in segments {
        match fs::remove_file(&segment.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn prefix(log: &Path) -> std::ffi::OsString {
    let mut name = log.file_name().unwrap_or_default().to_owned();
    name.push(".tail-");
    name
}

fn find(log: &Path) -> io::Result<Vec<Segment>> {
    let prefix = prefix(log);
    let dir = log.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in dir {
        let entry = entry?;
        let name = entry.file_name();
        let numbers = name.to_str().zip(prefix.to_str()).and_then(|(name, prefix)| name.strip_prefix(prefix));
        let Some((head, start)) = numbers.and_then(|numbers| numbers.split_once('-')) else { continue };
        if let (Ok(head), Ok(start)) = (head.parse(), start.parse()) {
            let metadata = entry.metadata()?;
            if metadata.is_file() {
                found.push(Segment { path: entry.path(), head, start, len: metadata.len() });
            }
        }
    }
    found.sort_by_key(|segment| segment.start);
    Ok(found)
}
