//! Trees from manifests: a new one, or the difference applied to an old one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use jericho_host::CancelToken;
use jericho_host::sys::processors;
use rustix::fs::{AtFlags, Mode, OFlags, RawMode, Timespec, Timestamps};
use rustix::io::Errno;

use super::at::{self, DirCursor};
use super::error::SnapshotError;
use super::manifest::{Entry, EntryKind, Manifest};
use super::objects::{ObjectReader, Objects};
use super::store::Store;

/// Files a thread takes at a time: neighbours, so that threads rarely meet in a directory.
const BATCH: usize = 128;

/// What was done to a tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TreeReport {
    /// Files and links written.
    pub written: u64,
    /// Files, links and directories removed.
    pub removed: u64,
    /// Files and links that stayed as they were.
    pub kept: u64,
}

/// Lays a snapshot out in `dest`, which does not exist yet or is an empty directory.
/// Files get mode 0644 or 0755, directories 0755, whatever the umask; times are now.
///
/// # Errors
/// [`SnapshotError`]; the tree is then incomplete.
pub fn write_tree(
    store: &Store,
    manifest: &Manifest,
    dest: &Path,
    cancel: &CancelToken,
) -> Result<TreeReport, SnapshotError> {
    let _lock = store.lock_shared(cancel)?;
    let objects = store.objects()?;
    make_root(dest)?;
    let layer = Layer::new(store, &objects, dest, None, cancel)?;
    layer.write_all(manifest.len(), |position| manifest.at(position))?;
    Ok(TreeReport { written: manifest.len() as u64, ..TreeReport::default() })
}

/// Turns a tree that is exactly `old` into exactly `new`. What changed gets `stamp` (ns since
/// 1970) as its time of modification; what did not keeps its own. Directories that become
/// empty go away.
///
/// # Errors
/// [`SnapshotError`], also when the tree is found not to be `old`; it is then in between.
/// Leases of [`workspace`](super::workspace) note that beside the tree and mend it.
pub fn patch_tree(
    store: &Store,
    dest: &Path,
    old: &Manifest,
    new: &Manifest,
    stamp: i64,
    cancel: &CancelToken,
) -> Result<TreeReport, SnapshotError> {
    let _lock = store.lock_shared(cancel)?;
    let objects = store.objects()?;
    let changes = Manifest::diff(old, new);
    let layer = Layer::new(store, &objects, dest, Some(stamp), cancel)?;
    let gone = changes.iter().filter(|change| change.new.is_none()).filter_map(|change| change.old);
    let removed = layer.remove(gone)?;
    let written: Vec<Entry<'_>> = changes.iter().filter_map(|change| change.new).collect();
    layer.write_all(written.len(), |position| written.get(position).copied())?;
    let kept = (new.len() - written.len()) as u64;
    Ok(TreeReport { written: written.len() as u64, removed, kept })
}

pub(crate) fn make_root(dest: &Path) -> Result<(), SnapshotError> {
    match std::fs::create_dir(dest) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(SnapshotError::io("create", dest)(error)),
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dest, mode).map_err(SnapshotError::io("set the mode of", dest))
}

/// A tree that is being written to.
pub(crate) struct Layer<'a> {
    store: &'a Store,
    objects: &'a Objects,
    dest: &'a Path,
    root: OwnedFd,
    stamp: Option<i64>,
    cancel: &'a CancelToken,
}

impl<'a> Layer<'a> {
    pub(crate) fn new(
        store: &'a Store,
        objects: &'a Objects,
        dest: &'a Path,
        stamp: Option<i64>,
        cancel: &'a CancelToken,
    ) -> Result<Self, SnapshotError> {
        let root = at::open_root(dest).map_err(|error| SnapshotError::io("open", dest)(error.into()))?;
        Ok(Self { store, objects, dest, root, stamp, cancel })
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    pub(crate) fn failed(&self, action: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> SnapshotError {
        let path = at::join(self.dest, path);
        move |error| SnapshotError::Io { action, path, source: error.into() }
    }

    pub(crate) fn check_cancel(&self) -> Result<(), SnapshotError> {
        self.cancel.reason().map_or(Ok(()), |reason| Err(SnapshotError::Cancelled(reason)))
    }

    /// Writes entries given by position, in order of their paths, replacing files of the same
    /// name.
    pub(crate) fn write_all<'m>(
        &self,
        count: usize,
        entry: impl Fn(usize) -> Option<Entry<'m>> + Sync,
    ) -> Result<(), SnapshotError> {
        let next = AtomicUsize::new(0);
        let work = || {
            let written = self.write_some(count, &next, &entry);
            if written.is_err() {
                next.store(count, Ordering::Relaxed);
            }
            written
        };
        let threads = processors().min(count.div_ceil(BATCH));
        if threads < 2 {
            return work();
        }
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut all = work();
            for other in others {
                all = all.and(other.join().unwrap_or(Err(SnapshotError::Panicked)));
            }
            all
        })
    }

    fn write_some<'m>(
        &self,
        count: usize,
        next: &AtomicUsize,
        entry: &impl Fn(usize) -> Option<Entry<'m>>,
    ) -> Result<(), SnapshotError> {
        let mut writer = Writer {
            layer: self,
            cursor: DirCursor::new(self.root.as_fd()),
            reader: ObjectReader::new(self.objects, &self.store.marks_dir()),
            umask_bites: None,
        };
        loop {
            let start = next.fetch_add(BATCH, Ordering::Relaxed);
            if start >= count {
                return Ok(());
            }
            self.check_cancel()?;
            for entry in (start..(start + BATCH).min(count)).filter_map(entry) {
                writer.write(&entry)?;
            }
        }
    }

    /// Removes files and links, then the directories that this left empty. What is gone is
    /// success.
    pub(crate) fn remove<'m>(&self, entries: impl Iterator<Item = Entry<'m>>) -> Result<u64, SnapshotError> {
        at::remove_files(self.root(), entries.map(|entry| entry.path))
            .map_err(|failed| self.failed(failed.action, &failed.path)(failed.errno))
    }
}

struct Writer<'l> {
    layer: &'l Layer<'l>,
    cursor: DirCursor<'l>,
    reader: ObjectReader<'l>,
    /// Whether new files lack permissions; known after the first.
    umask_bites: Option<bool>,
}

impl Writer<'_> {
    fn write(&mut self, entry: &Entry<'_>) -> Result<(), SnapshotError> {
        let layer = self.layer;
        let (directory, name) = at::split(entry.path);
        let parent = self.cursor.enter_or_make(directory);
        let parent = parent.map_err(layer.failed("make the directory of", entry.path))?;
        match entry.kind {
            EntryKind::Symlink => {
                let target = self.reader.read_all(&entry.hash, entry.path)?;
                let make = || rustix::fs::symlinkat(target.as_slice(), parent, name);
                let made = match make() {
                    Err(Errno::EXIST) => {
                        rustix::fs::unlinkat(parent, name, AtFlags::empty()).and_then(|()| make())
                    }
                    other => other,
                };
                made.map_err(layer.failed("create", entry.path))?;
                if let Some(stamp) = layer.stamp {
                    rustix::fs::utimensat(parent, name, &times(stamp), AtFlags::SYMLINK_NOFOLLOW)
                        .map_err(layer.failed("set the time of", entry.path))?;
                }
            }
            EntryKind::File | EntryKind::Executable => {
                let file = create(parent, name, entry.kind).map_err(layer.failed("create", entry.path))?;
                let bites = match self.umask_bites {
                    Some(known) => known,
                    None => {
                        let stat = rustix::fs::fstat(&file).map_err(layer.failed("stat", entry.path))?;
                        let lacks = stat.st_mode as RawMode & 0o777 != mode_of(entry.kind).as_raw_mode();
                        // Only an executable file shows every bit that matters.
                        if lacks || entry.kind == EntryKind::Executable {
                            self.umask_bites = Some(lacks);
                        }
                        lacks
                    }
                };
                if bites {
                    rustix::fs::fchmod(&file, mode_of(entry.kind))
                        .map_err(layer.failed("set the mode of", entry.path))?;
                }
                self.reader.read(&entry.hash, entry.path, |mut piece| {
                    layer.check_cancel()?;
                    while !piece.is_empty() {
                        match rustix::io::write(&file, piece) {
                            Ok(count) => piece = &piece[count..],
                            Err(Errno::INTR) => {}
                            Err(error) => return Err(layer.failed("write", entry.path)(error)),
                        }
                    }
                    Ok(())
                })?;
                if let Some(stamp) = layer.stamp {
                    rustix::fs::futimens(&file, &times(stamp))
                        .map_err(layer.failed("set the time of", entry.path))?;
                }
            }
        }
        Ok(())
    }
}

/// The mode of a laid out file.
pub(crate) fn mode_of(kind: EntryKind) -> Mode {
    Mode::from_raw_mode(if kind == EntryKind::Executable { 0o755 } else { 0o644 })
}

/// Always a new inode: nothing is written through another name of the old one.
fn create(parent: BorrowedFd<'_>, name: &[u8], kind: EntryKind) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, flags, mode_of(kind)) {
        Err(Errno::EXIST) => {
            rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
            rustix::fs::openat(parent, name, flags, mode_of(kind))
        }
        other => other,
    }
}

fn times(stamp: i64) -> Timestamps {
    let time = Timespec { tv_sec: stamp.div_euclid(1_000_000_000), tv_nsec: stamp.rem_euclid(1_000_000_000) };
    Timestamps { last_access: time, last_modification: time }
}
