//! The store: contents, manifests, and the locks that keep them while they are used.
//!
//! # On disk
//!
//! | path | what |
//! |---|---|
//! | `<store>/lock` | flock: shared while anything is read or added, exclusive while collecting |
//! | `<store>/segments/<id>.seg` | contents, see the module `segment`; `tmp-*` are unfinished |
//! | `<store>/damaged/<segment>.<hash>` | a copy that was found damaged; it counts as missing |
//! | `<store>/pins/<hash>.<id>` | flock: a live process uses this snapshot |
//! | `<snapshots>/<hash>/manifest` | see [`manifest`](super::manifest) |
//! | `<stat cache>/<sha256 of the root's path>` | see the module `index` |
//!
//! A manifest appears by rename after all its contents did, so killing a process at any moment
//! loses at most the snapshot it was taking. Segments of up to 4 MiB are on the disk before;
//! larger ones and manifests are being written to it by a thread that [`Store::settle`] and
//! dropping the store wait for. Everything read is proven against its name, so a power cut
//! before that is noticed, never trusted.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use jericho_host::lock::FileLock;
use jericho_host::{CancelToken, Clock};

use super::collect;
use super::error::SnapshotError;
use super::hash::ContentHash;
use super::manifest::Manifest;
use super::objects::{self, Objects};
use super::stat;
use crate::lock;

/// Segments up to this size are on the disk before a manifest that needs them is published.
pub(crate) const SYNC_AT_ONCE: u64 = 4 * 1024 * 1024;

/// Where a store keeps what; all of it is made when missing. One file system.
#[derive(Debug, Clone)]
pub struct StoreDirs {
    /// Contents and locks.
    pub store: PathBuf,
    /// One directory per snapshot.
    pub snapshots: PathBuf,
    /// One file per source root.
    pub stat_cache: PathBuf,
}

/// Contents and manifests of all snapshots under one state root. Shared by threads; any number
/// of processes may use one at the same time.
#[derive(Debug)]
pub struct Store {
    dirs: StoreDirs,
    clock: Arc<dyn Clock>,
    objects: Mutex<Arc<Objects>>,
    background: Mutex<Vec<JoinHandle<()>>>,
}

/// Keeps one snapshot from being collected while it lives, also against other processes.
#[derive(Debug)]
pub struct Pin {
    path: PathBuf,
    _lock: Option<FileLock>,
}

impl Drop for Pin {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}

impl Store {
    /// Opens a store, making its directories (mode 0700) when they are missing.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn open(dirs: StoreDirs, clock: Arc<dyn Clock>) -> Result<Self, SnapshotError> {
        use std::os::unix::fs::DirBuilderExt;
        let own = ["segments", "damaged", "pins"].map(|name| dirs.store.join(name));
        for directory in own.iter().chain([&dirs.snapshots, &dirs.stat_cache]) {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
            made.map_err(SnapshotError::io("create", directory))?;
        }
        Ok(Self { dirs, clock, objects: Mutex::default(), background: Mutex::default() })
    }

    /// Where it keeps what.
    #[must_use]
    pub fn dirs(&self) -> &StoreDirs {
        &self.dirs
    }

    /// The directory of a snapshot, whether it exists or not.
    #[must_use]
    pub fn snapshot_dir(&self, hash: &ContentHash) -> PathBuf {
        self.dirs.snapshots.join(hash.to_string())
    }

    /// The manifest of a snapshot, proven against its name; `None` when there is none.
    ///
    /// # Errors
    /// [`SnapshotError::DamagedManifest`]; taking the same snapshot again mends it.
    pub fn load(&self, hash: &ContentHash) -> Result<Option<Manifest>, SnapshotError> {
        let path = self.manifest_path(hash);
        let set_aside = path.with_extension("damaged");
        let damaged = |why: String| SnapshotError::DamagedManifest { hash: *hash, why };
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return if set_aside.exists() { Err(damaged("it was set aside".into())) } else { Ok(None) };
            }
            Err(error) => return Err(SnapshotError::io("read", path)(error)),
        };
        let why = match Manifest::decode(&bytes) {
            Ok(manifest) if manifest.hash() == *hash => return Ok(Some(manifest)),
            Ok(other) => format!("its content hash is {}", other.hash()),
            Err(error) => error.to_string(),
        };
        // So that the next snapshot of this content publishes it anew.
        drop(std::fs::rename(&path, &set_aside));
        Err(damaged(why))
    }

    /// Keeps a snapshot until the pin is dropped.
    ///
    /// # Errors
    /// [`SnapshotError::Io`], [`SnapshotError::Cancelled`] while a collection runs.
    pub fn pin(&self, hash: &ContentHash, cancel: &CancelToken) -> Result<Pin, SnapshotError> {
        let _lock = self.lock_shared(cancel)?;
        self.pin_locked(hash)
    }

    /// The same while the store lock is held.
    pub(crate) fn pin_locked(&self, hash: &ContentHash) -> Result<Pin, SnapshotError> {
        let path = self.pins_dir().join(format!("{hash}.{}", self.fresh_id()));
        let lock = FileLock::try_exclusive(&path)?;
        Ok(Pin { path, _lock: lock })
    }

    /// Waits until everything published is on the disk and the caches are written.
    pub fn settle(&self) {
        let threads: Vec<_> = guard(&self.background).drain(..).collect();
        for thread in threads {
            // A panic there lost a cache or a sync, neither of which anything relies on.
            drop(thread.join());
        }
    }

    pub(crate) fn in_background(&self, work: impl FnOnce() + Send + 'static) {
        let mut threads = guard(&self.background);
        threads.retain(|thread| !thread.is_finished());
        threads.push(std::thread::spawn(work));
    }

    pub(crate) fn sync_later(&self, files: Vec<File>) {
        if !files.is_empty() {
            self.in_background(move || {
                for file in files {
                    // Contents are proven when they are read.
                    drop(file.sync_data());
                }
            });
        }
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(crate) fn shared_clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    pub(crate) fn segments_dir(&self) -> PathBuf {
        self.dirs.store.join("segments")
    }

    pub(crate) fn marks_dir(&self) -> PathBuf {
        self.dirs.store.join("damaged")
    }

    pub(crate) fn pins_dir(&self) -> PathBuf {
        self.dirs.store.join("pins")
    }

    pub(crate) fn manifest_path(&self, hash: &ContentHash) -> PathBuf {
        self.snapshot_dir(hash).join("manifest")
    }

    fn lock_path(&self) -> PathBuf {
        self.dirs.store.join("lock")
    }

    pub(crate) fn lock_shared(&self, cancel: &CancelToken) -> Result<FileLock, SnapshotError> {
        Ok(lock::shared(&self.lock_path(), cancel)?)
    }

    pub(crate) fn lock_exclusive(&self, cancel: &CancelToken) -> Result<FileLock, SnapshotError> {
        Ok(lock::exclusive(&self.lock_path(), cancel)?)
    }

    pub(crate) fn try_lock_exclusive(&self) -> Result<Option<FileLock>, SnapshotError> {
        Ok(FileLock::try_exclusive(&self.lock_path())?)
    }

    /// A name that no other file of this store has: time, process, count.
    pub(crate) fn fresh_id(&self) -> String {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}-{:x}-{count:x}", stat::wall_ns(&*self.clock), std::process::id())
    }

    /// What the store has now. Needs the store lock.
    pub(crate) fn objects(&self) -> Result<Arc<Objects>, SnapshotError> {
        let damaged = objects::damaged_copies(&self.marks_dir());
        let mut objects = guard(&self.objects);
        Arc::make_mut(&mut objects).refresh(&self.segments_dir(), damaged)?;
        Ok(Arc::clone(&objects))
    }

    /// How many segments there were when they were last looked at.
    pub(crate) fn segments_known(&self) -> usize {
        guard(&self.objects).segments.len()
    }

    pub(crate) fn has_damage(&self) -> bool {
        std::fs::read_dir(self.marks_dir()).is_ok_and(|mut marks| marks.next().is_some())
    }

    /// Whether the manifest is there in its full length.
    pub(crate) fn is_published(&self, manifest: &Manifest) -> bool {
        let found = std::fs::metadata(self.manifest_path(&manifest.hash()));
        found.is_ok_and(|found| found.len() == manifest.encoded_len())
    }

    /// Writes a manifest under a temporary name.
    pub(crate) fn stage<'m>(&self, manifest: &'m Manifest) -> Result<Staged<'m>, SnapshotError> {
        use std::io::Write;
        let directory = self.snapshot_dir(&manifest.hash());
        match std::fs::create_dir(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(SnapshotError::io("create", directory)(error));
            }
            _ => {}
        }
        let path = directory.join(format!("tmp-{}", self.fresh_id()));
        let mut file = File::create_new(&path).map_err(SnapshotError::io("create", &path))?;
        let mut written = Ok(());
        manifest.encode_with(|piece| {
            if written.is_ok() {
                written = file.write_all(piece);
            }
        });
        let staged = Staged { manifest, path, file: Some(file) };
        written.map_err(SnapshotError::io("write", &staged.path))?;
        Ok(staged)
    }

    /// Makes a staged manifest visible by rename. Its contents must be there.
    pub(crate) fn publish(&self, mut staged: Staged<'_>) -> Result<(), SnapshotError> {
        let path = self.manifest_path(&staged.manifest.hash());
        std::fs::rename(&staged.path, &path).map_err(SnapshotError::io("publish", &path))?;
        self.sync_later(staged.file.take().into_iter().collect());
        drop(std::fs::remove_file(path.with_extension("damaged")));
        Ok(())
    }
}

/// A manifest that is written but not visible; dropped, it is removed.
pub(crate) struct Staged<'m> {
    manifest: &'m Manifest,
    path: PathBuf,
    /// Absent once it is published.
    file: Option<File>,
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if self.file.is_some() {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.settle();
        if let Ok(cancel) = CancelToken::new() {
            drop(self.tidy(collect::MANY_SMALL, &cancel));
        }
    }
}

/// What a poisoned lock guards here is whole at every moment.
fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Replaces a small file of the engine's own: temporary name, rename.
pub(crate) fn replace(path: &Path, content: &[u8], id: &str) -> Result<(), SnapshotError> {
    let staged = path.with_extension(format!("tmp-{id}"));
    let written = std::fs::write(&staged, content).and_then(|()| std::fs::rename(&staged, path));
    written.map_err(|error| {
        drop(std::fs::remove_file(&staged));
        SnapshotError::io("write", path)(error)
    })
}
