//! The marker of a snapshot that was laid out as a directory of its own: its presence means
//! that the directory is complete.
//!
//! ```json
//! { "source_root": "/home/dev/x", "snapshot_dir": "/s/snapshots/0011…/snapshot", "git_head": "4f1c…",
//!   "git_dirty": false, "created_at": "2026-04-01T12:00:00+00:00", "content_hash": "0011…",
//!   "git_branch": "main" }
//! ```
//!
//! It lies in the tree as `jerichoci-snapshot.json`. Where the source has a file of that name at
//! its top, the tree keeps the user's file; the marker is then only in its second place, beside
//! the tree, where it always is too.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use jericho_host::CancelToken;
use serde::{Deserialize, Serialize};

use super::error::SnapshotError;
use super::hash::ContentHash;
use super::manifest::Manifest;
use super::materialize::{self, make_root};
use super::store::{self, Store};
use super::take::Snapshot;

pub use jericho_manifest::MARKER;

/// Where a snapshot came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMetadata {
    /// The source tree.
    pub source_root: String,
    /// The laid out tree.
    pub snapshot_dir: String,
    /// Commit id.
    pub git_head: Option<String>,
    /// Whether anything differed from it.
    pub git_dirty: Option<bool>,
    /// When the snapshot was taken.
    #[serde(serialize_with = "rfc3339")]
    pub created_at: DateTime<Utc>,
    /// 64 hexadecimal digits.
    pub content_hash: Option<ContentHash>,
    /// Branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_branch: Option<String>,
    /// Present when the directory is not the tree yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<TreeState>,
}

/// Why a directory with a marker has no tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TreeState {
    /// It is written out when somebody asks for it.
    OnDemand,
}

fn rfc3339<S: serde::Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339())
}

impl SnapshotMetadata {
    /// Of a snapshot that is laid out in `snapshot_dir`.
    #[must_use]
    pub fn new(snapshot: &Snapshot, snapshot_dir: &Path) -> Self {
        let facts = snapshot.facts.clone().unwrap_or_default();
        Self {
            source_root: snapshot.source_root.to_string_lossy().into_owned(),
            snapshot_dir: snapshot_dir.to_string_lossy().into_owned(),
            git_head: facts.head,
            git_dirty: facts.dirty,
            created_at: snapshot.taken_at,
            content_hash: Some(snapshot.hash),
            git_branch: facts.branch,
            tree: None,
        }
    }

    /// Reads the marker of a laid out tree; `None` when there is none, so that the tree is not
    /// known to be complete.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn load(snapshot_dir: &Path) -> Result<Option<Self>, SnapshotError> {
        let beside = snapshot_dir.with_file_name(MARKER);
        for path in [snapshot_dir.join(MARKER), beside] {
            match std::fs::read(&path) {
                // A file that is no marker is the user's own.
                Ok(text) => {
                    if let Ok(found) = serde_json::from_slice(&text) {
                        return Ok(Some(found));
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(SnapshotError::io("read", path)(error)),
            }
        }
        Ok(None)
    }
}

/// Lays a snapshot out as `<snapshots>/<hash>/snapshot`, once; complete or not at all. Returns
/// the directory. It is never changed afterwards.
///
/// # Errors
/// [`SnapshotError`].
pub fn publish_tree(
    store: &Store,
    manifest: &Manifest,
    metadata: impl FnOnce(&Path) -> SnapshotMetadata,
    cancel: &CancelToken,
) -> Result<PathBuf, SnapshotError> {
    let above = store.snapshot_dir(&manifest.hash());
    let (target, marker) = (above.join("snapshot"), above.join(MARKER));
    if target.is_dir() {
        return Ok(target);
    }
    std::fs::create_dir_all(&above).map_err(SnapshotError::io("create", &above))?;
    let staged = above.join(format!("tmp-{}", store.fresh_id()));
    let metadata = metadata(&target);
    let written = write_published_tree(store, manifest, &metadata, &staged, cancel).and_then(|()| {
        store::replace(&marker, &encode(&metadata)?, &store.fresh_id())?;
        match std::fs::rename(&staged, &target) {
            // Another process laid it out in the meantime.
            Err(_) if target.is_dir() => Ok(false),
            Err(error) => Err(SnapshotError::io("publish", &target)(error)),
            Ok(()) => Ok(true),
        }
    });
    if !matches!(written, Ok(true)) {
        drop(std::fs::remove_dir_all(&staged));
    }
    written.map(|_| target)
}

/// Lays a snapshot out as the new directory `dir`, with the marker in it. A file of the marker's
/// name that the source has is kept in its place.
pub(crate) fn write_published_tree(
    store: &Store,
    manifest: &Manifest,
    metadata: &SnapshotMetadata,
    dir: &Path,
    cancel: &CancelToken,
) -> Result<(), SnapshotError> {
    make_root(dir)?;
    materialize::write_tree(store, manifest, dir, cancel)?;
    if manifest.get(MARKER.as_bytes()).is_none() && !is_directory(manifest) {
        let inside = dir.join(MARKER);
        let text = encode(&SnapshotMetadata { tree: None, ..metadata.clone() })?;
        std::fs::write(&inside, text).map_err(SnapshotError::io("write", inside))?;
    }
    Ok(())
}

fn encode(metadata: &SnapshotMetadata) -> Result<Vec<u8>, SnapshotError> {
    let failed = |source| SnapshotError::Encode { what: "the marker of a snapshot", source };
    serde_json::to_vec_pretty(metadata).map_err(failed)
}

/// Whether the source has a directory of the marker's name.
fn is_directory(manifest: &Manifest) -> bool {
    let inside = [MARKER.as_bytes(), b"/"].concat();
    manifest.iter().any(|entry| entry.path.starts_with(&inside))
}
