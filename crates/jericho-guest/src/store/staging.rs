//! A directory that becomes a snapshot.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use jericho_manifest::protocol::Receive;
use jericho_manifest::{ContentHash, Delta, Encoded, MARKER, at};
use rustix::fs::{FlockOperation, Mode};
use rustix::io::Errno;

use super::kept;
use super::refused::Refused;
use super::shelf::Shelf;
use super::used::{self, Used};
use super::work_dir::{self, WorkDir};

/// A directory that becomes a snapshot. Dropped, it is removed, unless it got its name.
pub(super) struct Staging<'s> {
    shelf: &'s Shelf,
    pub(super) name: String,
    /// Locked for as long as this process lives.
    pub(super) dir: OwnedFd,
}

impl<'s> Staging<'s> {
    pub(super) fn new(work_dir: &WorkDir, shelf: &'s Shelf) -> Result<Self, Refused> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let failed = |errno| Refused::step("make a directory for what is received", errno);
        // Nobody sweeps up between the two steps.
        let _lock = work_dir.lock()?;
        loop {
            let name = format!("tmp-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            match rustix::fs::mkdirat(shelf.dir(), name.as_str(), Mode::from_raw_mode(0o755)) {
                // Of a killed process with the same number.
                Err(Errno::EXIST) => continue,
                other => other.map_err(failed)?,
            }
            let dir = at::open_dir(shelf.dir(), name.as_bytes()).map_err(failed)?;
            work_dir::flock(dir.as_fd(), FlockOperation::NonBlockingLockExclusive).map_err(failed)?;
            return Ok(Self { shelf, name, dir });
        }
    }

    pub(super) fn sub_dir(&self, name: &str) -> Result<OwnedFd, Refused> {
        work_dir::sub_dir(&self.dir, name)
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), Refused> {
        at::remove_all(self.dir.as_fd(), name.as_bytes())
            .map_err(|errno| Refused::step(format_args!("remove {name} of what is received"), errno))
    }

    pub(super) fn write_manifest(&self, manifest: &Encoded) -> Result<(), Refused> {
        kept::write(&self.dir, manifest).map_err(|errno| Refused::step("write the manifest", errno))
    }

    /// What the manifest is made of, beside that of the base.
    pub(super) fn write_delta(&self, base: &ContentHash, delta: &Delta) -> Result<(), Refused> {
        kept::write_delta(&self.dir, base, delta)
            .map_err(|errno| Refused::step("write what the manifest is made of", errno))
    }

    pub(super) fn write_used(&self, used: &Used) -> Result<(), Refused> {
        used::write_used(&self.dir, used).map_err(|errno| Refused::step("write who uses the snapshot", errno))
    }

    /// The marker, last of all. Beside the tree: a job sees what the source has, and nothing else.
    pub(super) fn finish(&self, wanted: &Receive) -> Result<(), Refused> {
        work_dir::write_new(&self.dir, MARKER, wanted.marker.as_bytes())
            .map_err(|errno| Refused::step("write the marker", errno))
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        // Not there any more once it is published.
        let _ = at::remove_all(self.shelf.dir(), self.name.as_bytes());
    }
}
