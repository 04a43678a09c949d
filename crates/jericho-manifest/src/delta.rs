//! What a host that has one tree must be told to have another: the entries that go, those that come, and
//! the contents it has nowhere.
//!
//! Both ends compute the same list of contents from the same two things, so contents follow one
//! another without names or lengths between them.

use std::cmp::Ordering;
use std::collections::HashMap;

use crate::hash::ContentHash;
use crate::manifest::{Entry, EntryKind, Manifest, ManifestError, Row};
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
    /// What turns `base` into `new`; without a base, all of it.
    #[must_use]
    pub fn between(base: Option<&Manifest>, new: &Manifest) -> Self {
        let empty = Manifest::empty();
        let changes = Manifest::diff(base.unwrap_or(&empty), new);
        let mut gone = Vec::new();
        for change in changes.iter().filter(|change| change.new.is_none()) {
            gone.extend_from_slice(change.path());
            gone.push(0);
        }
        // A part of a sound manifest is sound.
        let set = Manifest::from_entries(changes.iter().filter_map(|change| change.new)).unwrap_or(empty);
        Self { gone, set }
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

    /// The manifest that results.
    ///
    /// # Errors
    /// [`DeltaError`] when this is not a delta of `base`, or the result is no sound manifest.
    pub fn apply(&self, base: Option<&Manifest>) -> Result<Manifest, DeltaError> {
        let empty = Manifest::empty();
        let base = base.unwrap_or(&empty);
        let mut names = Vec::with_capacity(base.names_len() + self.set.names_len());
        let mut rows = Vec::with_capacity(base.len() + self.set.len());
        let mut push = |entry: Entry<'_>| -> Result<(), DeltaError> {
            let start = u32::try_from(names.len()).map_err(|_| ManifestError::TooLarge)?;
            let len = u32::try_from(entry.path.len()).map_err(|_| ManifestError::TooLarge)?;
            names.extend_from_slice(entry.path);
            rows.push(Row { start, len, kind: entry.kind, hash: entry.hash, size: entry.size });
            Ok(())
        };
        let (mut gone, mut set) = (self.gone_paths().peekable(), self.set.iter().peekable());
        for old in base.iter() {
            while let Some(new) = set.next_if(|new| new.path < old.path) {
                push(new)?;
            }
            if gone.next_if(|gone| *gone == old.path).is_some() {
                continue;
            }
            match set.next_if(|new| new.path.cmp(old.path) == Ordering::Equal) {
                Some(new) => push(new)?,
                None => push(old)?,
            }
        }
        if let Some(gone) = gone.next() {
            return Err(DeltaError::Gone(shown(gone)));
        }
        for new in set {
            push(new)?;
        }
        Ok(Manifest::from_sorted(names, rows)?)
    }

    /// The contents of [`Delta::set`], each once, in the order of their first entry. Those without a
    /// file of the base are what is sent, in this order.
    #[must_use]
    pub fn contents<'a>(&self, base: Option<&'a Manifest>) -> Vec<Content<'a>> {
        let mut contents: Vec<Content<'a>> = Vec::new();
        let mut known: HashMap<ContentHash, usize> = HashMap::with_capacity(self.set.len());
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
        let files = base.into_iter().flat_map(Manifest::iter);
        for old in files.filter(|old| old.kind != EntryKind::Symlink) {
            if let Some(content) = known.get(&old.hash).and_then(|&at| contents.get_mut(at))
                && content.base.is_none()
                && content.size == old.size
            {
                content.base = Some(old.path);
            }
        }
        contents
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
            let (a, b) = (manifest(&a), manifest(&b));
            for base in [Some(&a), None] {
                let made = Delta::between(base, &b);
                let read = Delta::decode(made.gone().to_vec(), &made.set().encode()).unwrap();
                prop_assert_eq!(read.apply(base).unwrap().encode(), b.encode());
                prop_assert_eq!(read.contents(base), made.contents(base));
            }
        }

        #[test]
        fn every_content_comes_once_and_none_that_the_base_has(a in tree(), b in tree()) {
            let (a, b) = (manifest(&a), manifest(&b));
            let delta = Delta::between(Some(&a), &b);
            let mut seen = std::collections::HashSet::new();
            let mut entries = 0;
            for content in delta.contents(Some(&a)) {
                prop_assert!(seen.insert(content.hash));
                entries += content.entries.len();
                let has = a.iter().any(|old| old.hash == content.hash && old.kind != EntryKind::Symlink);
                prop_assert_eq!(content.base.is_some(), has);
            }
            prop_assert_eq!(entries, delta.set().len());
        }
    }

    #[test]
    fn a_delta_of_another_base_is_refused() {
        let tree =
            |paths: &[&str]| manifest(&paths.iter().map(|path| ((*path).to_owned(), (0, 1))).collect());
        let delta = Delta::between(Some(&tree(&["a", "b"])), &tree(&["a"]));
        assert_eq!(delta.apply(Some(&tree(&["a"]))).unwrap_err(), DeltaError::Gone("b".into()));
        let swapped = Delta::decode(b"b\0a\0".to_vec(), &Manifest::empty().encode()).unwrap();
        assert_eq!(swapped.apply(Some(&tree(&["a", "b"]))).unwrap_err(), DeltaError::Gone("a".into()));
        assert!(Delta::decode(b"b".to_vec(), &Manifest::empty().encode()).is_err());
    }
}
