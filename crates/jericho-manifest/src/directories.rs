//! The directories that a manifest implies.

use crate::at::split;
use crate::encoded::Encoded;

/// All directories of a tree but its root, each once and after the one that it lies in.
#[derive(Debug, Default)]
pub struct Directories {
    names: Vec<u8>,
    /// Where each ends in `names`.
    ends: Vec<usize>,
}

impl Directories {
    pub(crate) fn of(manifest: &Encoded) -> Self {
        let mut found = Self::default();
        let mut previous: &[u8] = b"";
        for position in 0..manifest.len() {
            let path = manifest.path(position);
            let name = match previous {
                [] => Some(path),
                _ => path.strip_prefix(previous).and_then(|below| below.strip_prefix(b"/")),
            };
            if name.is_some_and(|name| !name.contains(&b'/')) {
                continue;
            }
            // What lies in one directory follows one another, so that those of the last path are all that may be known.
            let directory = split(path).0;
            let ends = directory.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(end, _)| end);
            for end in ends.chain([directory.len()]).filter(|&end| end > 0) {
                let above = &directory[..end];
                if !previous.starts_with(above) || !matches!(previous.get(end), None | Some(b'/')) {
                    found.names.extend_from_slice(above);
                    found.ends.push(found.names.len());
                }
            }
            previous = directory;
        }
        found
    }

    /// Their number.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether all files lie at the top.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The path at a position; empty where there is none.
    #[must_use]
    pub fn at(&self, position: usize) -> &[u8] {
        let start = position.checked_sub(1).map_or(Some(&0), |before| self.ends.get(before));
        let range = start.zip(self.ends.get(position)).map(|(&start, &end)| start..end);
        range.and_then(|range| self.names.get(range)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ContentHash, Entry, EntryKind, Manifest};

    #[test]
    fn each_directory_is_listed_once_and_after_the_one_it_lies_in() {
        let paths = ["a-b/x", "a/b", "a/c/d/e", "a/c/f", "a/cc/g", "a/z", "b", "c/d/e/f"];
        let hash = ContentHash::of(b"");
        let entries = paths.map(|path| Entry { path: path.as_bytes(), kind: EntryKind::File, hash, size: 0 });
        let found = Directories::of(&Encoded::from(&Manifest::from_entries(entries).unwrap()));
        let all: Vec<_> = (0..found.len()).map(|at| std::str::from_utf8(found.at(at)).unwrap()).collect();
        assert_eq!(all, ["a-b", "a", "a/c", "a/c/d", "a/cc", "c", "c/d", "c/d/e"]);
        assert_eq!(found.at(99), b"");
    }
}
