//! What a host that has one tree must be told to have another: the entries that go, those that come, and
//! the contents it has nowhere.
//!
//! Both ends compute the same list of contents from the same two things, so contents follow one
//! another without names or lengths between them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use sha2::{Digest, Sha256};

use crate::encoded::Encoded;
use crate::hash::ContentHash;
use crate::manifest::{Entry, EntryKind, Manifest, ManifestError, decode_record, record_end};
use crate::shown::shown;

/// The difference of two manifests.
#[derive(Debug)]
pub struct Delta {
    /// Paths, sorted, each with a NUL at its end.
    pub(crate) gone: Vec<u8>,
    /// What is new or different.
    pub(crate) set: Manifest,
    /// The entries of the base that are not in the other one, where both were compared.
    pub(crate) left: Vec<u8>,
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
        Self { gone: Vec::new(), set: new, left: Vec::new() }
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
        Ok(Self { gone, set, left: Vec::new() })
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

    /// The contents of [`Delta::set`], each once, in the order of their first entry. Those without a
    /// file of the base are what is sent, in this order.
    #[must_use]
    pub fn contents<'a>(&self, base: Option<&'a Encoded>) -> Vec<Content<'a>> {
        let mut contents = Contents::of(&self.set);
        let Some(base) = base.filter(|_| !contents.list.is_empty()) else { return contents.list };
        // Most entries of the base are told apart by a few digits, without being decoded.
        for (position, &first) in base.firsts().iter().enumerate() {
            if contents.may_have(usize::from(first))
                && let Some(old) = base.at(position)
            {
                contents.found(&old);
            }
        }
        contents.list
    }

    /// The same, without the base, for who has `new`, of which this was made by [`Delta::between`]: what stays of the
    /// base is in there, and the rest of it was seen then.
    #[must_use]
    pub fn contents_of<'a>(&'a self, new: &'a Manifest) -> Vec<Content<'a>> {
        let mut contents = Contents::of(&self.set);
        for entry in new.iter() {
            if contents.may_have(first_16(&entry.hash)) && self.set.get(entry.path).is_none() {
                contents.found(&entry);
            }
        }
        let mut rest = &self.left[..];
        while let Some(end) = record_end(rest) {
            if let Some(old) = decode_record(&rest[..end]) {
                contents.found(&old);
            }
            rest = &rest[end + 1..];
        }
        contents.list
    }
}

/// A list of contents that is being made.
struct Contents<'a> {
    list: Vec<Content<'a>>,
    positions: HashMap<ContentHash, usize, BuildHasherDefault<First>>,
    /// By the first 16 bits of a hash: whether it may be one of the list.
    sieve: Vec<bool>,
}

impl<'a> Contents<'a> {
    fn of(set: &Manifest) -> Self {
        let mut list: Vec<Content<'a>> = Vec::new();
        let mut positions = HashMap::with_capacity_and_hasher(set.len(), BuildHasherDefault::default());
        let mut sieve = vec![false; 1 << 16];
        for (position, entry) in set.iter().enumerate() {
            let at = *positions.entry(entry.hash).or_insert_with(|| {
                let (hash, size) = (entry.hash, entry.size);
                list.push(Content { hash, size, base: None, entries: Vec::new() });
                sieve[first_16(&hash)] = true;
                list.len() - 1
            });
            if let Some(content) = list.get_mut(at) {
                content.entries.push(position);
            }
        }
        Self { list, positions, sieve }
    }

    fn may_have(&self, first: usize) -> bool {
        self.sieve[first & 0xffff]
    }

    /// Notes an entry of the base.
    fn found(&mut self, old: &Entry<'a>) {
        if old.kind != EntryKind::Symlink
            && let Some(content) = self.positions.get(&old.hash).and_then(|&at| self.list.get_mut(at))
            && content.base.is_none()
            && content.size == old.size
        {
            content.base = Some(old.path);
        }
    }
}

/// The first 16 bits.
fn first_16(hash: &ContentHash) -> usize {
    usize::from(hash.0[0]) << 8 | usize::from(hash.0[1])
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
            let (whole, b) = (manifest(&a), manifest(&b));
            let a = Encoded::from(&whole);
            for base in [Some(&a), None] {
                let made = match base {
                    Some(base) => Delta::between(base.bytes(), &b.encode()[..]).unwrap(),
                    None => Delta::whole(b.clone()),
                };
                if base.is_some() {
                    let known = Delta::of(&whole, &b).unwrap();
                    prop_assert_eq!((&known.gone, known.set.encode()), (&made.gone, made.set.encode()));
                    prop_assert_eq!(&known.left, &made.left);
                }
                let read = Delta::decode(made.gone().to_vec(), &made.set().encode()).unwrap();
                let patch = read.patch(base).unwrap();
                prop_assert!(patch.proof().is_of(&b.hash()));
                let result = patch.encoded(b.hash());
                prop_assert_eq!(result.bytes(), b.encode());
                prop_assert!(result.iter().eq(b.iter()));
                prop_assert_eq!(read.contents(base), made.contents(base));
                if base.is_some() {
                    let sent = |list: Vec<Content<'_>>| -> Vec<_> {
                        list.into_iter().map(|content| (content.hash, content.base.is_some())).collect()
                    };
                    prop_assert_eq!(sent(made.contents_of(&b)), sent(read.contents(base)));
                }
            }
        }

        #[test]
        fn every_content_comes_once_and_none_that_the_base_has(a in tree(), b in tree()) {
            let (a, b) = (manifest(&a), manifest(&b));
            let base = Encoded::from(&a);
            let delta = Delta::between(base.bytes(), &b.encode()[..]).unwrap();
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
        let delta = Delta::between(both.bytes(), &one.encode()[..]).unwrap();
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
            let refused = delta.patch(Some(&base)).err();
            assert!(
                matches!(refused, Some(DeltaError::Manifest(ManifestError::Conflict(_)))),
                "{set:?}: {refused:?}"
            );
        }
    }

    #[test]
    fn what_follows_a_proven_beginning_has_the_hash_of_the_whole() {
        let paths: Vec<String> = (0..25_000).map(|number| format!("directory/file-{number:06}")).collect();
        let (kind, hash) = (EntryKind::File, ContentHash::of(b"x"));
        let entries = paths.iter().map(|path| Entry { path: path.as_bytes(), kind, hash, size: 1 });
        let base = Manifest::from_entries(entries).unwrap();
        let mut base = Encoded::own(base.encode(), base.hash()).unwrap();
        // Over the bounds of what is kept, at the start, at the end; each upon the last.
        for changed in [20_000, 24_998, 0] {
            let entries = base.iter().enumerate();
            let entries =
                entries.map(|(at, entry)| Entry { size: entry.size + u64::from(at == changed), ..entry });
            let new = Manifest::from_entries(entries.filter(|entry| entry.path != b"directory/file-012500"))
                .unwrap();
            let delta = Delta::between(base.bytes(), &new.encode()[..]).unwrap();
            assert_eq!(delta.set().len(), 1);
            let patch = delta.patch(Some(&base)).unwrap();
            let proof = patch.proof();
            assert!(proof.is_of(&new.hash()), "{changed}");
            base = patch.encoded(new.hash()).proven_by(proof);
        }
    }

    #[test]
    fn bytes_that_are_no_manifest_are_an_error_and_no_panic() {
        let good = of_paths(&["a", "b/c", "d"]).encode();
        let base = of_paths(&["a", "b/d"]).encode();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x91;
            drop(Delta::between(&base[..], &bad[..]));
            drop(Delta::between(&base[..], &good[..at]));
            for (old, new) in [(&bad[..], &good[..]), (&good[..at], &good[..])] {
                if let Ok(delta) = Delta::between(old, new) {
                    drop(
                        delta
                            .patch(Some(&Encoded::from(&of_paths(&["a", "b/c", "d"]))))
                            .map(|patch| patch.proof()),
                    );
                    drop(delta.contents_of(&of_paths(&["a", "b/c", "d"])));
                }
            }
        }
    }

    #[test]
    fn entries_longer_than_what_is_read_at_once_are_compared() {
        let long = |letter: &str| letter.repeat(900_000);
        let (base, new) =
            ([long("a"), long("b"), "c".into()], [long("a"), format!("{}x", long("b")), "c".into()]);
        let made = |paths: &[String]| of_paths(&paths.iter().map(String::as_str).collect::<Vec<_>>());
        let (base, new) = (Encoded::from(&made(&base)), made(&new));
        let delta = Delta::between(base.bytes(), &new.encode()[..]).unwrap();
        assert_eq!((delta.gone_paths().count(), delta.set().len()), (1, 1));
        assert!(delta.patch(Some(&base)).unwrap().proof().is_of(&new.hash()));
    }
}
