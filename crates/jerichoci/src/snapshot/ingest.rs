//! Reading files of the source: each is read once, hashed, and appended to a segment.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use jericho_host::CancelToken;
use jericho_host::sys::processors;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::at::{self, DirCursor};
use super::error::{SnapshotError, shown};
use super::hash::ContentHash;
use super::manifest::EntryKind;
use super::objects::{HashSetByHash, Objects};
use super::segment::SegmentWriter;
use super::stat::StatKey;
use super::store::Store;

/// A file that changes is read this often.
const TRIES: u32 = 3;
/// Files up to this size are hashed before they are stored, so that a known one is not.
const PIECE: usize = 256 * 1024;
/// Below this many files one thread is faster than several.
const FEW: usize = 50;
/// Files a thread takes at a time: neighbours, so that directories stay open.
const BATCH: usize = 32;

/// One name that was looked up.
#[derive(Debug)]
pub(crate) enum Found {
    /// In the store now.
    Content { kind: EntryKind, hash: ContentHash, size: u64, key: StatKey },
    /// A directory: a submodule, a nested repository, or something that was a file.
    Directory,
    /// Neither file, link nor directory.
    Special(&'static str),
    /// Deleted, or hidden behind a link.
    Gone,
}

/// What all threads of one ingestion share.
pub(crate) struct Ingest<'a> {
    pub(crate) store: &'a Store,
    pub(crate) root: BorrowedFd<'a>,
    pub(crate) objects: &'a Objects,
    pub(crate) cancel: &'a CancelToken,
    /// Contents that some thread has or will have in its segment.
    pub(crate) fresh: Mutex<HashSetByHash>,
}

/// Result of [`Ingest::run`].
#[derive(Default)]
pub(crate) struct Ingested {
    /// By position in the list of names; in many small parts, since growing one large one would
    /// double the memory of a first snapshot.
    pub(crate) found: Vec<Vec<(u32, Found)>>,
    /// Bytes read.
    pub(crate) bytes: u64,
    /// Segments that are not yet on the disk, with their sizes.
    pub(crate) unsynced: Vec<(File, u64)>,
}

impl Ingest<'_> {
    /// Looks up `count` names, sorted, given by position.
    pub(crate) fn run<'n>(
        &self,
        count: usize,
        name: impl Fn(usize) -> &'n [u8] + Sync,
    ) -> Result<Ingested, SnapshotError> {
        let threads = if count < FEW { 1 } else { (4 * processors()).min(8).min(count.div_ceil(BATCH)) };
        let next = AtomicUsize::new(0);
        let work = || Worker::new(self).work(count, &next, &name);
        if threads == 1 {
            return work();
        }
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut all = work();
            for other in others {
                let part = other.join().unwrap_or(Err(SnapshotError::Panicked));
                all = match (all, part) {
                    (Ok(mut all), Ok(part)) => {
                        all.found.extend(part.found);
                        all.bytes += part.bytes;
                        all.unsynced.extend(part.unsynced);
                        Ok(all)
                    }
                    (Err(error), _) | (Ok(_), Err(error)) => Err(error),
                };
            }
            all
        })
    }

    /// Whether the caller is the first to have this content.
    fn claim(&self, hash: ContentHash) -> bool {
        !self.objects.contains(&hash)
            && self.fresh.lock().unwrap_or_else(PoisonError::into_inner).insert(hash)
    }
}

struct Worker<'i> {
    shared: &'i Ingest<'i>,
    cursor: DirCursor<'i>,
    segment: Option<SegmentWriter>,
    buffer: Vec<u8>,
    bytes: u64,
}

/// One attempt to read a file.
enum Attempt {
    Done(Found),
    Changed,
}

impl<'i> Worker<'i> {
    fn new(shared: &'i Ingest<'i>) -> Self {
        let cursor = DirCursor::new(shared.root);
        Self { shared, cursor, segment: None, buffer: Vec::new(), bytes: 0 }
    }

    fn work<'n>(
        mut self,
        count: usize,
        next: &AtomicUsize,
        name: &(impl Fn(usize) -> &'n [u8] + Sync),
    ) -> Result<Ingested, SnapshotError> {
        let mut found = Vec::new();
        loop {
            let mut part = Vec::with_capacity(BATCH);
            let start = next.fetch_add(BATCH, Ordering::Relaxed);
            if start >= count {
                break;
            }
            self.check_cancel()?;
            for position in start..(start + BATCH).min(count) {
                let one = self.look_up(name(position));
                if one.is_err() {
                    // The others need not go on: nothing of this will be published.
                    next.store(count, Ordering::Relaxed);
                }
                part.push((u32::try_from(position).map_err(|_| SnapshotError::TooLarge)?, one?));
            }
            found.push(part);
        }
        let mut unsynced = Vec::new();
        if let Some(segment) = self.segment.take()
            && let Some(published) = segment.publish()?
        {
            unsynced.push(published);
        }
        Ok(Ingested { found, bytes: self.bytes, unsynced })
    }

    fn check_cancel(&self) -> Result<(), SnapshotError> {
        self.shared.cancel.reason().map_or(Ok(()), |reason| Err(SnapshotError::Cancelled(reason)))
    }

    fn look_up(&mut self, path: &[u8]) -> Result<Found, SnapshotError> {
        for _ in 0..TRIES {
            match self.try_look_up(path)? {
                Attempt::Done(found) => return Ok(found),
                Attempt::Changed => self.check_cancel()?,
            }
        }
        Err(SnapshotError::Unsteady { file: shown(path), tries: TRIES })
    }

    fn try_look_up(&mut self, path: &[u8]) -> Result<Attempt, SnapshotError> {
        let unreadable = |error: Errno| SnapshotError::Unreadable { file: shown(path), source: error.into() };
        let (directory, name) = at::split(path);
        let seen = self.cursor.enter(directory).and_then(|parent| at::lstat(parent, name));
        let stat = match seen {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Attempt::Done(Found::Gone)),
            Err(error) => return Err(unreadable(error)),
        };
        let key = StatKey::of(&stat);
        let special = match FileType::from_raw_mode(key.raw_mode()) {
            FileType::RegularFile => return self.read_file(path, &key),
            FileType::Symlink => return self.read_link(path, key),
            FileType::Directory => return Ok(Attempt::Done(Found::Directory)),
            FileType::Fifo => "FIFO",
            FileType::Socket => "socket",
            FileType::CharacterDevice => "character device",
            FileType::BlockDevice => "block device",
            FileType::Unknown => "special file",
        };
        Ok(Attempt::Done(Found::Special(special)))
    }

    fn read_link(&mut self, path: &[u8], key: StatKey) -> Result<Attempt, SnapshotError> {
        let (directory, name) = at::split(path);
        let parent = self.cursor.enter(directory);
        let target = match parent.and_then(|parent| rustix::fs::readlinkat(parent, name, Vec::new())) {
            Ok(target) => target.into_bytes(),
            Err(Errno::NOENT | Errno::INVAL | Errno::NOTDIR) => return Ok(Attempt::Changed),
            Err(error) => return Err(SnapshotError::Unreadable { file: shown(path), source: error.into() }),
        };
        let hash = ContentHash::of(&target);
        if self.shared.claim(hash) {
            let segment = self.segment()?;
            let start = segment.position();
            segment.append(&target)?;
            segment.seal(start, hash);
        }
        let size = target.len() as u64;
        Ok(Attempt::Done(Found::Content { kind: EntryKind::Symlink, hash, size, key }))
    }

    fn read_file(&mut self, path: &[u8], key: &StatKey) -> Result<Attempt, SnapshotError> {
        let unreadable = |source: std::io::Error| SnapshotError::Unreadable { file: shown(path), source };
        let (directory, name) = at::split(path);
        // NONBLOCK: should it have become a FIFO meanwhile, nobody waits for its writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let parent = self.cursor.enter(directory);
        let file = match parent.and_then(|parent| rustix::fs::openat(parent, name, flags, Mode::empty())) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::NOTDIR) => return Ok(Attempt::Changed),
            Err(error) => return Err(unreadable(error.into())),
        };
        let content = if key.size <= PIECE as u64 {
            self.read_small(file.as_fd(), key, &unreadable)?
        } else {
            self.read_large(file.as_fd(), key, &unreadable)?
        };
        let Some(hash) = content else { return Ok(Attempt::Changed) };
        self.bytes += key.size;
        let kind = if key.is_executable() { EntryKind::Executable } else { EntryKind::File };
        Ok(Attempt::Done(Found::Content { kind, hash, size: key.size, key: *key }))
    }

    /// Hashes first, then stores what is new. `None`: the file changed meanwhile.
    fn read_small(
        &mut self,
        file: BorrowedFd<'_>,
        key: &StatKey,
        unreadable: &dyn Fn(std::io::Error) -> SnapshotError,
    ) -> Result<Option<ContentHash>, SnapshotError> {
        let size = usize::try_from(key.size).unwrap_or(PIECE);
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(PIECE, 0);
        let whole =
            fill(file, &mut buffer[..size]).and_then(|count| Ok(count == size && is_still(file, key)?));
        let hash = match whole.map_err(|error| unreadable(error.into()))? {
            true => ContentHash::of(&buffer[..size]),
            false => {
                self.buffer = buffer;
                return Ok(None);
            }
        };
        if self.shared.claim(hash) {
            let segment = self.segment()?;
            let start = segment.position();
            segment.append(&buffer[..size])?;
            segment.seal(start, hash);
        }
        self.buffer = buffer;
        Ok(Some(hash))
    }

    /// Stores while hashing, and takes it back when it was known or changed.
    fn read_large(
        &mut self,
        file: BorrowedFd<'_>,
        key: &StatKey,
        unreadable: &dyn Fn(std::io::Error) -> SnapshotError,
    ) -> Result<Option<ContentHash>, SnapshotError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(PIECE, 0);
        let start = self.segment()?.position();
        let mut hasher = Sha256::new();
        let mut size = 0u64;
        // One that grows while it is read is read no further than it was.
        while size <= key.size {
            self.check_cancel()?;
            let count = fill(file, &mut buffer).map_err(|error| unreadable(error.into()))?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            self.segment()?.append(&buffer[..count])?;
            size += count as u64;
        }
        self.buffer = buffer;
        let whole = size == key.size && is_still(file, key).map_err(|error| unreadable(error.into()))?;
        let hash = ContentHash(hasher.finalize().into());
        if whole && self.shared.claim(hash) {
            self.segment()?.seal(start, hash);
        } else {
            self.segment()?.rewind(start)?;
        }
        Ok(whole.then_some(hash))
    }

    fn segment(&mut self) -> Result<&mut SegmentWriter, SnapshotError> {
        if self.segment.is_none() {
            let store = self.shared.store;
            self.segment = Some(SegmentWriter::create(&store.segments_dir(), &store.fresh_id())?);
        }
        // Just set.
        self.segment.as_mut().ok_or(SnapshotError::Panicked)
    }
}

/// Whether the open file is still in the state it had before it was read.
fn is_still(file: BorrowedFd<'_>, key: &StatKey) -> rustix::io::Result<bool> {
    Ok(StatKey::of(&rustix::fs::fstat(file)?) == *key)
}

/// Reads until the buffer is full or the file ends.
fn fill(file: BorrowedFd<'_>, buffer: &mut [u8]) -> rustix::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::read(file, &mut buffer[filled..]) {
            Ok(0) | Err(Errno::AGAIN) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
