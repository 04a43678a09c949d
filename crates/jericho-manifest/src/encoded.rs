//! A manifest as the bytes of its format, with the place of each entry in them.
//!
//! Of 100 000 entries one is changed: what is only compared, patched, proven or passed on is not worth
//! decoding. An entry is decoded when it is asked for.

use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

use crate::directories::Directories;
use crate::hash::ContentHash;
use crate::manifest::{Entry, FIXED, HEADER, MANY, Manifest, ManifestError, decode_record, record_end};

/// How many bytes apart the states of a hash are kept.
const STEP: usize = 1 << 20;

/// The hash of a manifest, and its state after each MiB: of another manifest that begins with the same bytes
/// only what follows them is hashed.
#[derive(Debug, Default)]
pub struct Proof {
    pub(crate) hash: Option<ContentHash>,
    states: Vec<Sha256>,
}

impl Proof {
    /// What it proves.
    #[must_use]
    pub fn is_of(&self, hash: &ContentHash) -> bool {
        self.hash.as_ref() == Some(hash)
    }

    /// Of pieces one after the other, of which the first `same` bytes are those of the manifest that `known`
    /// is of.
    pub(crate) fn of<'p>(pieces: impl Iterator<Item = &'p [u8]>, known: &Self, same: usize) -> Self {
        let mut states: Vec<Sha256> = known.states.iter().take(same / STEP).cloned().collect();
        let mut hasher = states.last().cloned().unwrap_or_default();
        let (mut skip, mut left) = (states.len() * STEP, STEP);
        for piece in pieces {
            let skipped = skip.min(piece.len());
            skip -= skipped;
            let mut rest = &piece[skipped..];
            while rest.len() >= left {
                let (now, later) = rest.split_at(left);
                hasher.update(now);
                states.push(hasher.clone());
                (rest, left) = (later, STEP);
            }
            hasher.update(rest);
            left -= rest.len();
        }
        Self { hash: Some(ContentHash(hasher.finalize().into())), states }
    }
}

/// A manifest that is not decoded.
#[derive(Debug)]
pub struct Encoded {
    pub(crate) bytes: Vec<u8>,
    /// Where each entry begins, and the end of the last one.
    pub(crate) starts: Vec<u32>,
    pub(crate) hash: ContentHash,
    /// Of these bytes, where it was made of them.
    pub(crate) proof: Proof,
    /// Looked for when they are first asked for.
    pub(crate) directories: OnceLock<Arc<Directories>>,
    /// The same.
    pub(crate) firsts: OnceLock<Vec<u16>>,
}

impl Encoded {
    /// Bytes that were made of a sound manifest with this hash; nothing when they are others.
    #[must_use]
    pub fn own(bytes: Vec<u8>, hash: ContentHash) -> Option<Self> {
        let prove = || Proof::of(std::iter::once(&bytes[..]), &Proof::default(), 0);
        let (proof, starts) = if bytes.len() < MANY * 100 {
            (prove(), index(&bytes))
        } else {
            std::thread::scope(|scope| {
                let proof = scope.spawn(prove);
                let starts = index(&bytes);
                (proof.join().unwrap_or_default(), starts)
            })
        };
        let starts = starts.ok().filter(|_| proof.is_of(&hash))?;
        Some(Self { bytes, starts, hash, proof, directories: OnceLock::new(), firsts: OnceLock::new() })
    }

    /// Keeps what proved it.
    #[must_use]
    pub fn proven_by(self, proof: Proof) -> Self {
        Self { proof, ..self }
    }

    /// The content hash.
    #[must_use]
    pub fn hash(&self) -> ContentHash {
        self.hash
    }

    /// The bytes of the format.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry at a position.
    #[must_use]
    pub fn at(&self, position: usize) -> Option<Entry<'_>> {
        decode_record(self.record(position)?)
    }

    /// All entries, sorted by the bytes of their paths.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        (0..self.len()).filter_map(|position| self.at(position))
    }

    /// The directories that the entries lie in.
    #[must_use]
    pub fn directories(&self) -> &Directories {
        self.directories.get_or_init(|| Arc::new(Directories::of(self)))
    }

    /// The first 16 bits of each content's hash. Of most entries nothing else is ever asked.
    #[must_use]
    pub fn firsts(&self) -> &[u16] {
        self.firsts.get_or_init(|| {
            let digits =
                |position| self.record(position).and_then(|record| record.get(2..6)).unwrap_or_default();
            (0..self.len()).map(|position| of_digits(digits(position))).collect()
        })
    }

    /// The path of the entry at a position; empty where there is none.
    #[inline]
    #[must_use]
    pub fn path(&self, position: usize) -> &[u8] {
        let rest = self.record(position).and_then(|record| record.get(FIXED..)).unwrap_or_default();
        rest.iter().position(|&byte| byte == b' ').map_or(&[], |space| &rest[space + 1..])
    }

    /// The size that the entry at a position tells.
    #[inline]
    #[must_use]
    pub fn size(&self, position: usize) -> u64 {
        let rest = self.record(position).and_then(|record| record.get(FIXED..)).unwrap_or_default();
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
        digits.fold(0, |sum: u64, digit| sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')))
    }

    /// Where the entry with this path is, or would be.
    ///
    /// # Errors
    /// The position of the first one behind it.
    pub fn find(&self, path: &[u8]) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.path(middle).cmp(path) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    /// Whether an entry lies in this directory.
    #[must_use]
    pub fn has_inside(&self, directory: &[u8]) -> bool {
        self.inside(directory).next().is_some()
    }

    /// The paths that lie in this directory.
    pub fn inside(&self, directory: &[u8]) -> impl Iterator<Item = &[u8]> {
        let inside = [directory, b"/"].concat();
        let (Ok(first) | Err(first)) = self.find(&inside);
        let paths = (first..self.len()).map(|position| self.path(position));
        paths.take_while(move |path| path.starts_with(&inside))
    }

    /// An entry's bytes without its NUL.
    #[inline]
    pub(crate) fn record(&self, position: usize) -> Option<&[u8]> {
        let (start, end) = (*self.starts.get(position)?, *self.starts.get(position + 1)?);
        self.bytes.get(start as usize..end as usize)?.strip_suffix(b"\0")
    }
}

impl From<&Manifest> for Encoded {
    fn from(manifest: &Manifest) -> Self {
        let bytes = manifest.encode();
        // What was encoded can be read.
        let starts = index(&bytes).unwrap_or_else(|_| vec![0]);
        let (proof, directories, firsts) = (Proof::default(), OnceLock::new(), OnceLock::new());
        Self { bytes, starts, hash: manifest.hash(), proof, directories, firsts }
    }
}

/// A number of 16 bits, of the first four hexadecimal digits.
fn of_digits(digits: &[u8]) -> u16 {
    let digit = |digit: &u8| u16::from((digit & 15) + (digit >> 6) * 9) & 15;
    digits.iter().take(4).fold(0, |number, next| number << 4 | digit(next))
}

fn index(bytes: &[u8]) -> Result<Vec<u32>, ManifestError> {
    u32::try_from(bytes.len()).map_err(|_| ManifestError::TooLarge)?;
    if !bytes.starts_with(HEADER) {
        return Err(ManifestError::Version);
    }
    let mut starts = Vec::with_capacity(bytes.len() / 100 + 2);
    let mut at = HEADER.len();
    starts.push(at as u32);
    while at < bytes.len() {
        at += record_end(&bytes[at..]).ok_or(ManifestError::Form)? + 1;
        starts.push(at as u32);
    }
    Ok(starts)
}
