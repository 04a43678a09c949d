//! The stat cache: what lstat said about each file when its hash was taken.
//!
//! One file per source root (or per private tree), named by its user. It is never needed: a
//! damaged or missing one costs hashing. All numbers are little endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `JERSTAT1` |
//! | 8 | checksum of all that follows |
//! | 4, 4 | entries `n`, bytes of the root's path `r` |
//! | 4 | bytes of all names |
//! | r | path of the root, so that garbage collection can see whether it is gone |
//! | n × 76 | SHA-256; size, mtime, ctime, inode (8 each, times in ns), mode (4); start and length of its name (4 each) |
//! | … | names, sorted, one after the other |

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use super::at::{self, DirCursor};
use super::hash::ContentHash;
use super::stat::StatKey;

const MAGIC: &[u8; 8] = b"JERSTAT1";
const FIXED: usize = 28;
const ROW: usize = 32 + StatKey::ENCODED + 8;

/// A loaded stat cache; the bytes of its file are used as they are.
pub(crate) struct StatCache {
    bytes: Vec<u8>,
    count: usize,
    rows: usize,
    names: usize,
}

/// What a cached entry turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Verdict {
    /// Not there any more, or another one.
    Stale = 0,
    /// lstat says the same.
    Same = 1,
}

impl StatCache {
    pub(crate) fn empty() -> Self {
        Self { bytes: Vec::new(), count: 0, rows: 0, names: 0 }
    }

    /// Reads a cache; one that is missing or damaged is empty.
    pub(crate) fn load(file: &Path) -> Self {
        std::fs::read(file).ok().and_then(Self::parse).unwrap_or_else(Self::empty)
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let head: &[u8; FIXED] = bytes.first_chunk()?;
        let number = |at: usize| {
            usize::try_from(u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])).ok()
        };
        let (count, root, names) = (number(16)?, number(20)?, number(24)?);
        let rows_at = FIXED.checked_add(root)?;
        let names_at = rows_at.checked_add(count.checked_mul(ROW)?)?;
        let mut sum = [0u8; 8];
        sum.copy_from_slice(&head[8..16]);
        let whole = head.starts_with(MAGIC)
            && names_at.checked_add(names)? == bytes.len()
            && checksum(&bytes[16..]) == u64::from_le_bytes(sum);
        whole.then_some(Self { bytes, count, rows: rows_at, names: names_at })
    }

    /// The source root this cache speaks of.
    pub(crate) fn root(&self) -> Option<PathBuf> {
        self.bytes.get(FIXED..self.rows).map(|root| at::path_of(root).to_path_buf())
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    fn row(&self, position: usize) -> &[u8; ROW] {
        let start = self.rows + position * ROW;
        // Lengths were checked against the size of the file.
        self.bytes[start..].first_chunk().unwrap_or(&[0; ROW])
    }

    fn name_start(&self, position: usize) -> usize {
        let row = self.row(position);
        u32::from_le_bytes([row[68], row[69], row[70], row[71]]) as usize
    }

    pub(crate) fn name(&self, position: usize) -> &[u8] {
        let row = self.row(position);
        let start = self.name_start(position);
        let len = u32::from_le_bytes([row[72], row[73], row[74], row[75]]) as usize;
        self.bytes.get(self.names + start..self.names + start + len).unwrap_or_default()
    }

    pub(crate) fn hash(&self, position: usize) -> ContentHash {
        ContentHash(*self.row(position).first_chunk().unwrap_or(&[0; 32]))
    }

    pub(crate) fn key(&self, position: usize) -> StatKey {
        let mut bytes = [0u8; StatKey::ENCODED];
        bytes.copy_from_slice(&self.row(position)[32..32 + StatKey::ENCODED]);
        StatKey::decode(&bytes)
    }

    /// Where a name is.
    pub(crate) fn find(&self, name: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.name(middle).cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(middle),
            }
        }
        None
    }

    /// Looks every entry up in the tree, on `threads` threads.
    pub(crate) fn verify(&self, root: std::os::fd::BorrowedFd<'_>, threads: usize) -> Vec<Verdict> {
        const PIECE: usize = 1024;
        let verdicts: Vec<AtomicU8> = (0..self.count).map(|_| AtomicU8::new(0)).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            let mut cursor = DirCursor::new(root);
            loop {
                let start = next.fetch_add(PIECE, Ordering::Relaxed);
                if start >= self.count {
                    return;
                }
                for (position, verdict) in verdicts.iter().enumerate().skip(start).take(PIECE) {
                    let (directory, name) = at::split(self.name(position));
                    let seen = cursor.enter(directory).and_then(|parent| at::lstat(parent, name));
                    if seen.is_ok_and(|stat| StatKey::of(&stat) == self.key(position)) {
                        verdict.store(Verdict::Same as u8, Ordering::Relaxed);
                    }
                }
            }
        };
        if self.count < 2 * PIECE || threads < 2 {
            work();
        } else {
            std::thread::scope(|scope| {
                for _ in 1..threads {
                    scope.spawn(work);
                }
                work();
            });
        }
        let same = Verdict::Same as u8;
        let verdict = |seen: AtomicU8| if seen.into_inner() == same { Verdict::Same } else { Verdict::Stale };
        verdicts.into_iter().map(verdict).collect()
    }
}

/// Collects entries in order of their names for a new cache.
pub(crate) struct StatCacheWriter {
    /// The file so far: its head, to be filled in, and the rows.
    bytes: Vec<u8>,
    names: Vec<u8>,
    root: u32,
    count: u32,
}

impl StatCacheWriter {
    /// For about this many entries with this many bytes of names.
    pub(crate) fn new(root: &Path, expected: usize, names: usize) -> Self {
        use std::os::unix::ffi::OsStrExt;
        let root = root.as_os_str().as_bytes();
        let mut bytes = Vec::with_capacity(FIXED + root.len() + expected * ROW + names);
        bytes.extend_from_slice(&[0; FIXED]);
        bytes.extend_from_slice(root);
        let root = u32::try_from(root.len()).unwrap_or(0);
        Self { bytes, names: Vec::with_capacity(names), root, count: 0 }
    }

    pub(crate) fn push(&mut self, name: &[u8], hash: &ContentHash, key: &StatKey) {
        let (Ok(start), Ok(len)) = (u32::try_from(self.names.len()), u32::try_from(name.len())) else {
            return; // 4 GiB of names: what is not cached is only hashed again
        };
        self.bytes.extend_from_slice(&hash.0);
        key.encode(&mut self.bytes);
        self.bytes.extend_from_slice(&start.to_le_bytes());
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.names.extend_from_slice(name);
        self.count += 1;
    }

    /// The bytes of the file.
    pub(crate) fn finish(self) -> Vec<u8> {
        let Self { mut bytes, names, root, count } = self;
        bytes.extend_from_slice(&names);
        bytes[..8].copy_from_slice(MAGIC);
        bytes[16..20].copy_from_slice(&count.to_le_bytes());
        bytes[20..24].copy_from_slice(&root.to_le_bytes());
        bytes[24..28].copy_from_slice(&u32::try_from(names.len()).unwrap_or(0).to_le_bytes());
        let sum = checksum(&bytes[16..]);
        bytes[8..16].copy_from_slice(&sum.to_le_bytes());
        bytes
    }
}

/// Finds damage, not malice; four lanes, since it runs over megabytes at every start.
fn checksum(bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut lanes = [PRIME, PRIME.rotate_left(16), PRIME.rotate_left(32), PRIME.rotate_left(48)];
    let mut blocks = bytes.chunks_exact(32);
    for block in &mut blocks {
        for (lane, word) in lanes.iter_mut().zip(block.chunks_exact(8)) {
            let mut number = [0u8; 8];
            number.copy_from_slice(word);
            *lane = (*lane ^ u64::from_le_bytes(number)).wrapping_mul(PRIME).rotate_left(29);
        }
    }
    let mut sum = bytes.len() as u64;
    for &byte in blocks.remainder() {
        sum = (sum ^ u64::from(byte)).wrapping_mul(PRIME).rotate_left(29);
    }
    for lane in lanes {
        sum = (sum ^ lane).wrapping_mul(PRIME).rotate_left(29);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_cache_is_an_empty_one() {
        let key = StatKey { size: 1, mtime: 2, ctime: 3, inode: 4, mode: 0o100_644 };
        let mut writer = StatCacheWriter::new(Path::new("/r"), 2, 4);
        writer.push(b"a", &ContentHash::of(b"1"), &key);
        writer.push(b"b/c", &ContentHash::of(b"2"), &key);
        let bytes = writer.finish();
        let cache = StatCache::parse(bytes.clone()).unwrap();
        assert_eq!((cache.len(), cache.root()), (2, Some("/r".into())));
        assert_eq!((cache.name(1), cache.hash(1), cache.key(1)), (&b"b/c"[..], ContentHash::of(b"2"), key));
        assert_eq!((cache.find(b"b/c"), cache.find(b"b")), (Some(1), None));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(StatCache::parse(bad).is_none(), "byte {at}");
            assert!(StatCache::parse(bytes[..at].to_vec()).is_none());
        }
    }
}
