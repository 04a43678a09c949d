//! What a host that has one tree must be told to have another: the entries that go, those that come, and
//! the contents it has nowhere.
//!
//! Both ends compute the same list of contents from the same two things, so contents follow one
//! another without names or lengths between them.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use sha2::{Digest, Sha256};

use crate::encoded::Encoded;
use crate::hash::ContentHash;
use crate::manifest::{
    Entry, EntryKind, HEADER, Manifest, ManifestError, decode_record, push_record, record_end,
};
use crate::shown::shown;

/// The difference of two manifests.
#[derive(Debug)]
pub struct Delta {
    /// Paths, sorted, each with a NUL at its end.
    gone: Vec<u8>,
    /// What is new or different.
    set: Manifest,
}

/// Why bytes are no delta, or not one of this base.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeltaError {
    /// The entries that come, or what results of them.
    #[error("the entries of a delta are not sound")]
    Manifest(#[from] ManifestError),
    /// A path goes that the base does not have, or paths are out of order.
    #[error("{0:?} is to go and is not there, or is out of order")]
    Gone(String),
    /// The target of a link is longer than any can be.
    #[error("the link {0:?} has a target of {1} bytes")]
    Link(String, u64),
}

/// One content of [`Delta::contents`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content<'a> {
    /// Its name.
    pub hash: ContentHash,
    /// Bytes.
    pub size: u64,
    /// A file of the base that has it; else it is sent.
    pub base: Option<&'a [u8]>,
    /// Positions in [`Delta::set`] that have it, at least one.
    pub entries: Vec<usize>,
}

/// Most bytes of a link's target.
pub const LONGEST_LINK: u64 = 4095;

impl Delta {
    /// All of a manifest: what turns an empty tree into it.
    #[must_use]
    pub fn whole(new: Manifest) -> Self {
        Self { gone: Vec::new(), set: new }
    }

    /// What turns `base` into `new`, which are the bytes of a manifest. Costs a comparison of the bytes, and
    /// little more for each difference.
    ///
    /// # Errors
    /// [`ManifestError`] when one of them is not what it should be, as far as that is seen.
    pub fn between(base: &Encoded, new: &[u8]) -> Result<Self, ManifestError> {
        if !new.starts_with(HEADER) {
            return Err(ManifestError::Version);
        }
        let (mut gone, mut set) = (Vec::new(), HEADER.to_vec());
        let (mut old, mut at) = (0, HEADER.len());
        loop {
            // Both are at the start of an entry; what follows is the same up to one.
            let start = base.starts.get(old).map_or(base.bytes.len(), |&start| start as usize);
            let end = start + shared_prefix(&base.bytes[start..], &new[at..]);
            let upto = base.starts.partition_point(|&begins| begins as usize <= end).max(old + 1) - 1;
            at += base.starts.get(upto).map_or(start, |&begins| begins as usize) - start;
            old = upto;
            let entry = |record| decode_record(record).ok_or(ManifestError::Entry(old));
            let before = base.record(old).map(entry).transpose()?;
            let record = match &new[at..] {
                [] => None,
                rest => Some(&rest[..record_end(rest).ok_or(ManifestError::Form)?]),
            };
            let after = record.map(entry).transpose()?;
            let order = match (&before, &after) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(before), Some(after)) => before.path.cmp(after.path),
            };
            if let (Some(before), Ordering::Less) = (&before, order) {
                gone.extend_from_slice(before.path);
                gone.push(0);
            }
            if order != Ordering::Greater {
                old += 1;
            }
            if let (Some(record), Ordering::Equal | Ordering::Greater) = (record, order) {
                set.extend_from_slice(record);
                set.push(0);
                at += record.len() + 1;
            }
        }
        Ok(Self { gone, set: Manifest::decode(&set)? })
    }

    /// Reads both parts, as [`Delta::gone`] and [`Manifest::encode`] of [`Delta::set`] give them.
    ///
    /// # Errors
    /// [`DeltaError`].
    pub fn decode(gone: Vec<u8>, set: &[u8]) -> Result<Self, DeltaError> {
        let set = Manifest::decode(set)?;
        let too_long = |entry: &Entry<'_>| entry.kind == EntryKind::Symlink && entry.size > LONGEST_LINK;
        if let Some(link) = set.iter().find(too_long) {
            return Err(DeltaError::Link(shown(link.path), link.size));
        }
        if gone.last().is_some_and(|&last| last != 0) {
            return Err(DeltaError::Gone(shown(&gone)));
        }
        Ok(Self { gone, set })
    }

    /// The paths that go, each with a NUL at its end.
    #[must_use]
    pub fn gone(&self) -> &[u8] {
        &self.gone
    }

    /// The paths that go.
    pub fn gone_paths(&self) -> impl Iterator<Item = &[u8]> {
        let all = self.gone.strip_suffix(b"\0");
        all.into_iter().flat_map(|all| all.split(|&byte| byte == 0))
    }

    /// What is new or different.
    #[must_use]
    pub fn set(&self) -> &Manifest {
        &self.set
    }

    /// What results of it.
    ///
    /// # Errors
    /// [`DeltaError`] when this is not a delta of `base`, or the result is no sound manifest. Costs as much as
    /// the delta is large, and not as the base.
    pub fn patch<'d>(&'d self, base: Option<&'d Encoded>) -> Result<Patch<'d>, DeltaError> {
        let mut pieces = Pieces { base, ..Pieces::default() };
        pieces.fresh.extend_from_slice(HEADER);
        let mut news = self.set.iter().peekable();
        let mut before: Option<&[u8]> = None;
        for gone in self.gone_paths() {
            let found = base.map(|base| base.find(gone));
            let (Some(Ok(position)), true) = (found, before.is_none_or(|before| before < gone)) else {
                return Err(DeltaError::Gone(shown(gone)));
            };
            before = Some(gone);
            while let Some(new) = news.next_if(|new| new.path < gone) {
                pieces.set(&new);
            }
            pieces.keep_until(position);
            pieces.next = position + 1;
        }
        news.for_each(|new| pieces.set(&new));
        pieces.keep_until(base.map_or(0, Encoded::len));
        pieces.end_fresh();
        let Pieces { pieces, fresh, new_paths, .. } = pieces;
        u32::try_from(pieces.iter().map(Piece::len).sum::<usize>()).map_err(|_| ManifestError::TooLarge)?;
        Ok(Patch { base, pieces, fresh, set: &self.set, new_paths })
    }

    /// The contents of [`Delta::set`], each once, in the order of their first entry. Those without a
    /// file of the base are what is sent, in this order.
    #[must_use]
    pub fn contents<'a>(&self, base: Option<&'a Encoded>) -> Vec<Content<'a>> {
        let mut contents: Vec<Content<'a>> = Vec::new();
        let mut known: HashMap<ContentHash, usize, BuildHasherDefault<First>> =
            HashMap::with_capacity_and_hasher(self.set.len(), BuildHasherDefault::default());
        for (position, entry) in self.set.iter().enumerate() {
            let at = *known.entry(entry.hash).or_insert_with(|| {
                let (hash, size) = (entry.hash, entry.size);
                contents.push(Content { hash, size, base: None, entries: Vec::new() });
                contents.len() - 1
            });
            if let Some(content) = contents.get_mut(at) {
                content.entries.push(position);
            }
        }
        let Some(base) = base.filter(|_| !contents.is_empty()) else { return contents };
        // Most entries of the base are told apart by a few digits, without being decoded.
        let mut sieve = vec![false; 1 << 16];
        for content in &contents {
            let mut digits = Vec::with_capacity(64);
            content.hash.push_hex(&mut digits);
            sieve[of_digits(&digits)] = true;
        }
        for position in 0..base.len() {
            let digits = base.record(position).and_then(|record| record.get(2..6)).unwrap_or_default();
            if !sieve[of_digits(digits)] {
                continue;
            }
            if let Some(old) = base.at(position)
                && old.kind != EntryKind::Symlink
                && let Some(content) = known.get(&old.hash).and_then(|&at| contents.get_mut(at))
                && content.base.is_none()
                && content.size == old.size
            {
                content.base = Some(old.path);
            }
        }
        contents
    }
}

/// What is sent of these contents, told in one hash: that of their hashes, in their order.
#[must_use]
pub fn sent(contents: &[Content<'_>]) -> ContentHash {
    let mut hasher = Sha256::new();
    contents
        .iter()
        .filter(|content| content.base.is_none())
        .for_each(|content| hasher.update(content.hash.0));
    ContentHash(hasher.finalize().into())
}

/// A number of 16 bits, of the first four hexadecimal digits.
fn of_digits(digits: &[u8]) -> usize {
    let digit = |digit: &u8| usize::from(digit & 15) + usize::from(digit >> 6) * 9;
    digits.iter().take(4).fold(0, |number, next| (number << 4 | (digit(next) & 15)) & 0xffff)
}

/// A hash is as good as any hash of it.
#[derive(Debug, Default)]
struct First(u64);

impl Hasher for First {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    /// The length of an array comes before it.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A manifest that is made of another one: pieces of that, and entries between them.
#[derive(Debug)]
pub struct Patch<'d> {
    base: Option<&'d Encoded>,
    pieces: Vec<Piece>,
    fresh: Vec<u8>,
    set: &'d Manifest,
    /// Those that the base does not have.
    new_paths: Vec<&'d [u8]>,
}

/// Bytes of one of both.
#[derive(Debug)]
enum Piece {
    Base(std::ops::Range<usize>),
    Fresh(std::ops::Range<usize>),
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Self::Base(range) | Self::Fresh(range) => range.len(),
        }
    }
}

impl Patch<'_> {
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let base = self.base.map_or(&[][..], Encoded::bytes);
        self.pieces.iter().map(move |piece| match piece {
            Piece::Base(range) => base.get(range.clone()).unwrap_or_default(),
            Piece::Fresh(range) => self.fresh.get(range.clone()).unwrap_or_default(),
        })
    }

    /// The content hash. Reads all of it.
    #[must_use]
    pub fn hash(&self) -> ContentHash {
        let mut hasher = Sha256::new();
        self.pieces().for_each(|piece| hasher.update(piece));
        ContentHash(hasher.finalize().into())
    }

    /// The bytes together, named as is said. [`Patch::hash`] tells whether that is right.
    ///
    /// # Errors
    /// [`ManifestError`] when a file would be a directory too.
    pub fn encoded(&self, hash: ContentHash) -> Result<Encoded, ManifestError> {
        let mut bytes = Vec::with_capacity(self.pieces.iter().map(Piece::len).sum());
        let kept = self.base.map_or(0, Encoded::len);
        let mut starts: Vec<u32> = Vec::with_capacity(kept + self.set.len() + 1);
        let mut end = 0;
        for (piece, text) in self.pieces.iter().zip(self.pieces()) {
            // All ends fit: they were added up when this was made.
            let at = bytes.len();
            bytes.extend_from_slice(text);
            match (piece, self.base) {
                (Piece::Base(range), Some(base)) => {
                    let begins = |start: usize| base.starts.partition_point(|&at| (at as usize) < start);
                    let kept = base.starts.get(begins(range.start)..begins(range.end)).unwrap_or_default();
                    starts
                        .extend(kept.iter().map(|&start| start.wrapping_sub(range.start as u32) + at as u32));
                }
                _ => {
                    let mut from = if at == 0 { HEADER.len() } else { 0 };
                    while let Some(length) = text.get(from..).and_then(record_end) {
                        starts.push((at + from) as u32);
                        from += length + 1;
                    }
                }
            }
            end = bytes.len();
        }
        starts.push(end as u32);
        let made = Encoded { bytes, starts, hash };
        // What was sound stays so; a new path could lie in a file, or another one in it.
        for &path in &self.new_paths {
            let above = path.iter().enumerate().filter(|&(_, &byte)| byte == b'/');
            let file = above.map(|(end, _)| &path[..end]).find(|above| made.find(above).is_ok());
            let file = file.or_else(|| made.has_inside(path).then_some(path));
            if let Some(file) = file {
                return Err(ManifestError::Conflict(shown(file)));
            }
        }
        Ok(made)
    }
}

/// A patch that is being made.
#[derive(Default)]
struct Pieces<'b> {
    base: Option<&'b Encoded>,
    pieces: Vec<Piece>,
    fresh: Vec<u8>,
    /// How much of `fresh` is in a piece.
    told: usize,
    /// The entry of the base that is neither kept nor replaced yet.
    next: usize,
    new_paths: Vec<&'b [u8]>,
}

impl<'b> Pieces<'b> {
    /// Takes a new entry, in the place of one of the same path.
    fn set(&mut self, new: &Entry<'b>) {
        match self.base.map(|base| base.find(new.path)) {
            Some(Ok(position)) => {
                self.keep_until(position);
                self.next = self.next.max(position + 1);
            }
            Some(Err(position)) => {
                self.keep_until(position);
                self.new_paths.push(new.path);
            }
            // A manifest of its own, which was checked.
            None => {}
        }
        push_record(&mut self.fresh, new);
    }

    fn keep_until(&mut self, position: usize) {
        let Some(base) = self.base else { return };
        if position <= self.next {
            return;
        }
        let start = |position: usize| base.starts.get(position).map_or(base.bytes.len(), |&at| at as usize);
        self.end_fresh();
        self.pieces.push(Piece::Base(start(self.next)..start(position)));
        self.next = position;
    }

    fn end_fresh(&mut self) {
        if self.told < self.fresh.len() {
            self.pieces.push(Piece::Fresh(self.told..self.fresh.len()));
            self.told = self.fresh.len();
        }
    }
}

fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    const BLOCK: usize = 4096;
    let blocks = a.chunks_exact(BLOCK).zip(b.chunks_exact(BLOCK)).take_while(|(a, b)| a == b).count() * BLOCK;
    blocks + a[blocks..].iter().zip(&b[blocks..]).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Tree = std::collections::BTreeMap<String, (u8, u8)>;

    /// Few names and contents, so that files become directories, links, and each other.
    fn tree() -> impl Strategy<Value = Tree> {
        let path = prop::collection::vec(prop::sample::select(vec!["a", "b", "a.b", "c"]), 1..4);
        let path = path.prop_map(|parts| parts.join("/"));
        prop::collection::btree_map(path, (0u8..3, 0u8..5), 0..12)
    }

    fn content(number: u8) -> Vec<u8> {
        vec![number; usize::from(number)]
    }

    fn manifest(tree: &Tree) -> Manifest {
        let inside = |path: &str| tree.keys().any(|other| path.starts_with(&format!("{other}/")));
        let entries = tree.iter().filter(|(path, _)| !inside(path)).map(|(path, &(kind, number))| Entry {
            path: path.as_bytes(),
            kind: [EntryKind::File, EntryKind::Executable, EntryKind::Symlink][usize::from(kind)],
            hash: ContentHash::of(&content(number)),
            size: u64::from(number),
        });
        Manifest::from_entries(entries).unwrap()
    }

    proptest! {
        #[test]
        fn a_delta_that_went_over_the_wire_turns_its_base_into_the_other_tree(a in tree(), b in tree()) {
            let (a, b) = (Encoded::from(&manifest(&a)), manifest(&b));
            for base in [Some(&a), None] {
                let made = match base {
                    Some(base) => Delta::between(base, &b.encode()).unwrap(),
                    None => Delta::whole(b.clone()),
                };
                let read = Delta::decode(made.gone().to_vec(), &made.set().encode()).unwrap();
                let patch = read.patch(base).unwrap();
                prop_assert_eq!(patch.hash(), b.hash());
                let result = patch.encoded(b.hash()).unwrap();
                prop_assert_eq!(result.bytes(), b.encode());
                prop_assert!(result.iter().eq(b.iter()));
                prop_assert_eq!(read.contents(base), made.contents(base));
            }
        }

        #[test]
        fn every_content_comes_once_and_none_that_the_base_has(a in tree(), b in tree()) {
            let (a, b) = (manifest(&a), manifest(&b));
            let base = Encoded::from(&a);
            let delta = Delta::between(&base, &b.encode()).unwrap();
            let mut seen = std::collections::HashSet::new();
            let mut entries = 0;
            for content in delta.contents(Some(&base)) {
                prop_assert!(seen.insert(content.hash));
                entries += content.entries.len();
                let has = a.iter().any(|old| old.hash == content.hash && old.kind != EntryKind::Symlink);
                prop_assert_eq!(content.base.is_some(), has);
            }
            prop_assert_eq!(entries, delta.set().len());
        }
    }

    fn of_paths(paths: &[&str]) -> Manifest {
        manifest(&paths.iter().map(|path| ((*path).to_owned(), (0, 1))).collect())
    }

    #[test]
    fn a_delta_of_another_base_is_refused() {
        let (both, one) = (Encoded::from(&of_paths(&["a", "b"])), of_paths(&["a"]));
        let delta = Delta::between(&both, &one.encode()).unwrap();
        let refused = |delta: &Delta, base: &Encoded| delta.patch(Some(base)).err();
        assert_eq!(refused(&delta, &Encoded::from(&one)), Some(DeltaError::Gone("b".into())));
        let swapped = Delta::decode(b"b\0a\0".to_vec(), &Manifest::empty().encode()).unwrap();
        assert_eq!(refused(&swapped, &both), Some(DeltaError::Gone("a".into())));
        let twice = Delta::decode(b"b\0b\0".to_vec(), &Manifest::empty().encode()).unwrap();
        assert_eq!(refused(&twice, &both), Some(DeltaError::Gone("b".into())));
        assert_eq!(delta.patch(None).err(), Some(DeltaError::Gone("b".into())));
        assert!(Delta::decode(b"b".to_vec(), &Manifest::empty().encode()).is_err());
    }

    #[test]
    fn a_delta_that_makes_a_file_a_directory_too_is_refused() {
        for (base, set) in [(["a", "b"], ["a/c/d"]), (["a/c/d", "a/c-"], ["a"]), (["a/c/d", "b"], ["a/c"])] {
            let base = Encoded::from(&of_paths(&base));
            let delta = Delta::decode(Vec::new(), &of_paths(&set).encode()).unwrap();
            let patch = delta.patch(Some(&base)).unwrap();
            assert!(matches!(patch.encoded(patch.hash()), Err(ManifestError::Conflict(_))), "{set:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_manifest_are_an_error_and_no_panic() {
        let good = of_paths(&["a", "b/c", "d"]).encode();
        let base = Encoded::from(&of_paths(&["a", "b/d"]));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x91;
            drop(Delta::between(&base, &bad));
            if let Ok(bad) = Encoded::unproven(bad, ContentHash::of(&good)) {
                assert!(!bad.is_proven());
                if let Ok(delta) = Delta::between(&bad, &good) {
                    drop(delta.patch(Some(&bad)).map(|patch| patch.encoded(patch.hash())));
                }
            }
            drop(Delta::between(&base, &good[..at]));
        }
    }
}
