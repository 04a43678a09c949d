//! A manifest: the sorted list of everything in a snapshot, and its one byte format.
//!
//! # Format `jericho-manifest-v1`
//!
//! The line `jericho-manifest-v1\n`, then per entry, sorted by the bytes of the path:
//!
//! ```text
//! <kind> <sha256> <size> <path>\0
//! ```
//!
//! * kind: `f` file, `x` file that its owner may execute, `l` symbolic link;
//! * sha256: 64 lower case digits; of the content, or of the link's target text;
//! * size: of the same bytes, decimal;
//! * path: relative to the root, `/` between components, any bytes but NUL, no empty, `.` or `..`
//!   component; no entry lies inside another.
//!
//! Directories are implied; empty ones do not exist. Submodules and nested repositories are
//! plain directories. The **content hash** of a snapshot is the SHA-256 of the whole file, so
//! `sha256sum manifest` prints the name of its directory. It changes exactly when a name, a
//! kind, an executable bit or a content changes.

use std::cmp::Ordering;

use sha2::{Digest, Sha256};

use crate::hash::ContentHash;

/// From this many entries on a second thread is worth its start.
pub(crate) const MANY: usize = 4000;
pub(crate) const HEADER: &[u8] = b"jericho-manifest-v1\n";

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EntryKind {
    /// A file that its owner may not execute; laid out with mode 0644.
    File,
    /// A file that its owner may execute; laid out with mode 0755.
    Executable,
    /// A symbolic link; its content is the target text.
    Symlink,
}

impl EntryKind {
    fn letter(self) -> u8 {
        match self {
            Self::File => b'f',
            Self::Executable => b'x',
            Self::Symlink => b'l',
        }
    }

    fn from_letter(letter: &[u8]) -> Option<Self> {
        match letter {
            b"f" => Some(Self::File),
            b"x" => Some(Self::Executable),
            b"l" => Some(Self::Symlink),
            _ => None,
        }
    }
}

/// One file or link of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Relative to the root of the tree.
    pub path: &'a [u8],
    /// What it is.
    pub kind: EntryKind,
    /// Of the content or the link's target.
    pub hash: ContentHash,
    /// Of the same bytes.
    pub size: u64,
}

impl Entry<'_> {
    /// Whether both would be laid out the same.
    #[inline]
    #[must_use]
    pub fn same_content(&self, other: &Entry<'_>) -> bool {
        self.kind == other.kind && self.hash == other.hash
    }
}

/// An entry whose path lies elsewhere, in one text with all others.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Where its path begins in the names.
    pub start: u32,
    /// Bytes of its path.
    pub len: u32,
    /// What it is.
    pub kind: EntryKind,
    /// Of the content or the link's target.
    pub hash: ContentHash,
    /// Of the same bytes.
    pub size: u64,
}

/// Why bytes are not a manifest, or rows cannot become one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The first line is another one.
    #[error("not a jericho-manifest-v1")]
    Version,
    /// An entry that cannot be read, by its position from 0.
    #[error("entry {0} cannot be read")]
    Entry(usize),
    /// Cut off, or written in another way than the one way there is.
    #[error("not in the one form of its entries, or cut off")]
    Form,
    /// A path that could leave the tree or cannot exist.
    #[error("bad path {0:?}")]
    Path(String),
    /// Entries out of order or twice.
    #[error("{0:?} is out of order")]
    Order(String),
    /// A file or link that has another entry inside.
    #[error("{0:?} is a file and a directory")]
    Conflict(String),
    /// The names exceed 4 GiB.
    #[error("too many names")]
    TooLarge,
}

/// The sorted content of one snapshot. Immutable; see the [module](self) for its format.
#[derive(Debug, Clone)]
pub struct Manifest {
    names: Vec<u8>,
    rows: Vec<Row>,
    hash: ContentHash,
    encoded_len: u64,
    total_size: u64,
}

impl Manifest {
    /// A manifest of these entries, in any order.
    ///
    /// # Errors
    /// [`ManifestError`] when a path is bad or twice there.
    pub fn from_entries<'a>(entries: impl IntoIterator<Item = Entry<'a>>) -> Result<Self, ManifestError> {
        let mut names = Vec::new();
        let mut rows = Vec::new();
        for entry in entries {
            let start = u32::try_from(names.len()).map_err(|_| ManifestError::TooLarge)?;
            let len = u32::try_from(entry.path.len()).map_err(|_| ManifestError::TooLarge)?;
            names.extend_from_slice(entry.path);
            rows.push(Row { start, len, kind: entry.kind, hash: entry.hash, size: entry.size });
        }
        rows.sort_by(|a, b| name_of(&names, a).cmp(name_of(&names, b)));
        Self::from_sorted(names, rows)
    }

    /// A manifest without entries: that of an empty tree.
    #[must_use]
    pub fn empty() -> Self {
        let (hash, encoded_len) = (ContentHash::of(HEADER), HEADER.len() as u64);
        Self { names: Vec::new(), rows: Vec::new(), hash, encoded_len, total_size: 0 }
    }

    /// Takes rows sorted by the names they point to.
    ///
    /// # Errors
    /// [`ManifestError`] when a path is bad, twice there or out of order.
    pub fn from_sorted(names: Vec<u8>, rows: Vec<Row>) -> Result<Self, ManifestError> {
        check(&names, &rows)?;
        let total_size = total_size(&rows);
        let mut manifest = Self { names, rows, hash: ContentHash([0; 32]), encoded_len: 0, total_size };
        (manifest.hash, manifest.encoded_len) = manifest.hash_encoded();
        Ok(manifest)
    }

    /// Hash and length of the encoded form. Encoding and hashing cost the same; a large manifest
    /// does both at once.
    fn hash_encoded(&self) -> (ContentHash, u64) {
        let mut hasher = Sha256::new();
        let mut length = 0u64;
        if self.rows.len() < MANY {
            self.encode_with(|piece| {
                hasher.update(piece);
                length += piece.len() as u64;
            });
            return (ContentHash(hasher.finalize().into()), length);
        }
        let (hand_over, pieces) = std::sync::mpsc::sync_channel::<Vec<u8>>(8);
        std::thread::scope(|scope| {
            let encoder = scope.spawn(move || {
                self.encode_with(|piece| drop(hand_over.send(piece.to_vec())));
            });
            for piece in pieces {
                hasher.update(&piece);
                length += piece.len() as u64;
            }
            // Joined by the scope, which passes a panic on.
            drop(encoder);
        });
        (ContentHash(hasher.finalize().into()), length)
    }

    /// The content hash.
    #[inline]
    #[must_use]
    pub fn hash(&self) -> ContentHash {
        self.hash
    }

    /// Number of entries.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no entry.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of all contents, every file counted.
    #[must_use]
    pub fn total_size(&self) -> u64 {
        self.total_size
    }

    /// Bytes of the encoded form.
    #[must_use]
    pub fn encoded_len(&self) -> u64 {
        self.encoded_len
    }

    /// Bytes of all names together.
    #[must_use]
    pub fn names_len(&self) -> usize {
        self.names.len()
    }

    /// All entries, sorted by the bytes of their paths.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Entry<'_>> {
        self.rows.iter().map(|row| self.entry_of(row))
    }

    /// The entry at a position of [`Manifest::iter`].
    #[inline]
    #[must_use]
    pub fn at(&self, position: usize) -> Option<Entry<'_>> {
        self.rows.get(position).map(|row| self.entry_of(row))
    }

    /// The entry with this path.
    #[must_use]
    pub fn get(&self, path: &[u8]) -> Option<Entry<'_>> {
        let found = self.rows.binary_search_by(|row| name_of(&self.names, row).cmp(path)).ok()?;
        self.at(found)
    }

    #[inline]
    fn entry_of(&self, row: &Row) -> Entry<'_> {
        Entry { path: name_of(&self.names, row), kind: row.kind, hash: row.hash, size: row.size }
    }

    /// The bytes of the format.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.encoded_len).unwrap_or(0));
        self.encode_with(|chunk| bytes.extend_from_slice(chunk));
        bytes
    }

    /// The bytes of the format, in pieces of about 64 KiB.
    pub fn encode_with(&self, mut take: impl FnMut(&[u8])) {
        const PIECE: usize = 64 * 1024;
        let mut buffer = Vec::with_capacity(PIECE + 8192);
        buffer.extend_from_slice(HEADER);
        for row in &self.rows {
            push_record(&mut buffer, &self.entry_of(row));
            if buffer.len() >= PIECE {
                take(&buffer);
                buffer.clear();
            }
        }
        take(&buffer);
    }

    /// Reads the bytes of the format, checking every rule of it.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest = Self::parse(bytes)?;
        check(&manifest.names, &manifest.rows)?;
        // One snapshot has one form: `007` is not a size.
        let mut rest = bytes;
        let mut same = true;
        manifest.encode_with(|piece| match rest.strip_prefix(piece) {
            Some(left) if same => rest = left,
            _ => same = false,
        });
        if !same || !rest.is_empty() {
            return Err(ManifestError::Form);
        }
        Ok(Self { hash: ContentHash::of(bytes), ..manifest })
    }

    /// Reads bytes again that this engine wrote from a manifest with this hash.
    pub fn decode_own(bytes: &[u8], hash: ContentHash) -> Option<Self> {
        let (is_it, parsed) = if bytes.len() < MANY * 100 {
            (ContentHash::of(bytes) == hash, Self::parse(bytes))
        } else {
            std::thread::scope(|scope| {
                let is_it = scope.spawn(|| ContentHash::of(bytes) == hash);
                let parsed = Self::parse(bytes);
                (is_it.join().unwrap_or(false), parsed)
            })
        };
        Some(Self { hash, ..parsed.ok().filter(|_| is_it)? })
    }

    /// Without its hash.
    fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let mut body = bytes.strip_prefix(HEADER).ok_or(ManifestError::Version)?;
        let mut names = Vec::with_capacity(body.len() / 2);
        let mut rows = Vec::with_capacity(body.len() / 100);
        while !body.is_empty() {
            let end = record_end(body).ok_or(ManifestError::Form)?;
            let row = decode_row(&body[..end], &mut names)?;
            rows.push(row.ok_or(ManifestError::Entry(rows.len()))?);
            body = &body[end + 1..];
        }
        names.shrink_to_fit();
        let total_size = total_size(&rows);
        Ok(Self { names, rows, hash: ContentHash([0; 32]), encoded_len: bytes.len() as u64, total_size })
    }

    /// How many entries from these positions on are the same in both.
    pub(crate) fn same_from(&self, position: usize, other: &Self, of_other: usize) -> usize {
        let own = self.rows.get(position..).unwrap_or_default();
        let others = other.rows.get(of_other..).unwrap_or_default();
        let same = |(a, b): &(&Row, &Row)| {
            a.hash == b.hash
                && (a.kind, a.size) == (b.kind, b.size)
                && name_of(&self.names, a) == name_of(&other.names, b)
        };
        own.iter().zip(others).take_while(same).count()
    }

    /// What differs, sorted by path.
    #[must_use]
    pub fn diff<'a>(old: &'a Self, new: &'a Self) -> Vec<Change<'a>> {
        let mut changes = Vec::new();
        let (mut olds, mut news) = (old.iter().peekable(), new.iter().peekable());
        loop {
            let order = match (olds.peek(), news.peek()) {
                (None, None) => return changes,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => old.path.cmp(new.path),
            };
            let change = match order {
                Ordering::Less => Change { old: olds.next(), new: None },
                Ordering::Greater => Change { old: None, new: news.next() },
                Ordering::Equal => Change { old: olds.next(), new: news.next() },
            };
            match (&change.old, &change.new) {
                (Some(old), Some(new)) if old.same_content(new) => {}
                _ => changes.push(change),
            }
        }
    }
}

/// One difference of two manifests: at least one side is there, and both have the same path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change<'a> {
    /// Before.
    pub old: Option<Entry<'a>>,
    /// After.
    pub new: Option<Entry<'a>>,
}

impl<'a> Change<'a> {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &'a [u8] {
        self.new.or(self.old).map_or(b"", |entry| entry.path)
    }
}

fn total_size(rows: &[Row]) -> u64 {
    rows.iter().fold(0u64, |sum, row| sum.saturating_add(row.size))
}

#[inline]
fn name_of<'a>(names: &'a [u8], row: &Row) -> &'a [u8] {
    // Rows are only made with the name they point to; an empty name fails every check.
    names.get(row.start as usize..row.start as usize + row.len as usize).unwrap_or_default()
}

/// Kind, space, 64 digits, space.
pub(crate) const FIXED: usize = 67;

/// Where the first record of these bytes ends: at its NUL.
#[inline]
pub(crate) fn record_end(bytes: &[u8]) -> Option<usize> {
    // No NUL is in what comes before the size; most of a record need not be searched. A C string is the one
    // search of the standard library that takes words at once and tells the place.
    let tail = std::ffi::CStr::from_bytes_until_nul(bytes.get(FIXED..)?).ok()?;
    Some(FIXED + tail.count_bytes())
}

/// Writes one entry with its NUL.
#[inline]
pub(crate) fn push_record(out: &mut Vec<u8>, entry: &Entry<'_>) {
    out.push(entry.kind.letter());
    out.push(b' ');
    entry.hash.push_hex(out);
    out.push(b' ');
    push_decimal(out, entry.size);
    out.push(b' ');
    out.extend_from_slice(entry.path);
    out.push(0);
}

/// Reads one entry, without its NUL.
#[inline]
pub(crate) fn decode_record(record: &[u8]) -> Option<Entry<'_>> {
    let (fixed, rest) = record.split_at_checked(FIXED)?;
    let space = rest.iter().position(|&byte| byte == b' ')?;
    let size = std::str::from_utf8(&rest[..space]).ok()?.parse().ok()?;
    let (b' ', b' ') = (fixed[1], fixed[66]) else { return None };
    let (kind, hash) = (EntryKind::from_letter(&fixed[..1])?, ContentHash::from_hex(&fixed[2..66])?);
    Some(Entry { path: &rest[space + 1..], kind, hash, size })
}

fn decode_row(record: &[u8], names: &mut Vec<u8>) -> Result<Option<Row>, ManifestError> {
    let Some(Entry { path, kind, hash, size }) = decode_record(record) else { return Ok(None) };
    let start = u32::try_from(names.len()).map_err(|_| ManifestError::TooLarge)?;
    let len = u32::try_from(path.len()).map_err(|_| ManifestError::TooLarge)?;
    names.extend_from_slice(path);
    Ok(Some(Row { start, len, kind, hash, size }))
}

fn check(names: &[u8], rows: &[Row]) -> Result<(), ManifestError> {
    let mut previous: &[u8] = b"";
    for row in rows {
        let path = name_of(names, row);
        let shared = shared_prefix(path, previous);
        // Components that the previous path has too were looked at there.
        let fresh = path[..shared].iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        if !is_plain(&path[fresh..]) {
            return Err(ManifestError::Path(crate::shown::shown(path)));
        }
        if path.get(shared) <= previous.get(shared) {
            return Err(ManifestError::Order(crate::shown::shown(path)));
        }
        // A file above this path sorts before it, though not always directly; only components
        // that the previous path does not share can be new files.
        for (end, _) in path.iter().enumerate().skip(shared).filter(|&(_, &byte)| byte == b'/') {
            if rows.binary_search_by(|row| name_of(names, row).cmp(&path[..end])).is_ok() {
                return Err(ManifestError::Conflict(crate::shown::shown(&path[..end])));
            }
        }
        previous = path;
    }
    Ok(())
}

fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    const WORD: usize = 16;
    let words = a.chunks_exact(WORD).zip(b.chunks_exact(WORD)).take_while(|(a, b)| a == b).count() * WORD;
    words + a[words..].iter().zip(&b[words..]).take_while(|(a, b)| a == b).count()
}

/// Whether every component is a plain name, so that the path stays inside the tree.
fn is_plain(path: &[u8]) -> bool {
    path.split(|&byte| byte == b'/')
        .all(|component| !matches!(component, b"" | b"." | b"..") && !component.contains(&0))
}

fn push_decimal(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: EntryKind, content: &str) -> (String, EntryKind, String) {
        (path.to_owned(), kind, content.to_owned())
    }

    fn manifest(entries: &[(String, EntryKind, String)]) -> Result<Manifest, ManifestError> {
        Manifest::from_entries(entries.iter().map(|(path, kind, content)| Entry {
            path: path.as_bytes(),
            kind: *kind,
            hash: ContentHash::of(content.as_bytes()),
            size: content.len() as u64,
        }))
    }

    #[test]
    fn the_format_is_frozen() {
        let manifest = manifest(&[
            entry("l", EntryKind::Symlink, "a.txt"),
            entry("a.txt", EntryKind::File, "1\n"),
            entry("d/run", EntryKind::Executable, "2\n"),
        ])
        .unwrap();
        let text = String::from_utf8(manifest.encode()).unwrap().replace('\0', "\n");
        insta::assert_snapshot!(text, @r"
        jericho-manifest-v1
        f 4355a46b19d348dc2f57c046f8ef63d4538ebb936000f3c9ee954a27460dd865 2 a.txt
        x 53c234e5e8472b6ac51c1ae1cab3fe06fad053beb8ebfd8977b010655bfdd3c3 2 d/run
        l 18b7cb099a9ea3f50ba899b5ba81e0d377a5f3b16f8f6eeb8b3e58cd4692b993 5 l
        ");
        insta::assert_snapshot!(manifest.hash(), @"1cae00d66c575103129b27737f42940c1ead70cee7557b31bcf993f9fb895c39");
        assert_eq!(Manifest::decode(&manifest.encode()).unwrap().hash(), manifest.hash());
        assert_eq!(manifest.encoded_len(), manifest.encode().len() as u64);
    }

    #[test]
    fn a_path_that_could_leave_the_tree_is_refused() {
        for path in ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a/.."] {
            let made = manifest(&[entry(path, EntryKind::File, "")]);
            assert!(matches!(made, Err(ManifestError::Path(_))), "{path:?}");
        }
    }

    #[test]
    fn a_file_that_is_also_a_directory_is_refused() {
        for between in ["a-b", "a.b", "z"] {
            let made = manifest(&[
                entry("a", EntryKind::File, ""),
                entry(between, EntryKind::File, ""),
                entry("a/b/c", EntryKind::File, ""),
            ]);
            assert_eq!(made.unwrap_err(), ManifestError::Conflict("a".into()));
        }
        assert!(manifest(&[entry("a/b", EntryKind::File, ""), entry("a/b", EntryKind::File, "")]).is_err());
    }

    #[test]
    fn bytes_that_are_not_the_one_form_are_refused() {
        let good =
            manifest(&[entry("a", EntryKind::File, "x"), entry("b", EntryKind::File, "x")]).unwrap().encode();
        assert!(Manifest::decode(&good).is_ok());
        assert!(Manifest::decode(&good[..good.len() - 1]).is_err());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x80;
            // A changed letter of a name is another manifest; nothing may panic.
            if let Ok(other) = Manifest::decode(&bad) {
                assert_ne!(other.hash(), ContentHash::of(&good));
            }
        }
        let text = String::from_utf8(good).unwrap();
        assert!(Manifest::decode(text.replace(" 1 a", " 01 a").as_bytes()).is_err());
        assert!(Manifest::decode(text.replace("v1", "v2").as_bytes()).is_err());
    }
}
