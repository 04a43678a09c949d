//! Who used a snapshot last, when it was looked at, and what it takes.

use std::os::fd::AsFd;

use jericho_host::{Clock as _, SystemClock};
use jericho_manifest::Encoded;
use rustix::fs::AtFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::work_dir;

/// What files take their room in.
const BLOCK: u64 = 4096;
/// Most bytes of such a file.
const LARGEST: u64 = 1 << 20;

/// Who used a tree last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Used {
    pub(super) engine: String,
    /// In which every content was seen as it should be, or was written.
    pub(super) boot_id: String,
    /// When every file was looked at, in seconds since 1970.
    pub(super) checked_at: i64,
    /// What the tree takes on the disk, when it shares nothing with others.
    pub(super) bytes: u64,
}

impl Used {
    /// Of a tree that was just written, or looked at.
    pub(super) fn fresh(engine: &str, boot_id: &str, manifest: &Encoded) -> Self {
        let own = manifest.bytes().len() as u64 + 16 * BLOCK;
        let sizes = (0..manifest.len()).map(|position| manifest.size(position));
        let bytes = sizes.map(blocks).fold(own, u64::saturating_add);
        let (engine, boot_id) = (engine.to_owned(), boot_id.to_owned());
        Self { engine, boot_id, checked_at: SystemClock.now().timestamp(), bytes }
    }
}

pub(super) fn read_used(dir: impl AsFd) -> Option<Used> {
    serde_json::from_slice(&work_dir::read(dir, "used", LARGEST).ok()??).ok()
}

pub(super) fn write_used(dir: impl AsFd, used: &Used) -> rustix::io::Result<()> {
    let text = serde_json::to_vec(used).map_err(|_| Errno::INVAL)?;
    work_dir::replace(dir, "used", &text)
}

/// When a snapshot was used last, and what it takes at most.
pub(super) fn last_used(dir: impl AsFd) -> ((i64, i64), Option<u64>) {
    let stat = rustix::fs::statat(&dir, "used", AtFlags::SYMLINK_NOFOLLOW);
    let time = stat.map_or((0, 0), |stat| (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)));
    (time, read_used(dir).map(|used| used.bytes))
}

/// Bytes of a file on the disk. Directories, of which there are fewer than files, have a block each.
pub(super) fn blocks(size: u64) -> u64 {
    (size.div_ceil(BLOCK) + 1).saturating_mul(BLOCK)
}
