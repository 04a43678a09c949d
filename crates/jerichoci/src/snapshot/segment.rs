//! A segment: many contents in one file, each found by its hash.
//!
//! # Format `jericho-segment-v1`
//!
//! The line `jericho-segment-v1\n`; contents one after the other; a table of 48 bytes each
//! (SHA-256, offset, length; numbers of 8 bytes, little endian); 64 bytes at the end: offset of
//! the table, number of its rows, SHA-256 of the table, `jericho-seg-end\n`.
//!
//! A segment is written under a temporary name and never changes after it was renamed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::SnapshotError;
use super::hash::ContentHash;

const HEADER: &[u8] = b"jericho-segment-v1\n";
const END: &[u8; 16] = b"jericho-seg-end\n";
const ROW: usize = 48;
const TRAILER: usize = 64;
/// Written at once.
const BUFFER: usize = 256 * 1024;

/// Where a content lies in a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// A segment under construction.
pub(crate) struct SegmentWriter {
    staged: PathBuf,
    target: PathBuf,
    file: File,
    buffer: Vec<u8>,
    written: u64,
    rows: Vec<(ContentHash, Extent)>,
    published: bool,
}

impl SegmentWriter {
    /// Starts `<directory>/<id>.seg` under a temporary name.
    pub(crate) fn create(directory: &Path, id: &str) -> Result<Self, SnapshotError> {
        let staged = directory.join(format!("tmp-{id}"));
        let file = File::create_new(&staged).map_err(SnapshotError::io("create", &staged))?;
        let mut buffer = Vec::with_capacity(BUFFER);
        buffer.extend_from_slice(HEADER);
        let target = directory.join(format!("{id}.seg"));
        Ok(Self { staged, target, file, buffer, written: 0, rows: Vec::new(), published: false })
    }

    /// Where the next byte goes.
    pub(crate) fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        if bytes.len() >= BUFFER {
            self.write(bytes)
        } else {
            self.buffer.extend_from_slice(bytes);
            Ok(())
        }
    }

    /// Forgets everything from `position` on.
    pub(crate) fn rewind(&mut self, position: u64) -> Result<(), SnapshotError> {
        if position >= self.written {
            self.buffer.truncate(usize::try_from(position - self.written).unwrap_or(usize::MAX));
        } else {
            self.buffer.clear();
            self.file.set_len(position).map_err(SnapshotError::io("truncate", &self.staged))?;
            self.written = position;
        }
        Ok(())
    }

    /// Gives what was appended since `start` its name.
    pub(crate) fn seal(&mut self, start: u64, hash: ContentHash) {
        self.rows.push((hash, Extent { offset: start, len: self.position() - start }));
    }

    fn flush(&mut self) -> Result<(), SnapshotError> {
        let buffer = std::mem::take(&mut self.buffer);
        let flushed = self.write(&buffer);
        self.buffer = buffer;
        self.buffer.clear();
        flushed
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        // At a fixed offset: after a rewind the descriptor's own position would be wrong.
        self.file.write_all_at(bytes, self.written).map_err(SnapshotError::io("write", &self.staged))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Completes the segment and gives it its name. Returns the file and its size, for
    /// [`File::sync_data`]. `None` when nothing was sealed; then there is no file.
    pub(crate) fn publish(mut self) -> Result<Option<(File, u64)>, SnapshotError> {
        if self.rows.is_empty() {
            return Ok(None);
        }
        let table_at = self.position();
        let mut table = Vec::with_capacity(self.rows.len() * ROW + TRAILER);
        for (hash, extent) in &self.rows {
            table.extend_from_slice(&hash.0);
            table.extend_from_slice(&extent.offset.to_le_bytes());
            table.extend_from_slice(&extent.len.to_le_bytes());
        }
        let sum = ContentHash::of(&table);
        table.extend_from_slice(&table_at.to_le_bytes());
        table.extend_from_slice(&(self.rows.len() as u64).to_le_bytes());
        table.extend_from_slice(&sum.0);
        table.extend_from_slice(END);
        self.flush()?;
        self.write(&table)?;
        std::fs::rename(&self.staged, &self.target).map_err(SnapshotError::io("publish", &self.target))?;
        self.published = true;
        let file = self.file.try_clone().map_err(SnapshotError::io("open", &self.target))?;
        Ok(Some((file, self.written)))
    }
}

impl Drop for SegmentWriter {
    fn drop(&mut self) {
        if !self.published {
            // Left behind, it only takes space until the next collection.
            drop(std::fs::remove_file(&self.staged));
        }
    }
}

/// A published segment.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) id: String,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<File>,
    pub(crate) size: u64,
}

impl Segment {
    /// Opens a segment and reads its table; `None` when it is damaged.
    pub(crate) fn open(path: &Path, id: &str) -> Option<(Self, Vec<(ContentHash, Extent)>)> {
        let file = File::open(path).ok()?;
        let size = file.metadata().ok()?.len();
        let trailer_at = size.checked_sub(TRAILER as u64)?;
        let mut trailer = [0u8; TRAILER];
        file.read_exact_at(&mut trailer, trailer_at).ok()?;
        let word = |bytes: &[u8], at: usize| {
            let mut word = [0u8; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let (table_at, rows) = (word(&trailer, 0), word(&trailer, 8));
        let length = rows.checked_mul(ROW as u64)?;
        if trailer[48..] != END[..] || table_at.checked_add(length)? != trailer_at {
            return None;
        }
        let mut table = vec![0u8; usize::try_from(length).ok()?];
        file.read_exact_at(&mut table, table_at).ok()?;
        if ContentHash::of(&table).0 != trailer[16..48] {
            return None;
        }
        let rows = table.chunks_exact(ROW).map(|row| {
            let mut hash = [0u8; 32];
            hash.copy_from_slice(&row[..32]);
            (ContentHash(hash), Extent { offset: word(row, 32), len: word(row, 40) })
        });
        let fits = |extent: &Extent| extent.offset.checked_add(extent.len).is_some_and(|end| end <= table_at);
        let rows: Vec<_> = rows.filter(|(_, extent)| fits(extent)).collect();
        Some((Self { id: id.to_owned(), path: path.to_path_buf(), file: Arc::new(file), size }, rows))
    }
}
