//! Making any directory exactly one snapshot, whatever happened to it.
//!
//! Every name is looked at. A file is kept when lstat says what it said when it was written, or,
//! where that is not known, when its content and mode are right; else it is written anew.
//! Everything else that is found is removed: ignored files, build outputs, FIFOs, directories
//! without permissions. No link is followed.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Condvar, Mutex, PoisonError};

use jericho_host::sys::processors;
use rustix::fs::{FileType, Mode, OFlags, RawMode};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::at::{self, DirCursor};
use super::error::SnapshotError;
use super::hash::ContentHash;
use super::index::StatCache;
use super::manifest::{Entry, EntryKind, Manifest};
use super::materialize::{Layer, TreeReport, mode_of};
use super::stat::StatKey;

/// Permissions of directories.
const DIRECTORY_MODE: RawMode = 0o755;

/// A directory that must look like the entries `from..to` of the manifest.
#[derive(Debug)]
struct Task {
    path: Vec<u8>,
    from: usize,
    to: usize,
}

/// What became of each entry, by position.
#[derive(Default)]
struct Seen {
    kept: Vec<(usize, StatKey)>,
    wanted: Vec<usize>,
    removed: u64,
}

struct Queue {
    tasks: Vec<Task>,
    running: usize,
    failed: bool,
}

struct Check<'a> {
    layer: &'a Layer<'a>,
    manifest: &'a Manifest,
    known: &'a StatCache,
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// Makes the tree of `layer` exactly `manifest`. `known`: what lstat said of files that are
/// known to be right. Returns what lstat says of every entry now, by position.
pub(crate) fn make_exact(
    layer: &Layer<'_>,
    manifest: &Manifest,
    known: &StatCache,
) -> Result<(TreeReport, Vec<StatKey>), SnapshotError> {
    let top = Task { path: Vec::new(), from: 0, to: manifest.len() };
    let queue = Mutex::new(Queue { tasks: vec![top], running: 0, failed: false });
    let check = Check { layer, manifest, known, queue, changed: Condvar::new() };
    let threads = if manifest.len() < 500 { 1 } else { processors() };
    let mut all = Ok(Seen::default());
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(|| check.work())).collect();
        all = check.work();
        for other in others {
            let part = other.join().unwrap_or(Err(SnapshotError::Panicked));
            if let Ok(all) = &mut all
                && let Ok(part) = part
            {
                all.kept.extend(part.kept);
                all.wanted.extend(part.wanted);
                all.removed += part.removed;
            } else if let Err(error) = part {
                all = Err(error);
            }
        }
    });
    let Seen { kept, mut wanted, removed } = all?;
    wanted.sort_unstable();
    layer.write_all(wanted.len(), |position| manifest.at(wanted[position]))?;

    let mut keys: Vec<Option<StatKey>> = vec![None; manifest.len()];
    for (position, key) in &kept {
        keys[*position] = Some(*key);
    }
    let mut cursor = DirCursor::new(layer.root());
    for &position in &wanted {
        let path = manifest.at(position).map_or(&b""[..], |entry| entry.path);
        let (directory, name) = at::split(path);
        let stat = cursor.enter(directory).and_then(|parent| at::lstat(parent, name));
        keys[position] = Some(StatKey::of(&stat.map_err(layer.failed("stat", path))?));
    }
    let report = TreeReport { written: wanted.len() as u64, removed, kept: kept.len() as u64 };
    // Every entry was either kept or written.
    let keys: Option<Vec<StatKey>> = keys.into_iter().collect();
    Ok((report, keys.ok_or(SnapshotError::Panicked)?))
}

impl Check<'_> {
    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) -> Result<Seen, SnapshotError> {
        let mut seen = Seen::default();
        let mut cursor = DirCursor::new(self.layer.root());
        let mut buffer = Vec::new();
        while let Some(task) = self.next() {
            let mut found = Vec::new();
            let done = self.directory(&task, &mut cursor, &mut buffer, &mut seen, &mut found);
            let mut queue = self.queue();
            queue.running -= 1;
            queue.tasks.append(&mut found);
            if done.is_err() {
                queue.failed = true;
            }
            self.changed.notify_all();
            drop(queue);
            done?;
        }
        Ok(seen)
    }

    fn next(&self) -> Option<Task> {
        let mut queue = self.queue();
        loop {
            if queue.failed {
                return None;
            }
            if let Some(task) = queue.tasks.pop() {
                queue.running += 1;
                return Some(task);
            }
            if queue.running == 0 {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Looks at one directory that is there.
    fn directory(
        &self,
        task: &Task,
        cursor: &mut DirCursor<'_>,
        buffer: &mut Vec<u8>,
        seen: &mut Seen,
        below: &mut Vec<Task>,
    ) -> Result<(), SnapshotError> {
        let failed = |action| self.layer.failed(action, &task.path);
        self.layer.check_cancel()?;
        let directory = if task.path.is_empty() {
            // The root itself was given its mode by the caller.
            rustix::fs::openat(self.layer.root(), ".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        } else {
            let (above, name) = at::split(&task.path);
            cursor.enter(above).and_then(|parent| at::open_for_change(parent, name))
        };
        let directory = directory.map_err(failed("open"))?;
        let mode = rustix::fs::fstat(&directory).map_err(failed("stat"))?.st_mode as RawMode & 0o7777;
        if mode != DIRECTORY_MODE {
            rustix::fs::fchmod(&directory, Mode::from_raw_mode(DIRECTORY_MODE))
                .map_err(failed("set the mode of"))?;
        }
        let mut children = self.children(task);
        for name in at::names_in(&directory).map_err(failed("list"))? {
            let path = joined(&task.path, &name);
            let failed = |action| self.layer.failed(action, &path);
            let stat = match at::lstat(&directory, &name) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(failed("stat")(error)),
            };
            let is_right = match children.get(name.as_slice()) {
                None => false,
                Some(&(from, Some(to))) => {
                    let is_directory = at::kind_of(&stat) == FileType::Directory;
                    if is_directory {
                        below.push(Task { path: path.clone(), from, to });
                    }
                    is_directory
                }
                Some(&(position, None)) => {
                    let entry = self.manifest.at(position).ok_or(SnapshotError::Panicked)?;
                    let key = StatKey::of(&stat);
                    let right = self.is_right(directory.as_fd(), &name, &entry, &key, buffer);
                    let right = right.map_err(failed("read"))?;
                    if right {
                        seen.kept.push((position, key));
                    }
                    right
                }
            };
            if is_right {
                children.remove(name.as_slice());
            } else {
                cursor.forget(&path);
                at::remove_all(directory.as_fd(), &name).map_err(failed("remove"))?;
                seen.removed += u64::from(!children.contains_key(name.as_slice()));
            }
        }
        for (from, to) in children.into_values() {
            seen.wanted.extend(from..to.unwrap_or(from + 1));
        }
        Ok(())
    }

    /// The names that belong directly into a directory: a file's position, or the range of
    /// what is in a directory.
    fn children(&self, task: &Task) -> HashMap<&[u8], (usize, Option<usize>)> {
        let skip = if task.path.is_empty() { 0 } else { task.path.len() + 1 };
        let mut children = HashMap::new();
        let mut position = task.from;
        while position < task.to {
            let Some(entry) = self.manifest.at(position) else { break };
            let rest = entry.path.get(skip..).unwrap_or_default();
            let Some(end) = rest.iter().position(|&byte| byte == b'/') else {
                children.insert(rest, (position, None));
                position += 1;
                continue;
            };
            let prefix = &entry.path[..skip + end + 1];
            let from = position;
            // Sorted by bytes: all that is below one directory is in one piece.
            let (mut low, mut high) = (position + 1, task.to);
            while low < high {
                let middle = low + (high - low) / 2;
                if self.manifest.at(middle).is_some_and(|entry| entry.path.starts_with(prefix)) {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            position = low;
            children.insert(&rest[..end], (from, Some(position)));
        }
        children
    }

    fn is_right(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry<'_>,
        key: &StatKey,
        buffer: &mut Vec<u8>,
    ) -> rustix::io::Result<bool> {
        if let Some(at) = self.known.find(entry.path) {
            let known = self.known.key(at);
            let same_kind = match FileType::from_raw_mode(key.raw_mode()) {
                FileType::Symlink => entry.kind == EntryKind::Symlink,
                _ => {
                    entry.kind != EntryKind::Symlink
                        && key.is_executable() == (entry.kind == EntryKind::Executable)
                }
            };
            return Ok(known == *key && self.known.hash(at) == entry.hash && same_kind);
        }
        match (FileType::from_raw_mode(key.raw_mode()), entry.kind) {
            (FileType::Symlink, EntryKind::Symlink) => {
                let target = rustix::fs::readlinkat(parent, name, Vec::new())?;
                Ok(ContentHash::of(target.as_bytes()) == entry.hash)
            }
            (FileType::RegularFile, EntryKind::File | EntryKind::Executable) => {
                let mode = key.raw_mode() & 0o7777;
                Ok(mode == mode_of(entry.kind).as_raw_mode()
                    && key.size == entry.size
                    && hash_of(parent, name, buffer)? == entry.hash)
            }
            _ => Ok(false),
        }
    }
}

fn joined(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

fn hash_of(parent: BorrowedFd<'_>, name: &[u8], buffer: &mut Vec<u8>) -> rustix::io::Result<ContentHash> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    buffer.resize(256 * 1024, 0);
    let mut hasher = Sha256::new();
    loop {
        match rustix::io::read(&file, buffer.as_mut_slice()) {
            Ok(0) => return Ok(ContentHash(hasher.finalize().into())),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}
