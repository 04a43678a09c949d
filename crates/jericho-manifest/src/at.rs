//! File access below a directory by descriptors, so that no symbolic link leads out of it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RawMode, Stat};
use rustix::io::{Errno, Result};

/// Opens a directory for looking names up in it. Never through a link at its last component.
const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// On Linux a look-up needs no read permission on the directory.
#[cfg(target_os = "linux")]
const LOOK_UP: OFlags = DIRECTORY.union(OFlags::PATH);
#[cfg(not(target_os = "linux"))]
const LOOK_UP: OFlags = DIRECTORY;

/// A path from raw bytes.
#[inline]
#[must_use]
pub fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// `root` and a path relative to it.
#[must_use]
pub fn join(root: &Path, relative: &[u8]) -> PathBuf {
    root.join(path_of(relative))
}

/// Directory and last component.
#[inline]
#[must_use]
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// Opens the root of a tree. Its own path may lead through links.
///
/// # Errors
/// What open(2) says.
pub fn open_root(root: &Path) -> Result<OwnedFd> {
    rustix::fs::open(root, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens a directory for listing.
///
/// # Errors
/// What openat(2) says; `ELOOP` or `ENOTDIR` for a link.
pub fn open_dir(parent: impl AsFd, name: &[u8]) -> Result<OwnedFd> {
    rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())
}

/// lstat(2) of a name in a directory.
///
/// # Errors
/// What fstatat(2) says.
#[inline]
pub fn lstat(parent: impl AsFd, name: &[u8]) -> Result<Stat> {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// What kind of file a status speaks of.
#[inline]
#[must_use]
pub fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode as RawMode)
}

/// The names in a directory without `.` and `..`, in no order.
///
/// # Errors
/// What getdents(2) says.
pub fn names_in(directory: impl AsFd) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// Walks to directories below a root in sorted order, keeping the way open.
#[derive(Debug)]
pub struct DirCursor<'r> {
    root: BorrowedFd<'r>,
    path: Vec<u8>,
    /// For each open component: where it ends in `path`, and its directory.
    open: Vec<(usize, OwnedFd)>,
}

impl<'r> DirCursor<'r> {
    /// A cursor at the root.
    #[must_use]
    pub fn new(root: BorrowedFd<'r>) -> Self {
        Self { root, path: Vec::new(), open: Vec::new() }
    }

    /// The directory at this path, every component of which is a real directory.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR` or `ELOOP` when it is not.
    #[inline]
    pub fn enter(&mut self, directory: &[u8]) -> Result<BorrowedFd<'_>> {
        self.walk(directory, None)
    }

    /// The same, making what is missing with mode 0755.
    ///
    /// # Errors
    /// `EEXIST` or `ENOTDIR` when something else has the name.
    #[inline]
    pub fn enter_or_make(&mut self, directory: &[u8]) -> Result<BorrowedFd<'_>> {
        self.walk(directory, Some(Mode::from_raw_mode(0o755)))
    }

    /// Forgets what is open below and at this path, because it is to be removed.
    pub fn forget(&mut self, directory: &[u8]) {
        while let Some(&(end, _)) = self.open.last() {
            let path = &self.path[..end];
            if path == directory || (path.starts_with(directory) && path.get(directory.len()) == Some(&b'/'))
            {
                self.open.pop();
            } else {
                break;
            }
        }
        self.path.truncate(self.open.last().map_or(0, |&(end, _)| end));
    }

    fn walk(&mut self, directory: &[u8], make: Option<Mode>) -> Result<BorrowedFd<'_>> {
        if self.path != directory {
            self.leave_for(directory);
            let mut start = self.open.last().map_or(0, |&(end, _)| end + 1);
            while start < directory.len() {
                let end = directory[start..].iter().position(|&byte| byte == b'/');
                let end = end.map_or(directory.len(), |length| start + length);
                let name = &directory[start..end];
                let opened = {
                    let parent = self.current();
                    match (rustix::fs::openat(parent, name, LOOK_UP, Mode::empty()), make) {
                        (Err(Errno::NOENT), Some(mode)) => make_dir(parent, name, mode)?,
                        (other, _) => other?,
                    }
                };
                self.path.truncate(start.saturating_sub(1));
                if start > 0 {
                    self.path.push(b'/');
                }
                self.path.extend_from_slice(name);
                self.open.push((end, opened));
                start = end + 1;
            }
        }
        Ok(self.current())
    }

    fn current(&self) -> BorrowedFd<'_> {
        self.open.last().map_or(self.root, |(_, directory)| directory.as_fd())
    }

    /// Closes what is not on the way to `directory`.
    fn leave_for(&mut self, directory: &[u8]) {
        while let Some(&(end, _)) = self.open.last() {
            let on_the_way = directory.get(..end) == Some(&self.path[..end])
                && matches!(directory.get(end), None | Some(b'/'));
            if on_the_way {
                break;
            }
            self.open.pop();
        }
        self.path.truncate(self.open.last().map_or(0, |&(end, _)| end));
    }
}

/// Makes a directory with exactly this mode, whatever the umask, and opens it.
fn make_dir(parent: BorrowedFd<'_>, name: &[u8], mode: Mode) -> Result<OwnedFd> {
    match rustix::fs::mkdirat(parent, name, mode) {
        // Another thread of the same work was first.
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    let made = rustix::fs::openat(parent, name, LOOK_UP, Mode::empty())?;
    if rustix::fs::fstat(&made)?.st_mode as RawMode & 0o777 != mode.as_raw_mode() {
        rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?;
    }
    Ok(made)
}

/// A step on a file of a tree that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// A verb and what it is done to.
    pub action: &'static str,
    /// Relative to the root of the tree.
    pub path: Vec<u8>,
    /// What the system said.
    pub errno: Errno,
}

/// Removes files and links below a root, given in the order of their paths, then the directories that
/// this left empty. What is gone is success. Returns how many names went.
///
/// # Errors
/// Of the first step that fails.
pub fn remove_files<'p>(
    root: BorrowedFd<'_>,
    paths: impl Iterator<Item = &'p [u8]>,
) -> std::result::Result<u64, Failed> {
    let failed = |action, path: &[u8]| {
        let path = path.to_vec();
        move |errno| Failed { action, path, errno }
    };
    let mut cursor = DirCursor::new(root);
    let mut left: BTreeSet<&[u8]> = BTreeSet::new();
    let mut removed = 0;
    for path in paths {
        let (directory, name) = split(path);
        let parent = match cursor.enter(directory) {
            Ok(parent) => parent,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(failed("enter the directory of", path)(error)),
        };
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) => removed += 1,
            Err(Errno::NOENT) => {}
            Err(error) => return Err(failed("remove", path)(error)),
        }
        left.insert(directory);
    }
    drop(cursor);
    let mut cursor = DirCursor::new(root);
    // The greatest path first: what lies deeper comes before what it lies in.
    while let Some(directory) = left.pop_last() {
        if directory.is_empty() {
            continue;
        }
        cursor.forget(directory);
        let (above, name) = split(directory);
        let parent = match cursor.enter(above) {
            Ok(parent) => parent,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(failed("enter the directory of", directory)(error)),
        };
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) => {
                removed += 1;
                left.insert(above);
            }
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => {}
            Err(error) => return Err(failed("remove", directory)(error)),
        }
    }
    Ok(removed)
}

/// How deep [`remove_all`] descends before it brings what is deeper to the top: each level
/// holds a descriptor.
const REMOVE_DEPTH: u32 = 64;

/// Removes a name and all below it. Directories are made writable where they are not; links
/// are removed, never followed. What is gone is success.
///
/// # Errors
/// Of the first step that fails; what was not reached is still there.
pub fn remove_all(parent: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(other) => return Err(other),
    }
    let mut deeper = 0u64;
    empty_dir(parent, name, parent, name, 0, &mut deeper)?;
    for number in 0.. {
        if number == deeper {
            break;
        }
        empty_dir(parent, &aside(name, number), parent, name, 0, &mut deeper)?;
    }
    Ok(())
}

fn aside(name: &[u8], number: u64) -> Vec<u8> {
    // Short, so that it fits where `name` has 255 bytes; at the top of what is being removed.
    let mut text = format!(".jericho-removing-{number}-").into_bytes();
    text.extend_from_slice(crate::hash::ContentHash::of(name).to_string().as_bytes());
    text.truncate(200);
    text
}

fn empty_dir(
    parent: BorrowedFd<'_>,
    name: &[u8],
    top: BorrowedFd<'_>,
    top_name: &[u8],
    depth: u32,
    deeper: &mut u64,
) -> Result<()> {
    let directory = open_for_change(parent, name)?;
    for child in names_in(&directory)? {
        match rustix::fs::unlinkat(&directory, child.as_slice(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(other) => return Err(other),
        }
        if rustix::fs::unlinkat(&directory, child.as_slice(), AtFlags::REMOVEDIR).is_ok() {
            continue;
        }
        if depth < REMOVE_DEPTH {
            empty_dir(directory.as_fd(), &child, top, top_name, depth + 1, deeper)?;
        } else {
            // A directory that cannot be written to cannot be moved either: its `..` changes.
            drop(open_for_change(directory.as_fd(), &child)?);
            rustix::fs::renameat(&directory, child.as_slice(), top, aside(top_name, *deeper).as_slice())?;
            *deeper += 1;
        }
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Opens a directory for listing; one without `rwx` for its owner gets them first.
///
/// # Errors
/// `ENOTDIR` when it is none; what chmod(2) and open(2) say.
pub fn open_for_change(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    let stat = lstat(parent, name)?;
    if kind_of(&stat) != FileType::Directory {
        return Err(Errno::NOTDIR);
    }
    if stat.st_mode & 0o700 != 0o700 {
        // chmodat follows a link; between the two calls only a process that works in this tree
        // at the same time could put one there.
        let mode = Mode::from_raw_mode((stat.st_mode as RawMode & 0o7777) | 0o700);
        rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?;
    }
    open_dir(parent, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_never_passes_a_link() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("l")).unwrap();
        std::fs::write(dir.path().join("f"), "").unwrap();
        let root = open_root(dir.path()).unwrap();
        let mut cursor = DirCursor::new(root.as_fd());
        let inode = |stat: Stat| stat.st_ino;
        let here = inode(rustix::fs::stat(dir.path().join("a/b")).unwrap());
        assert_eq!(inode(rustix::fs::fstat(cursor.enter(b"a/b").unwrap()).unwrap()), here);
        assert!(cursor.enter(b"a/b/c").is_ok());
        assert!(matches!(cursor.enter(b"l/b"), Err(Errno::LOOP | Errno::NOTDIR)));
        assert!(matches!(cursor.enter(b"f/b"), Err(Errno::NOTDIR)));
        assert_eq!(cursor.enter(b"a/x/y").unwrap_err(), Errno::NOENT);
        assert_eq!(inode(rustix::fs::fstat(cursor.enter(b"a/b").unwrap()).unwrap()), here);
        assert!(cursor.enter(b"").is_ok());
        assert!(cursor.enter_or_make(b"a/b2/n").is_ok());
        assert!(dir.path().join("a/b2/n").is_dir());
        assert!(cursor.enter(b"a/b").is_ok());
    }

    #[test]
    fn a_tree_deeper_than_the_descriptors_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let root = open_root(dir.path()).unwrap();
        rustix::fs::mkdirat(&root, "t", Mode::from_raw_mode(0o755)).unwrap();
        let mut at = open_dir(&root, b"t").unwrap();
        for _ in 0..1500 {
            rustix::fs::mkdirat(&at, "deep", Mode::from_raw_mode(0o755)).unwrap();
            at = open_dir(&at, b"deep").unwrap();
        }
        std::fs::create_dir_all(dir.path().join("t/locked/in")).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("t/root")).unwrap();
        rustix::fs::chmod(dir.path().join("t/locked"), Mode::from_raw_mode(0o500)).unwrap();
        remove_all(root.as_fd(), b"t").unwrap();
        assert_eq!(names_in(&root).unwrap(), Vec::<Vec<u8>>::new());
        remove_all(root.as_fd(), b"t").unwrap();
    }
}
