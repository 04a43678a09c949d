//! What guests of a cluster are given: volumes of the member that they go to.
//!
//! A directory of one machine is nothing on the others, so source and runner are brought to the chosen member as
//! volumes that are named by their content. They stay for the next job; those that nobody has used for a day go
//! when another one is brought.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use jericho_host::CancelToken;
use jericho_manifest::EntryKind;
use pika_cloud::ops::{OpsError, TreeWriter, VolumeRef};
use sha2::{Digest, Sha256};

use super::kit;
use super::labels;
use super::place::Place;
use super::volumes::is_unused;
use crate::executor::failure::Failure;
use crate::executor::workspace::RunSource;
use crate::snapshot::SnapshotError;
use crate::snapshot::objects::ObjectReader;

/// How long a volume stays that no job uses.
const UNUSED_FOR: Duration = Duration::from_secs(24 * 3600);

/// Characters of a hash in the name of a volume.
const DIGITS: usize = 16;

/// The member that was chosen, and the names of the volumes there.
#[derive(Debug)]
pub(super) struct OnMember {
    pub(super) member: String,
    pub(super) snapshot: String,
    /// Absent where the image has to have one.
    pub(super) runner: Option<String>,
    /// Whether the snapshot was not there yet.
    pub(super) is_new: bool,
}

/// Where volumes are brought to.
pub(super) struct Member<'a> {
    pub(super) place: &'a Place,
    pub(super) name: String,
    pub(super) now: DateTime<Utc>,
}

impl Member<'_> {
    /// Makes sure that source and runner are there.
    pub(super) fn bring(
        self,
        source: &RunSource,
        runner: Option<&Path>,
        cancel: &CancelToken,
    ) -> Result<OnMember, Failure> {
        let failed = |error: OpsError| self.place.failed(&error, None, cancel);
        let pool = self
            .place
            .incus
            .root_pool(&self.place.config.project, &self.place.config.profile)
            .map_err(failed)?;
        let hash = source.content_hash();
        let snapshot = self.volume(&pool, "snapshot", hash);
        let is_new = self
            .ensure(&snapshot, "snapshot", &mut |tree| write_source(tree, source, cancel))
            .map_err(failed)?;
        let runner = runner.map(|path| self.bring_runner(&pool, path, cancel)).transpose()?;
        if is_new {
            // What is left now is in nobody's way, and goes the next time.
            let _ = self.sweep(&pool);
        }
        Ok(OnMember { member: self.name, snapshot: snapshot.name, runner, is_new })
    }

    fn bring_runner(&self, pool: &str, path: &Path, cancel: &CancelToken) -> Result<String, Failure> {
        let unreadable = |error: io::Error| {
            Failure::Errored(format!("the runner {} cannot be read: {error}", path.display()))
        };
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let volume = self.volume(pool, "runner", &hash);
        self.ensure(&volume, "runner", &mut |tree| {
            tree.file(kit::RUNNER, true, bytes.len() as u64, |out| out.write_all(&bytes))
        })
        .map_err(|error| self.place.failed(&error, None, cancel))?;
        Ok(volume.name)
    }

    fn volume(&self, pool: &str, kind: &str, hash: &str) -> VolumeRef {
        let digits = hash.get(..DIGITS).unwrap_or(hash);
        VolumeRef {
            project: self.place.config.project.clone(),
            pool: pool.to_owned(),
            member: Some(self.name.clone()),
            name: format!("{kind}-{digits}"),
        }
    }

    fn ensure(
        &self,
        volume: &VolumeRef,
        kind: &str,
        fill: &mut (dyn FnMut(&mut TreeWriter<'_>) -> io::Result<()> + Send),
    ) -> Result<bool, OpsError> {
        let used = labels::used(self.now);
        let mut all = labels::brought(kind);
        all.extend(used.clone());
        if self.place.incus.ensure_filled_volume(volume, &all, fill)? {
            return Ok(true);
        }
        // So that nobody takes it for one that is not used.
        self.place.incus.label_volume(volume, &used)?;
        Ok(false)
    }

    /// Removes what nobody has used for a day, on all members.
    fn sweep(&self, pool: &str) -> Result<(), OpsError> {
        for kind in ["snapshot", "runner"] {
            for listed in
                self.place.incus.list_volumes(&self.place.config.project, pool, &labels::brought(kind))?
            {
                if is_unused(&listed, self.now, UNUSED_FOR) {
                    self.place.incus.delete_volume_at(&listed.volume)?;
                }
            }
        }
        Ok(())
    }
}

/// Writes the files of a snapshot as they are in the store.
fn write_source(tree: &mut TreeWriter<'_>, source: &RunSource, cancel: &CancelToken) -> io::Result<()> {
    let store = source.store();
    // Nothing is collected while it is read.
    let _lock = store.lock_shared(cancel).map_err(io::Error::other)?;
    let objects = store.objects().map_err(io::Error::other)?;
    let mut reader = ObjectReader::new(&objects, &store.marks_dir());
    for entry in source.manifest().iter() {
        if cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        let path = Path::new(OsStr::from_bytes(entry.path));
        if entry.kind == EntryKind::Symlink {
            let target = reader.read_all(&entry.hash, entry.path).map_err(io::Error::other)?;
            tree.link(path, &target)?;
            continue;
        }
        tree.file(path, entry.kind == EntryKind::Executable, entry.size, |out| {
            let read =
                reader.read(&entry.hash, entry.path, |piece| out.write_all(piece).map_err(Broken::from));
            read.map_err(|Broken(error)| error)
        })?;
    }
    Ok(())
}

/// Why a content did not get into the archive.
struct Broken(io::Error);

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self(error)
    }
}

impl From<SnapshotError> for Broken {
    fn from(error: SnapshotError) -> Self {
        Self(io::Error::other(error))
    }
}
