//! Trees that jobs see: numbered slots below an overlay, and private copies.
//!
//! Both are directories of this shape, used by one lease at a time:
//!
//! | path | what |
//! |---|---|
//! | `lock` | flock: held while leased |
//! | `tree/` | the files |
//! | `state` | JSON, see below: which snapshot the tree is, or that it is being changed |
//! | `manifest` | of that snapshot |
//! | `index` | private copies only: what lstat said of each file, see the module `index` |
//!
//! ```json
//! { "schema_version": 1, "snapshot": "<content hash>", "changing": false, "affinity": "/home/dev/x",
//!   "last_used_ns": 1775044800000000000, "last_stamp_ns": 1775044800000000000, "boot_id": "…" }
//! ```
//!
//! **Times only go forward in one tree.** Every file that changes gets a time later than any
//! time given or seen in this tree before, so that make or cargo, which last ran against it,
//! can never take a changed file for an old one, even when the clock was set back. What did not
//! change keeps its time.
//!
//! **Nothing half done is trusted.** `changing` is written before a tree is touched; a tree that
//! is found with it, without a readable state, or from before the machine was started, is
//! compared with the snapshot file by file.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jericho_host::lock::FileLock;
use jericho_host::{CancelToken, Clock};
use serde::{Deserialize, Serialize};

use super::at;
use super::error::SnapshotError;
use super::exact::make_exact;
use super::hash::ContentHash;
use super::index::{StatCache, StatCacheWriter};
use super::manifest::Manifest;
use super::materialize::{self, Layer, TreeReport, make_root};
use super::stat::{self, StatKey};
use super::store::{self, Store};
use crate::lock;

/// A tree that is exactly one snapshot, for the life of this value. Only the engine writes
/// there: jobs see it read-only or below an overlay.
#[derive(Debug)]
pub struct TreeLease {
    /// Number of the slot. What is kept per tree, such as build outputs, is kept by this.
    pub slot: u32,
    /// The tree.
    pub path: PathBuf,
    /// What had to be done.
    pub report: TreeReport,
    used: Used,
}

/// A writable tree that was exactly one snapshot when this value was made.
#[derive(Debug)]
pub struct PrivateCopy {
    /// The tree.
    pub path: PathBuf,
    /// What had to be done.
    pub report: TreeReport,
    _used: Used,
}

impl TreeLease {
    /// The snapshot that the tree is.
    #[must_use]
    pub fn hash(&self) -> Option<ContentHash> {
        self.used.state.snapshot
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct State {
    schema_version: u32,
    snapshot: Option<ContentHash>,
    changing: bool,
    affinity: String,
    last_used_ns: i64,
    last_stamp_ns: i64,
    boot_id: String,
}

/// A locked tree directory. Dropped, it notes when it was last used.
#[derive(Debug)]
struct Used {
    dir: PathBuf,
    lock: FileLock,
    state: State,
    clock: Arc<dyn Clock>,
}

/// Leases a tree that is exactly `manifest` from the slots in `slots_dir` (`0/`, `1/`, …; made
/// when missing). Taken is, in this order: an idle slot that is this snapshot already; the idle
/// one last used with the same `affinity` (the source root, as a rule); the idle one that was
/// not used for longest; a new one. An idle tree is patched, never made anew.
///
/// # Errors
/// [`SnapshotError`]; the slot is mended by its next lease.
pub fn lease_tree(
    store: &Store,
    slots_dir: &Path,
    manifest: &Manifest,
    affinity: &str,
    cancel: &CancelToken,
) -> Result<TreeLease, SnapshotError> {
    fs::create_dir_all(slots_dir).map_err(SnapshotError::io("create", slots_dir))?;
    let mut known = Vec::new();
    for entry in fs::read_dir(slots_dir).map_err(SnapshotError::io("list", slots_dir))? {
        let entry = entry.map_err(SnapshotError::io("list", slots_dir))?;
        if let Some(slot) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) {
            known.push((slot, State::read(&entry.path())));
        }
    }
    let hash = manifest.hash();
    known.sort_by_key(|(slot, state)| {
        let is_it = state.snapshot == Some(hash) && !state.changing;
        let same = state.affinity == affinity;
        // The latest of the same source, else the one used longest ago.
        let used = if same { state.last_used_ns.saturating_neg() } else { state.last_used_ns };
        (!is_it, !same, used, *slot)
    });
    for &(slot, _) in &known {
        let dir = slots_dir.join(slot.to_string());
        if let Some(used) = Used::try_lock(&dir, store)? {
            return lease(store, slot, used, manifest, affinity, cancel);
        }
    }
    let mut slot = known.iter().map(|&(slot, _)| slot).max().map_or(0, |last| last.saturating_add(1));
    loop {
        let dir = slots_dir.join(slot.to_string());
        fs::create_dir_all(&dir).map_err(SnapshotError::io("create", &dir))?;
        match Used::try_lock(&dir, store)? {
            Some(used) => return lease(store, slot, used, manifest, affinity, cancel),
            // Another process made it in the meantime.
            None => slot = slot.saturating_add(1),
        }
    }
}

fn lease(
    store: &Store,
    slot: u32,
    mut used: Used,
    manifest: &Manifest,
    affinity: &str,
    cancel: &CancelToken,
) -> Result<TreeLease, SnapshotError> {
    affinity.clone_into(&mut used.state.affinity);
    let report = used.bring_to(store, manifest, cancel)?;
    Ok(TreeLease { slot, path: used.tree(), report, used })
}

/// Makes `<dir>/tree` a writable tree that is exactly `manifest`, keeping what lstat proves to
/// be right since it was last made, and everything else not. Waits while another lease of the
/// same directory lives.
///
/// # Errors
/// [`SnapshotError`]; the next call mends what was left.
pub fn private_copy(
    store: &Store,
    dir: &Path,
    manifest: &Manifest,
    cancel: &CancelToken,
) -> Result<PrivateCopy, SnapshotError> {
    fs::create_dir_all(dir).map_err(SnapshotError::io("create", dir))?;
    let lock = lock::exclusive(&dir.join("lock"), cancel)?;
    let mut used = Used::new(dir, lock, store);
    let known = if used.is_of_this_boot() { StatCache::load(&used.index()) } else { StatCache::empty() };
    let (report, keys) = used.make_exact(store, manifest, &known, cancel)?;
    if report != (TreeReport { kept: report.kept, ..TreeReport::default() }) || known.len() != keys.len() {
        used.remember(store, manifest, &keys);
    }
    Ok(PrivateCopy { path: used.tree(), report, _used: used })
}

impl State {
    /// What cannot be read is the state of a tree nobody knows anything of.
    fn read(dir: &Path) -> Self {
        let text = fs::read(dir.join("state")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_else(|_| Self { changing: true, ..Self::default() })
    }
}

impl Used {
    fn try_lock(dir: &Path, store: &Store) -> Result<Option<Self>, SnapshotError> {
        let path = dir.join("lock");
        match FileLock::try_exclusive(&path) {
            // A collection that was faster has removed the directory, and with it this file.
            Ok(lock) => {
                Ok(lock.filter(|lock| lock::is_at(lock, &path)).map(|lock| Self::new(dir, lock, store)))
            }
            Err(_) if !dir.exists() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn new(dir: &Path, lock: FileLock, store: &Store) -> Self {
        // Read again: it may have been leased since it was looked at.
        Self { dir: dir.to_path_buf(), lock, state: State::read(dir), clock: store.shared_clock() }
    }

    fn tree(&self) -> PathBuf {
        self.dir.join("tree")
    }

    fn index(&self) -> PathBuf {
        self.dir.join("index")
    }

    fn is_of_this_boot(&self) -> bool {
        self.state.boot_id == boot_id()
    }

    /// Patches when the tree is known to be some snapshot, else compares.
    fn bring_to(
        &mut self,
        store: &Store,
        manifest: &Manifest,
        cancel: &CancelToken,
    ) -> Result<TreeReport, SnapshotError> {
        let is_known = !self.state.changing && self.is_of_this_boot() && self.tree().is_dir();
        if is_known && self.state.snapshot == Some(manifest.hash()) {
            return Ok(TreeReport { kept: manifest.len() as u64, ..TreeReport::default() });
        }
        let old = if is_known { self.own_manifest() } else { None };
        if let Some(old) = old {
            let stamp = self.begin(store)?;
            match materialize::patch_tree(store, &self.tree(), &old, manifest, stamp, cancel) {
                Ok(report) => {
                    self.end(store, manifest)?;
                    return Ok(report);
                }
                // Somebody else was at the tree: find out what it is.
                Err(SnapshotError::Io { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.make_exact(store, manifest, &StatCache::empty(), cancel)?.0)
    }

    fn make_exact(
        &mut self,
        store: &Store,
        manifest: &Manifest,
        known: &StatCache,
        cancel: &CancelToken,
    ) -> Result<(TreeReport, Vec<StatKey>), SnapshotError> {
        let tree = self.tree();
        let stamp = self.begin(store)?;
        let _lock = store.lock_shared(cancel)?;
        let objects = store.objects()?;
        // Something else in the place of the tree, or a link to elsewhere, is not the tree.
        if fs::symlink_metadata(&tree).is_ok_and(|found| !found.is_dir()) {
            let dir = at::open_root(&self.dir)
                .map_err(|error| SnapshotError::io("open", &self.dir)(error.into()))?;
            at::remove_all(dir.as_fd(), b"tree")
                .map_err(|error| SnapshotError::io("remove", &tree)(error.into()))?;
        }
        make_root(&tree)?;
        let layer = Layer::new(store, &objects, &tree, Some(stamp), cancel)?;
        let made = make_exact(&layer, manifest, known)?;
        self.end(store, manifest)?;
        Ok(made)
    }

    /// Notes that the tree is being changed; returns the time that changed files get.
    fn begin(&mut self, store: &Store) -> Result<i64, SnapshotError> {
        let stamp = self.now().max(self.state.last_stamp_ns.saturating_add(1));
        self.state.changing = true;
        self.state.last_stamp_ns = stamp;
        self.write(store)?;
        Ok(stamp)
    }

    fn end(&mut self, store: &Store, manifest: &Manifest) -> Result<(), SnapshotError> {
        self.keep_manifest(store, manifest)?;
        self.state.snapshot = Some(manifest.hash());
        self.state.changing = false;
        self.write(store)
    }

    fn write(&mut self, store: &Store) -> Result<(), SnapshotError> {
        self.state.schema_version = 1;
        self.state.boot_id = boot_id();
        self.state.last_used_ns = self.now();
        self.state.last_stamp_ns = self.state.last_stamp_ns.max(self.state.last_used_ns);
        let encode = |source| SnapshotError::Encode { what: "the state of a tree", source };
        let text = serde_json::to_vec_pretty(&self.state).map_err(encode)?;
        store::replace(&self.dir.join("state"), &text, &store.fresh_id())
    }

    /// The later one of the wall clock and the clock of the file system, which stamps what
    /// jobs write.
    fn now(&self) -> i64 {
        use rustix::fs::{Timespec, Timestamps, UTIME_NOW};
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        let file = self.lock.file();
        let seen = rustix::fs::futimens(file, &times).and_then(|()| rustix::fs::fstat(file));
        let of_file = seen.map_or(0, |stat| StatKey::of(&stat).mtime);
        stat::wall_ns(&*self.clock).max(of_file)
    }

    /// The manifest kept beside the tree, when it is the one the state speaks of.
    fn own_manifest(&self) -> Option<Manifest> {
        let bytes = fs::read(self.dir.join("manifest")).ok()?;
        Manifest::decode_own(&bytes, self.state.snapshot?)
    }

    /// Keeps the manifest beside the tree: the store's may be collected before the tree is
    /// used again. A link where that is possible; nothing ever writes into a manifest.
    fn keep_manifest(&self, store: &Store, manifest: &Manifest) -> Result<(), SnapshotError> {
        let (own, id) = (self.dir.join("manifest"), store.fresh_id());
        let staged = self.dir.join(format!("manifest.tmp-{id}"));
        let published = store.manifest_path(&manifest.hash());
        let linked = fs::hard_link(published, &staged).and_then(|()| fs::rename(&staged, &own));
        // Renaming one name of a file onto another of its names does nothing, and leaves both.
        drop(fs::remove_file(&staged));
        match linked {
            Ok(()) => Ok(()),
            Err(_) => store::replace(&own, &manifest.encode(), &id),
        }
    }

    /// Writes the index of a private copy. Without it the next use hashes.
    fn remember(&self, store: &Store, manifest: &Manifest, keys: &[StatKey]) {
        // A job may begin in the same tick of the clock in which a file was written.
        let seen = self.now();
        let mut writer = StatCacheWriter::new(&self.dir, manifest.len(), manifest.names_len());
        for (entry, key) in manifest.iter().zip(keys) {
            if key.is_settled(seen) {
                writer.push(entry.path, &entry.hash, key);
            }
        }
        drop(store::replace(&self.index(), &writer.finish(), &store.fresh_id()));
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        // So that the next change is stamped later than all that was built meanwhile.
        let now = self.now();
        self.state.last_used_ns = now;
        self.state.last_stamp_ns = self.state.last_stamp_ns.max(now);
        if let Ok(text) = serde_json::to_vec_pretty(&self.state) {
            let id = format!("{}-{:p}", std::process::id(), self);
            drop(store::replace(&self.dir.join("state"), &text, &id));
        }
    }
}

/// The kernel's id of this boot; empty on systems without one, where trees outlive a restart
/// unquestioned.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim_end().to_owned()
}
