//! Which contents the store has and where: the tables of all segments in memory.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::{SnapshotError, shown};
use super::hash::ContentHash;
use super::segment::{Extent, Segment};

/// Read at once.
const PIECE: usize = 256 * 1024;

/// A SHA-256 is its own hash.
#[derive(Default)]
pub(crate) struct Prefix(u64);

impl Hasher for Prefix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut word = [0u8; 8];
        for (to, from) in word.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.0 = u64::from_le_bytes(word);
    }

    fn write_usize(&mut self, _length: usize) {}
}

pub(crate) type ByHash<V> = HashMap<ContentHash, V, BuildHasherDefault<Prefix>>;
pub(crate) type HashSetByHash = HashSet<ContentHash, BuildHasherDefault<Prefix>>;

/// The contents of a store at one time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Objects {
    pub(crate) segments: Vec<Segment>,
    places: ByHash<(u32, Extent)>,
    damaged_copies: HashSet<(String, ContentHash)>,
}

impl Objects {
    /// Brings this up to date with the directory. Needs the store lock, so that no segment
    /// goes away meanwhile.
    pub(crate) fn refresh(
        &mut self,
        segments: &Path,
        damaged: HashSet<(String, ContentHash)>,
    ) -> Result<(), SnapshotError> {
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(segments).map_err(SnapshotError::io("list", segments))? {
            let entry = entry.map_err(SnapshotError::io("list", segments))?;
            if let Some(id) = entry.file_name().to_str().and_then(|name| name.strip_suffix(".seg")) {
                ids.push(id.to_owned());
            }
        }
        let present: HashSet<&str> = ids.iter().map(String::as_str).collect();
        let gone = self.segments.iter().any(|segment| !present.contains(segment.id.as_str()));
        if gone || damaged != self.damaged_copies {
            *self = Self { damaged_copies: damaged, ..Self::default() };
        }
        let known: HashSet<String> = self.segments.iter().map(|segment| segment.id.clone()).collect();
        ids.retain(|id| !known.contains(id));
        ids.sort();
        // A damaged one is as good as none: what it held is stored again when it is needed.
        let open = |id: String| Segment::open(&segments.join(format!("{id}.seg")), &id);
        let opened: Vec<_> = ids.into_iter().filter_map(open).collect();
        // Once for all: a table that grows is there twice meanwhile.
        self.places.reserve(opened.iter().map(|(_, rows)| rows.len()).sum());
        for (segment, rows) in opened {
            self.add(segment, rows);
        }
        Ok(())
    }

    fn add(&mut self, segment: Segment, rows: Vec<(ContentHash, Extent)>) {
        let Ok(number) = u32::try_from(self.segments.len()) else { return };
        for (hash, extent) in rows {
            let damaged =
                !self.damaged_copies.is_empty() && self.damaged_copies.contains(&(segment.id.clone(), hash));
            if !damaged {
                self.places.entry(hash).or_insert((number, extent));
            }
        }
        self.segments.push(segment);
    }

    pub(crate) fn contains(&self, hash: &ContentHash) -> bool {
        self.places.contains_key(hash)
    }

    pub(crate) fn place(&self, hash: &ContentHash) -> Option<(&Segment, Extent)> {
        let &(number, extent) = self.places.get(hash)?;
        Some((self.segments.get(number as usize)?, extent))
    }

    /// The same, with the segment's number.
    pub(crate) fn number_of(&self, hash: &ContentHash) -> Option<(u32, Extent)> {
        self.places.get(hash).copied()
    }

    /// Where each content of one segment lies.
    pub(crate) fn rows_of(&self, number: u32) -> Vec<(ContentHash, Extent)> {
        let here = self.places.iter().filter(|(_, place)| place.0 == number);
        let mut rows: Vec<_> = here.map(|(hash, place)| (*hash, place.1)).collect();
        rows.sort_by_key(|(_, extent)| extent.offset);
        rows
    }
}

/// Reads contents, proving each against its name.
pub(crate) struct ObjectReader<'o> {
    objects: &'o Objects,
    marks: PathBuf,
    buffer: Vec<u8>,
}

impl<'o> ObjectReader<'o> {
    /// `marks`: where damage is noted, for the next snapshot to mend.
    pub(crate) fn new(objects: &'o Objects, marks: &Path) -> Self {
        Self { objects, marks: marks.to_path_buf(), buffer: Vec::new() }
    }

    /// Hands over a content in pieces. `file` is for messages. On an error what was handed over
    /// is worthless.
    pub(crate) fn read<E: From<SnapshotError>>(
        &mut self,
        hash: &ContentHash,
        file: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut hasher = Sha256::new();
        self.read_unproven(hash, file, |piece| {
            hasher.update(piece);
            take(piece)
        })?;
        if hasher.finalize()[..] == hash.0 {
            return Ok(());
        }
        if let Some((segment, _)) = self.objects.place(hash) {
            self.mark(&segment.id, hash);
        }
        let why = "its bytes do not match its name";
        Err(SnapshotError::DamagedObject { object: *hash, file: shown(file), why }.into())
    }

    /// The same, for who takes them where they are proven.
    pub(crate) fn read_unproven<E: From<SnapshotError>>(
        &mut self,
        hash: &ContentHash,
        file: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some((segment, extent)) = self.objects.place(hash) else {
            self.mark("missing", hash);
            let why = "it is not in the store";
            return Err(SnapshotError::DamagedObject { object: *hash, file: shown(file), why }.into());
        };
        let (mut at, mut rest) = (extent.offset, extent.len);
        while rest > 0 {
            let length = usize::try_from(rest).unwrap_or(PIECE).min(PIECE);
            if self.buffer.len() < length {
                self.buffer.resize(length.next_power_of_two(), 0);
            }
            let piece = &mut self.buffer[..length];
            segment.file.read_exact_at(piece, at).map_err(SnapshotError::io("read", &segment.path))?;
            take(piece)?;
            at += length as u64;
            rest -= length as u64;
        }
        Ok(())
    }

    /// A whole content, for symbolic links.
    pub(crate) fn read_all(&mut self, hash: &ContentHash, file: &[u8]) -> Result<Vec<u8>, SnapshotError> {
        let mut bytes = Vec::new();
        self.read(hash, file, |piece| {
            bytes.extend_from_slice(piece);
            Ok::<_, SnapshotError>(())
        })?;
        Ok(bytes)
    }

    fn mark(&self, segment: &str, hash: &ContentHash) {
        // Without the mark the damage is found again at the next read.
        drop(std::fs::write(self.marks.join(format!("{segment}.{hash}")), b""));
    }
}

/// The copies that [`ObjectReader`] found damaged.
pub(crate) fn damaged_copies(marks: &Path) -> HashSet<(String, ContentHash)> {
    let Ok(entries) = std::fs::read_dir(marks) else { return HashSet::new() };
    let parse = |name: String| {
        let (segment, hash) = name.split_once('.')?;
        Some((segment.to_owned(), hash.parse().ok()?))
    };
    entries.flatten().filter_map(|entry| parse(entry.file_name().into_string().ok()?)).collect()
}
