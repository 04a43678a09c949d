//! What a job sees of the source tree: its own writable view, at the same path in every run.
//!
//! With namespaces (root on Linux) the view is an overlay on a tree that all jobs of the run
//! share; without, it is a private copy that is proven equal before it is used again. Caches
//! that compare file times (`CARGO_TARGET_DIR`) belong to one tree or copy, whose times only
//! go forward: a slot is never used by two runs at once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Utc};
use jericho_host::lock::{FileLock, LockError};
use jericho_host::{CancelToken, Host, Isolation, Mount};

use super::overlay::Overlays;
use crate::lock::WaitError;
use crate::snapshot::workspace::{PrivateCopy, TreeLease, lease_tree, private_copy};
use crate::snapshot::{Manifest, SnapshotError, SnapshotMetadata, Store};

/// In the directory of what a job keeps from run to run: locked, shared, while it is used; its
/// modification time is when that was last.
pub(crate) const CACHE_LOCK: &str = "lock";

/// Beside the trees: that overlays on them work, and under what circumstances.
const OVERLAY: &str = "overlay";

/// Why a job has no workspace.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkspaceError {
    /// The tree could not be written.
    #[error("the workspace could not be prepared")]
    Snapshot(#[from] SnapshotError),
    /// A directory could not be made.
    #[error("cannot make {}", path.display())]
    Dir {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A lock could not be taken.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// The source tree of one run, from which every job gets its view.
#[derive(Debug)]
pub struct RunSource {
    store: Arc<Store>,
    manifest: Arc<Manifest>,
    content_hash: String,
    trees: PathBuf,
    cargo_home: PathBuf,
    affinity: String,
    host: Arc<dyn Host>,
    overlays: Overlays,
    has_overlays: OnceLock<bool>,
    lease: Mutex<Option<Arc<TreeLease>>>,
    git: Option<(String, Option<String>)>,
}

/// The view of one job. Keeps what it stands on in use until it is dropped.
#[derive(Debug)]
pub struct JobView {
    /// Working directory, as the job sees it.
    pub workspace: PathBuf,
    /// The same tree without what the job writes, as this process sees it.
    pub source_tree: PathBuf,
    /// Where this process writes what the job is to find in its workspace.
    pub writable: PathBuf,
    /// `CARGO_TARGET_DIR`, as the job sees it.
    pub cargo_target: PathBuf,
    /// The same, as this process sees it.
    pub own_cargo_target: PathBuf,
    /// How the job has to be started to see it.
    pub isolation: Isolation,
    _hold: Hold,
}

#[derive(Debug)]
#[expect(dead_code, reason = "held, never read")]
enum Hold {
    Tree(Arc<TreeLease>, FileLock),
    Slot(FileLock, PrivateCopy, FileLock),
    Own(FileLock, FileLock),
}

impl RunSource {
    /// Of this snapshot. `trees` is where shared trees lie; `affinity` names the source root, so
    /// that its runs meet the tree they left.
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        manifest: Arc<Manifest>,
        content_hash: String,
        trees: PathBuf,
        cargo_home: PathBuf,
        affinity: String,
        host: Arc<dyn Host>,
    ) -> Self {
        Self {
            store,
            manifest,
            content_hash,
            overlays: Overlays::new(trees.with_file_name(OVERLAY)),
            trees,
            cargo_home,
            affinity,
            host,
            has_overlays: OnceLock::new(),
            lease: Mutex::default(),
            git: None,
        }
    }

    /// Was taken on this commit, with this branch checked out.
    #[must_use]
    pub fn on_commit(mut self, head: Option<String>, branch: Option<String>) -> Self {
        self.git = head.map(|head| (head, branch));
        self
    }

    /// The commit and the branch that it was taken on.
    #[must_use]
    pub fn commit(&self) -> Option<(&str, Option<&str>)> {
        self.git.as_ref().map(|(head, branch)| (head.as_str(), branch.as_deref()))
    }

    /// Where the contents of the snapshot are.
    #[must_use]
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// What a tree of the snapshot says of itself elsewhere.
    pub(crate) fn metadata(&self, source_root: &Path, now: DateTime<Utc>) -> SnapshotMetadata {
        SnapshotMetadata {
            source_root: source_root.to_string_lossy().into_owned(),
            snapshot_dir: String::new(),
            git_head: self.git.as_ref().map(|(head, _)| head.clone()),
            git_dirty: None,
            created_at: now,
            content_hash: Some(self.manifest.hash()),
            git_branch: self.git.as_ref().and_then(|(_, branch)| branch.clone()),
            tree: None,
        }
    }

    /// Content hash of the tree, 64 hexadecimal digits.
    #[must_use]
    pub fn content_hash(&self) -> &str {
        &self.content_hash
    }

    /// The snapshot.
    #[must_use]
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// `CARGO_HOME` of all host jobs.
    #[must_use]
    pub fn cargo_home(&self) -> &Path {
        &self.cargo_home
    }

    /// To be called when a view could not be mounted: the next run tries again what works here.
    pub(super) fn mount_failed(&self) {
        self.overlays.forget();
    }

    /// Gives a job its view. `cache_dir` is the job's own, kept from run to run; `scratch` goes
    /// with the job. With `times` it has a copy, whose files all have that time: for who keeps what was built of
    /// other sources.
    ///
    /// # Errors
    /// [`WorkspaceError`].
    pub fn view(
        &self,
        cache_dir: &Path,
        scratch: &Path,
        times: Option<SystemTime>,
        cancel: &CancelToken,
    ) -> Result<JobView, WorkspaceError> {
        let in_use = use_cache(cache_dir, cancel)?;
        if let Some(times) = times {
            return self.copy_of_a_time(cache_dir, scratch, times, in_use, cancel);
        }
        if *self.has_overlays.get_or_init(|| self.overlays.work(&*self.host, cache_dir)) {
            self.overlay(cache_dir, scratch, in_use, cancel)
        } else {
            self.copy(cache_dir, in_use, cancel)
        }
    }

    fn overlay(
        &self,
        cache_dir: &Path,
        scratch: &Path,
        in_use: FileLock,
        cancel: &CancelToken,
    ) -> Result<JobView, WorkspaceError> {
        let tree = self.tree(cancel)?;
        let workspace = cache_dir.join("workspace");
        let cargo_target = cache_dir.join("cargo-target");
        let (upper, work) = (scratch.join("upper"), scratch.join("work"));
        for dir in [&workspace, &cargo_target, &upper, &work] {
            make_dir(dir)?;
        }
        let mut mounts = self.protected();
        let writable = upper.clone();
        mounts.push(Mount::Overlay { lower: tree.path.clone(), upper, work, target: workspace.clone() });
        let mut own_cargo_target = cargo_target.clone();
        if tree.slot > 0 {
            // Another run has the first tree: its cache must not meet the file times of this one.
            let own = cache_dir.join(format!("cargo-target.{}", tree.slot));
            make_dir(&own)?;
            own_cargo_target.clone_from(&own);
            mounts.push(Mount::Bind { source: own, target: cargo_target.clone(), read_only: false });
        }
        Ok(JobView {
            workspace,
            source_tree: tree.path.clone(),
            writable,
            own_cargo_target,
            cargo_target,
            isolation: Isolation::Namespaces(mounts),
            _hold: Hold::Tree(tree, in_use),
        })
    }

    /// A copy that goes with the job, whose files all have one time. What cargo builds of it lies apart from what it
    /// builds of trees, which have other times.
    fn copy_of_a_time(
        &self,
        cache_dir: &Path,
        scratch: &Path,
        times: SystemTime,
        in_use: FileLock,
        cancel: &CancelToken,
    ) -> Result<JobView, WorkspaceError> {
        let (slot, lock) = free_slot(cache_dir, "timed")?;
        let own_cargo_target = cache_dir.join(format!("cargo-target.timed-{slot}"));
        let namespaces = self.host.supports_namespaces();
        // Where the job cannot have its tree at another place than where it is, cargo takes another place for
        // another package: then it is there again in the next run.
        let tree = match namespaces {
            true => scratch.join("tree"),
            false => cache_dir.join(format!("timed-{slot}")),
        };
        make_dir(&own_cargo_target)?;
        self.own_tree(&tree, cancel)?;
        let failed = |source| WorkspaceError::Dir { path: tree.clone(), source };
        give_times(&tree, times).map_err(failed)?;
        let (mut workspace, mut cargo_target) = (tree.clone(), own_cargo_target.clone());
        let isolation = match namespaces {
            false => Isolation::Session,
            true => {
                workspace = cache_dir.join("workspace");
                cargo_target = cache_dir.join("cargo-target");
                let mut mounts = self.protected();
                for (source, target) in [(&tree, &workspace), (&own_cargo_target, &cargo_target)] {
                    make_dir(target)?;
                    let (source, target) = (source.clone(), target.clone());
                    mounts.push(Mount::Bind { source, target, read_only: false });
                }
                Isolation::Namespaces(mounts)
            }
        };
        Ok(JobView {
            workspace,
            source_tree: tree.clone(),
            writable: tree,
            own_cargo_target,
            cargo_target,
            isolation,
            _hold: Hold::Own(lock, in_use),
        })
    }

    /// What other runs stand on is not written by accident, not even by a job that runs as root.
    fn protected(&self) -> Vec<Mount> {
        let dirs = self.store.dirs();
        let all = [&dirs.store, &dirs.snapshots, &self.trees].into_iter().filter(|dir| dir.is_dir());
        all.map(|dir| Mount::Bind { source: dir.clone(), target: dir.clone(), read_only: true }).collect()
    }

    /// A tree of one's own that nobody else changes, in place of what an earlier try left.
    pub(crate) fn own_tree(&self, dir: &Path, cancel: &CancelToken) -> Result<(), WorkspaceError> {
        jericho_host::fs::remove_tree(dir)
            .map_err(|source| WorkspaceError::Dir { path: dir.to_path_buf(), source })?;
        make_dir(dir)?;
        crate::snapshot::materialize::write_tree(&self.store, &self.manifest, dir, cancel)?;
        Ok(())
    }

    /// The shared tree, written when the first job asks for it.
    pub(crate) fn tree(&self, cancel: &CancelToken) -> Result<Arc<TreeLease>, WorkspaceError> {
        let mut lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lease) = &*lease {
            return Ok(Arc::clone(lease));
        }
        let fresh = Arc::new(lease_tree(&self.store, &self.trees, &self.manifest, &self.affinity, cancel)?);
        *lease = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    fn copy(
        &self,
        cache_dir: &Path,
        in_use: FileLock,
        cancel: &CancelToken,
    ) -> Result<JobView, WorkspaceError> {
        let (slot, lock) = free_slot(cache_dir, "slot")?;
        let slot = cache_dir.join(format!("copy.{slot}"));
        let cargo_target = slot.join("cargo-target");
        make_dir(&cargo_target)?;
        let copy = private_copy(&self.store, &slot, &self.manifest, cancel)?;
        let workspace = copy.path.clone();
        let isolation = match self.host.supports_namespaces() {
            true => Isolation::Namespaces(self.protected()),
            false => Isolation::Session,
        };
        Ok(JobView {
            source_tree: workspace.clone(),
            writable: workspace.clone(),
            own_cargo_target: cargo_target.clone(),
            workspace,
            cargo_target,
            isolation,
            _hold: Hold::Slot(lock, copy, in_use),
        })
    }
}

/// Keeps what a job keeps from run to run from being collected, and notes that it was used.
fn use_cache(cache_dir: &Path, cancel: &CancelToken) -> Result<FileLock, WorkspaceError> {
    let path = cache_dir.join(CACHE_LOCK);
    let failed = |source| WorkspaceError::Dir { path: path.clone(), source };
    loop {
        make_dir(cache_dir)?;
        let lock = crate::lock::shared(&path, cancel).map_err(|error| match error {
            WaitError::Lock(error) => WorkspaceError::Lock(error),
            other => failed(io::Error::other(other)),
        })?;
        // A collection that was faster has removed the directory, and with it the file that is
        // locked now.
        if crate::lock::is_at(&lock, &path) {
            crate::lock::touch(&lock).map_err(failed)?;
            return Ok(lock);
        }
    }
}

/// The first slot that no other run uses.
fn free_slot(cache_dir: &Path, kind: &str) -> Result<(u32, FileLock), WorkspaceError> {
    let mut slot = 0;
    loop {
        if let Some(lock) = FileLock::try_exclusive(&cache_dir.join(format!("{kind}-{slot}.lock")))? {
            return Ok((slot, lock));
        }
        slot += 1;
    }
}

/// Gives all files below a directory this time.
fn give_times(dir: &Path, time: SystemTime) -> io::Result<()> {
    let since = time.duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    let time = rustix::fs::Timespec {
        tv_sec: since.as_secs().try_into().map_err(io::Error::other)?,
        tv_nsec: since.subsec_nanos().into(),
    };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::utimensat(rustix::fs::CWD, entry.path(), &times, flags)?;
            }
        }
    }
    Ok(())
}

fn make_dir(dir: &Path) -> Result<(), WorkspaceError> {
    fs::create_dir_all(dir).map_err(|source| WorkspaceError::Dir { path: dir.to_path_buf(), source })
}
