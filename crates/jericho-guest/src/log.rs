//! The log of a command: masked, and never larger than its cap.
//!
//! The head is written as it comes. Beyond it output goes into segments beside the log, at most two, named
//! `<log>.tail-<bytes of the head>-<offset of their first byte>`; at the end a marker and the last of them
//! are appended. So bytes that were written never change, and after a kill the segments are still there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jericho_host::OutputSink;
use jericho_host::secrets::{MaskStream, Masker};

use crate::tee::Tee;

/// How much of the end of a log is kept when it is over its cap.
const TAIL_BYTES: u64 = 64 << 20;

/// What became of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LogSummary {
    /// Size of the file.
    pub(crate) bytes: u64,
    /// Bytes that were left out of its middle.
    pub(crate) left_out: u64,
}

/// The sink of a command's output.
pub(crate) struct JobLog {
    mask: Option<MaskStream>,
    log: CappedLog,
    tee: Option<Tee>,
}

impl JobLog {
    /// Starts a log in place of an earlier one.
    pub(crate) fn create(path: &Path, cap: u64, masker: Option<Arc<Masker>>, tee: bool) -> io::Result<Self> {
        let log = CappedLog::create(path, cap)?;
        let tee = if tee { Some(Tee::start(File::open(path)?)?) } else { None };
        Ok(Self { mask: masker.map(MaskStream::new), log, tee })
    }

    /// Ends the log. What was held back and the tail are written. The tee, when there is one, has not
    /// ended yet.
    pub(crate) fn finish(mut self) -> (io::Result<LogSummary>, Option<Tee>) {
        let mut held = Ok(());
        if let Some(mask) = &mut self.mask {
            let log = &mut self.log;
            held = mask.finish(&mut |bytes| log.write(bytes));
        }
        let finished = self.log.finish();
        (held.and(finished), self.tee)
    }
}

impl OutputSink for JobLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let log = &mut self.log;
        match &mut self.mask {
            Some(mask) => mask.push(bytes, &mut |bytes| log.write(bytes))?,
            None => log.write(bytes)?,
        }
        if let Some(tee) = &self.tee {
            tee.wake();
        }
        Ok(())
    }
}

struct Segment {
    path: PathBuf,
    file: File,
    len: u64,
}

struct CappedLog {
    path: PathBuf,
    head: File,
    head_limit: u64,
    tail_limit: u64,
    taken: u64,
    last: u8,
    segments: Vec<Segment>,
}

impl CappedLog {
    /// Keeps at most `cap` bytes: the last 64 MiB, or half of the cap when that is less, and the head as
    /// far as there is room.
    fn create(path: &Path, cap: u64) -> io::Result<Self> {
        remove_old(path)?;
        let cap = cap.max(2);
        let tail_limit = TAIL_BYTES.min(cap / 2);
        let head = OpenOptions::new().write(true).create_new(true).open(path)?;
        let head_limit = cap - tail_limit;
        Ok(Self {
            path: path.to_path_buf(),
            head,
            head_limit,
            tail_limit,
            taken: 0,
            last: b'\n',
            segments: Vec::new(),
        })
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = match self.head_limit.saturating_sub(self.taken) {
                0 => {
                    let limit = self.tail_limit;
                    let segment = self.segment()?;
                    let count = write_some(&segment.file, bytes, limit - segment.len)?;
                    segment.len += count as u64;
                    count
                }
                room => {
                    let count = write_some(&self.head, bytes, room)?;
                    self.last = bytes[count - 1];
                    count
                }
            };
            self.taken += count as u64;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// The segment that is written to, a new one when the last one is full.
    fn segment(&mut self) -> io::Result<&mut Segment> {
        if self.segments.last().is_none_or(|segment| segment.len >= self.tail_limit) {
            let mut name = tail_prefix(&self.path);
            name.push(format!("{}-{}", self.head_limit, self.taken));
            let path = self.path.with_file_name(name);
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
            self.segments.push(Segment { path, file, len: 0 });
            // Only now, so that a kill never leaves less than a whole tail.
            if self.segments.len() > 2 {
                fs::remove_file(&self.segments.remove(0).path)?;
            }
        }
        self.segments.last_mut().ok_or_else(|| io::Error::other("a log has lost its tail"))
    }

    fn finish(mut self) -> io::Result<LogSummary> {
        if self.segments.is_empty() {
            self.head.sync_data()?;
            return Ok(LogSummary { bytes: self.taken, left_out: 0 });
        }
        let kept: u64 = self.segments.iter().map(|segment| segment.len).sum();
        let mut skip = kept.saturating_sub(self.tail_limit);
        let left_out = self.taken - self.head_limit - (kept - skip);
        if left_out > 0 {
            let newline = if self.last == b'\n' { "" } else { "\n" };
            let marker = format!(
                "{newline}[jerichoci] the log is over its limit: {left_out} bytes are left out here, \
                 the last {} follow\n",
                kept - skip
            );
            self.head.write_all(marker.as_bytes())?;
        }
        for segment in &mut self.segments {
            let now = skip.min(segment.len);
            skip -= now;
            segment.file.seek(SeekFrom::Start(now))?;
            io::copy(&mut (&segment.file).take(segment.len - now), &mut self.head)?;
        }
        self.head.sync_data()?;
        for segment in &self.segments {
            fs::remove_file(&segment.path)?;
        }
        Ok(LogSummary { bytes: self.head.stream_position()?, left_out })
    }
}

/// At most `room` bytes, at least one.
fn write_some(mut file: &File, bytes: &[u8], room: u64) -> io::Result<usize> {
    let most = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
    loop {
        match file.write(&bytes[..most]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn tail_prefix(log: &Path) -> std::ffi::OsString {
    let mut name = log.file_name().unwrap_or_default().to_owned();
    name.push(".tail-");
    name
}

/// Removes the log of an earlier request, and its segments.
fn remove_old(path: &Path) -> io::Result<()> {
    let prefix = tail_prefix(path);
    let prefix = prefix.to_string_lossy();
    let mut old = vec![path.to_path_buf()];
    for entry in fs::read_dir(path.parent().unwrap_or(Path::new("/")))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&*prefix) {
            old.push(entry.path());
        }
    }
    for path in old {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(cap: u64, chunks: &[&[u8]]) -> (LogSummary, Vec<u8>, usize) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("guest.log");
        fs::write(&path, "old").unwrap();
        fs::write(dir.path().join("guest.log.tail-1-2"), "old").unwrap();
        let mut log = CappedLog::create(&path, cap).unwrap();
        let mut before = Vec::new();
        for chunk in chunks {
            log.write(chunk).unwrap();
            let now = fs::read(&path).unwrap();
            assert!(now.starts_with(&before), "what was written never changes");
            before = now;
        }
        let summary = log.finish().unwrap();
        let now = fs::read(&path).unwrap();
        assert!(now.starts_with(&before));
        assert_eq!(summary.bytes, now.len() as u64);
        (summary, now, fs::read_dir(dir.path()).unwrap().count())
    }

    #[test]
    fn a_log_within_its_cap_is_as_it_was_written() {
        for chunks in [&[&b"0123456789"[..]][..], &[b"01234", b"", b"56789"], &[b"0", b"12345678", b"9"]] {
            let (summary, text, files) = written(10, chunks);
            assert_eq!((summary.left_out, text.as_slice(), files), (0, b"0123456789".as_slice(), 1));
        }
    }

    #[test]
    fn beyond_its_cap_head_and_end_are_kept_with_a_marker_between() {
        let text: Vec<u8> = (b'a'..=b'z').collect();
        for size in 1..=text.len() {
            let chunks: Vec<&[u8]> = text.chunks(size).collect();
            let (summary, log, files) = written(10, &chunks);
            assert_eq!((summary.left_out, files), (16, 1), "chunks of {size}");
            let marker = "abcde\n[jerichoci] the log is over its limit: 16 bytes are left out here, the last 5 follow\nvwxyz";
            assert_eq!(String::from_utf8(log).unwrap(), marker);
        }
    }
}
