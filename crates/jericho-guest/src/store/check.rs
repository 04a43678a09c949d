//! Whether a tree still is what its manifest says.
//!
//! By lstat(2): every directory and file is there, of its kind, with its mode and size, and none was
//! changed after the publication. The time of a directory tells of names that came or went in it. Contents
//! are read when the system was booted since they were last known to be right.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

use jericho_host::sys::processors;
use jericho_manifest::at::{self, DirCursor};
use jericho_manifest::shown::shown;
use jericho_manifest::{ContentHash, Encoded, Entry, EntryKind, MARKER};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode, Stat, Timespec, Timestamps};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

/// A thread more is worth its start from this many entries on.
const MANY: usize = 2000;

/// How closely a tree is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Its directories.
    Directories,
    /// Every file too.
    Files,
    /// Every content too.
    Contents,
}

/// Looks at the tree of a snapshot. `dir` is the directory of the snapshot. The error is a part of a
/// sentence.
pub(super) fn tree(
    dir: impl AsFd,
    manifest: &Encoded,
    published: (i64, i64),
    depth: Depth,
) -> Result<(), String> {
    let root = at::open_dir(&dir, b"snapshot").map_err(|errno| format!("its tree is missing ({errno})"))?;
    let checker = Checker { root: root.as_fd(), manifest, published, depth };
    let stat = rustix::fs::fstat(&root).map_err(|errno| errno.to_string())?;
    checker.directory(b"", &stat)?;
    // The same for all threads.
    let count = match depth {
        Depth::Directories => manifest.directories().len(),
        Depth::Files | Depth::Contents => manifest.len(),
    };
    let threads = if count < MANY { 1 } else { processors() };
    let part = count.div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads)
            .map(|number| {
                let checker = &checker;
                scope.spawn(move || checker.range(number * part, (number + 1) * part))
            })
            .collect();
        let mut all = checker.range(0, part);
        for other in others {
            all = all.and(other.join().unwrap_or_else(|_| Err("the check has a fault".to_owned())));
        }
        all
    })
}

/// Whether the source has a file or directory where the marker would lie in the tree.
pub(super) fn shadows_marker(manifest: &Encoded) -> bool {
    manifest.find(MARKER.as_bytes()).is_ok() || manifest.has_inside(MARKER.as_bytes())
}

/// Whether the marker lies in the tree, where earlier versions put it and where jobs would see it. `dir` is the directory
/// of the snapshot.
pub(super) fn shows_marker(dir: impl AsFd, manifest: &Encoded) -> rustix::io::Result<bool> {
    if shadows_marker(manifest) {
        return Ok(false);
    }
    match at::lstat(at::open_dir(dir, b"snapshot")?, MARKER.as_bytes()) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Takes it out of there. The directory gets its time back, which tells that no name in it was changed.
pub(super) fn hide_marker(dir: impl AsFd) -> rustix::io::Result<()> {
    let root = at::open_dir(dir, b"snapshot")?;
    let stat = rustix::fs::fstat(&root)?;
    rustix::fs::unlinkat(&root, MARKER, AtFlags::empty())?;
    let omitted = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    let changed = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.try_into().unwrap_or(0) };
    rustix::fs::utimensat(
        &root,
        ".",
        &Timestamps { last_access: omitted, last_modification: changed },
        AtFlags::empty(),
    )
}

/// Visits entries in the order of their paths, and each directory on the way before what is in it.
pub(super) fn walk<'m, E>(
    root: BorrowedFd<'_>,
    entries: impl Iterator<Item = Entry<'m>>,
    mut directory: impl FnMut(&[u8], &Stat) -> Result<(), E>,
    mut entry_in: impl FnMut(&Entry<'m>, BorrowedFd<'_>, &[u8]) -> Result<(), E>,
    broken: impl Fn(&[u8], Errno) -> E,
) -> Result<(), E> {
    let mut cursor = DirCursor::new(root);
    let mut previous: &[u8] = b"";
    for entry in entries {
        let (dir, name) = at::split(entry.path);
        if dir != previous {
            let ends = dir.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(end, _)| end);
            for end in ends.chain([dir.len()]).filter(|&end| end > 0) {
                let above = &dir[..end];
                let seen = previous.starts_with(above) && matches!(previous.get(end), None | Some(b'/'));
                if !seen {
                    let entered = cursor.enter(above).map_err(|errno| broken(above, errno))?;
                    let stat = rustix::fs::fstat(entered).map_err(|errno| broken(above, errno))?;
                    directory(above, &stat)?;
                }
            }
            previous = dir;
        }
        let parent = cursor.enter(dir).map_err(|errno| broken(dir, errno))?;
        entry_in(&entry, parent, name)?;
    }
    Ok(())
}

struct Checker<'c> {
    root: BorrowedFd<'c>,
    manifest: &'c Encoded,
    published: (i64, i64),
    depth: Depth,
}

impl Checker<'_> {
    fn range(&self, from: usize, to: usize) -> Result<(), String> {
        let broken = |path: &[u8], errno: Errno| format!("{} is missing ({errno})", shown(path));
        if self.depth == Depth::Directories {
            return self.directories(from, to);
        }
        let entries = (from..to.min(self.manifest.len())).filter_map(|position| self.manifest.at(position));
        walk(
            self.root,
            entries,
            |path, stat| self.directory(path, stat),
            |entry, parent, name| self.entry(entry, parent, name),
            broken,
        )
    }

    /// So many of the directories: one lstat(2) for each, and those that others lie in are opened.
    fn directories(&self, from: usize, to: usize) -> Result<(), String> {
        let mut cursor = DirCursor::new(self.root);
        let directories = self.manifest.directories();
        for position in from..to.min(directories.len()) {
            let path = directories.at(position);
            let (above, name) = at::split(path);
            let stat = cursor.enter(above).and_then(|parent| at::lstat(parent, name));
            let stat = stat.map_err(|errno| format!("{} is missing ({errno})", shown(path)))?;
            if at::kind_of(&stat) != FileType::Directory {
                return Err(format!("{} is something else", shown(path)));
            }
            self.directory(path, &stat)?;
        }
        Ok(())
    }

    fn directory(&self, path: &[u8], stat: &Stat) -> Result<(), String> {
        let what = || if path.is_empty() { "its tree".to_owned() } else { shown(path) };
        if stat.st_mode as RawMode & 0o777 != 0o755 {
            return Err(format!("{} has another mode", what()));
        }
        if self.is_later(stat) {
            return Err(format!("names in {} were changed", what()));
        }
        Ok(())
    }

    fn entry(&self, entry: &Entry<'_>, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), String> {
        let path = || shown(entry.path);
        let stat = at::lstat(parent, name).map_err(|errno| format!("{} is missing ({errno})", path()))?;
        let (kind, mode) = match entry.kind {
            EntryKind::File => (FileType::RegularFile, 0o644),
            EntryKind::Executable => (FileType::RegularFile, 0o755),
            EntryKind::Symlink => (FileType::Symlink, 0o777),
        };
        if at::kind_of(&stat) != kind {
            return Err(format!("{} is something else", path()));
        }
        if stat.st_mode as RawMode & 0o7777 != mode && kind == FileType::RegularFile {
            return Err(format!("{} has another mode", path()));
        }
        if u64::try_from(stat.st_size) != Ok(entry.size) {
            return Err(format!("{} has another length", path()));
        }
        if self.is_later(&stat) {
            return Err(format!("{} was changed", path()));
        }
        if self.depth == Depth::Contents {
            let hash = content(entry, parent, name);
            if hash.map_err(|error| format!("{} cannot be read ({error})", path()))? != entry.hash {
                return Err(format!("{} has another content", path()));
            }
        }
        Ok(())
    }

    fn is_later(&self, stat: &Stat) -> bool {
        (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)) > self.published
    }
}

fn content(entry: &Entry<'_>, parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<ContentHash> {
    if entry.kind == EntryKind::Symlink {
        return Ok(ContentHash::of(rustix::fs::readlinkat(parent, name, Vec::new())?.as_bytes()));
    }
    let mut file = open_file(parent, name)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(ContentHash(hasher.finalize().into())),
            Ok(count) => hasher.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Opens a file of a tree for reading, and nothing else that has its name.
pub(super) fn open_file(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::openat(parent, name, flags, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no file")) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use super::*;

    const PATHS: [&str; 7] = ["a-b/x", "a/c/one", "a/c/two", "a/d-/x", "a/d/e/f/deep", "top", "z/only/below"];

    fn look(dir: &Path, depth: Depth) -> Result<(), String> {
        let entries = PATHS.map(|path| Entry {
            path: path.as_bytes(),
            kind: EntryKind::File,
            hash: ContentHash::of(b"x"),
            size: 1,
        });
        let manifest = jericho_manifest::Manifest::from_entries(entries).unwrap();
        let published = fs::metadata(dir.join("published")).unwrap();
        let published = {
            use std::os::unix::fs::MetadataExt;
            (published.mtime(), published.mtime_nsec())
        };
        tree(fs::File::open(dir).unwrap(), &Encoded::from(&manifest), published, depth)
    }

    #[test]
    fn every_directory_of_a_large_tree_is_looked_at() {
        type Damage<'a> = (&'a str, &'a dyn Fn(&Path));
        let damages: [Damage<'_>; 9] = [
            ("", &|_| {}),
            ("names in a/c were changed", &|tree| fs::remove_file(tree.join("a/c/one")).unwrap()),
            ("a/d/e is missing", &|tree| fs::rename(tree.join("a/d/e"), tree.join("a/d/e2")).unwrap()),
            ("names in a/d/e/f were changed", &|tree| fs::write(tree.join("a/d/e/f/more"), "").unwrap()),
            ("names in its tree were changed", &|tree| fs::write(tree.join("more"), "").unwrap()),
            ("names in z were changed", &|tree| fs::write(tree.join("z/more"), "").unwrap()),
            ("a-b has another mode", &|tree| {
                fs::set_permissions(tree.join("a-b"), fs::Permissions::from_mode(0o700)).unwrap();
            }),
            ("a/d- is something else", &|tree| {
                fs::rename(tree.join("a/d-"), tree.join("../aside")).unwrap();
                symlink("../../aside", tree.join("a/d-")).unwrap();
            }),
            ("z is something else", &|tree| {
                fs::remove_dir_all(tree.join("z")).unwrap();
                fs::write(tree.join("z"), "").unwrap();
            }),
        ];
        for (found, damage) in damages {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().join("snapshot");
            for path in PATHS {
                fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
                fs::write(root.join(path), "x").unwrap();
            }
            for path in ["", "a-b", "a", "a/c", "a/d-", "a/d", "a/d/e", "a/d/e/f", "z", "z/only"] {
                fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o755)).unwrap();
            }
            for path in PATHS {
                fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o644)).unwrap();
            }
            // Long ago, so that whatever changes now is seen to be later.
            let before = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
            for path in ["", "a-b", "a", "a/c", "a/d-", "a/d", "a/d/e", "a/d/e/f", "z", "z/only"] {
                fs::File::open(root.join(path)).unwrap().set_modified(before).unwrap();
            }
            let published = fs::File::create(dir.path().join("published")).unwrap();
            published.set_modified(before).unwrap();
            damage(&root);
            match look(dir.path(), Depth::Directories) {
                Ok(()) => assert_eq!(found, ""),
                // A name that went or came tells on the directory too, whichever is met first.
                Err(why) => assert!(
                    !found.is_empty()
                        && (why == found || why.starts_with("names in ") || why.contains(found)),
                    "{found}: {why}"
                ),
            }
        }
    }
}
