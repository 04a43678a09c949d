//! Snapshots that are there: found, checked, noted as used, set aside, swept up.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use jericho_host::sys::own_identity;
use jericho_host::{Clock as _, SystemClock};
use jericho_manifest::{ContentHash, Delta, Encoded, MARKER, at};
use rustix::fs::{AtFlags, FlockOperation, RenameFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::check::{self, Depth};
use super::leases::Leases;
use super::refused::Refused;
use super::work_dir::{self, Lock, WorkDir};

/// Most bytes of a manifest.
pub(super) const LARGEST_MANIFEST: u64 = 1 << 30;
/// Most bytes of a marker.
const LARGEST_MARKER: u64 = 1 << 20;
/// Manifests that are kept in memory: those of a conversation repeat.
const RECENT: usize = 2;
/// What files take their room in.
const BLOCK: u64 = 4096;
/// A tree of more entries is not checked file by file again for [`TRUSTED`] seconds.
const LARGE: usize = 20_000;
const TRUSTED: i64 = 60;

/// The directory of all snapshots.
pub(super) struct Shelf {
    dir: OwnedFd,
    boot_id: String,
    recent: Mutex<VecDeque<Arc<Encoded>>>,
    set_aside: std::sync::atomic::AtomicU64,
}

/// What there is of a snapshot.
pub(super) enum Found {
    /// All of it, as far as can be seen.
    Sound(Arc<Encoded>),
    /// Something is wrong: a part of a sentence.
    Damaged(String),
    /// It went away.
    Nothing,
}

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

impl Shelf {
    pub(super) fn open(work_dir: &WorkDir) -> Result<Self, Refused> {
        let own = own_identity().map_err(|error| Refused::io("tell which boot this is", &error))?;
        Ok(Self {
            dir: work_dir.sub_dir("snapshots")?,
            boot_id: own.boot_id,
            recent: Mutex::default(),
            set_aside: std::sync::atomic::AtomicU64::new(0),
        })
    }

    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Whether there is something of this name.
    pub(super) fn has(&self, hash: &ContentHash) -> Result<bool, Refused> {
        match at::lstat(&self.dir, hash.to_string().as_bytes()) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(Refused::step(format_args!("look for snapshot {hash}"), errno)),
        }
    }

    /// The directory of a snapshot.
    pub(super) fn open_snapshot(&self, hash: &ContentHash) -> rustix::io::Result<OwnedFd> {
        at::open_dir(&self.dir, hash.to_string().as_bytes())
    }

    /// The snapshots that are there.
    pub(super) fn hashes(&self) -> Result<Vec<ContentHash>, Refused> {
        Ok(self.names()?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    fn names(&self) -> Result<Vec<String>, Refused> {
        let names = at::names_in(&self.dir).map_err(|errno| Refused::step("list the snapshots", errno))?;
        Ok(names.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect())
    }

    /// Looks whether a snapshot is what it should be: manifest and marker by their content, directories and
    /// files by lstat(2) against the manifest; after a boot every content too.
    pub(super) fn check(&self, hash: &ContentHash) -> Result<Found, Refused> {
        let dir = match self.open_snapshot(hash) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(Found::Nothing),
            Err(Errno::LOOP | Errno::NOTDIR) => return Ok(Found::Damaged("it is no directory".to_owned())),
            Err(errno) => return Err(Refused::step(format_args!("open snapshot {hash}"), errno)),
        };
        let manifest = match self.manifest(&dir, hash) {
            Ok(manifest) => manifest,
            Err(why) => return Ok(Found::Damaged(why)),
        };
        let published = match published(&dir, hash) {
            Ok(published) => published,
            Err(why) => return Ok(Found::Damaged(why)),
        };
        let used = read_used(&dir);
        let now = SystemClock.now().timestamp();
        let depth = match &used {
            Some(used) if used.boot_id == self.boot_id => {
                let trusted = (0..TRUSTED).contains(&now.saturating_sub(used.checked_at));
                if trusted && manifest.len() > LARGE { Depth::Directories } else { Depth::Files }
            }
            // Written before a boot, and nobody waited for the disk.
            _ => Depth::Contents,
        };
        if let Err(why) = check::tree(&dir, &manifest, published, depth) {
            return Ok(Found::Damaged(why));
        }
        if depth != Depth::Directories {
            let engine = used.map(|used| used.engine).unwrap_or_default();
            // Only spares the next one some work.
            let _ = write_used(&dir, &Used { checked_at: now, ..self.fresh_use(&engine, &manifest) });
        }
        Ok(Found::Sound(manifest))
    }

    fn manifest(&self, dir: impl AsFd, hash: &ContentHash) -> Result<Arc<Encoded>, String> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = recent.iter().find(|known| known.hash() == *hash) {
            let length = at::lstat(&dir, b"manifest").map(|stat| u64::try_from(stat.st_size).unwrap_or(0));
            return match length {
                Ok(length) if length == known.bytes().len() as u64 => Ok(Arc::clone(known)),
                Ok(_) => Err("its manifest has another length".to_owned()),
                Err(errno) => Err(format!("its manifest is missing ({errno})")),
            };
        }
        let bytes = work_dir::read(dir, "manifest", LARGEST_MANIFEST)
            .map_err(|error| format!("its manifest cannot be read ({error})"))?
            .ok_or_else(|| "its manifest is missing".to_owned())?;
        let manifest = Encoded::own(bytes, *hash);
        let manifest = Arc::new(manifest.ok_or_else(|| "its manifest is another one".to_owned())?);
        remember(&mut recent, &manifest);
        Ok(manifest)
    }

    /// Keeps a manifest in memory.
    pub(super) fn remember(&self, manifest: &Arc<Encoded>) {
        remember(&mut self.recent.lock().unwrap_or_else(PoisonError::into_inner), manifest);
    }

    /// What a tree that was just written is noted as.
    pub(super) fn fresh_use(&self, engine: &str, manifest: &Encoded) -> Used {
        let own = manifest.bytes().len() as u64 + 16 * BLOCK;
        let sizes = (0..manifest.len()).map(|position| manifest.size(position));
        let bytes = sizes.map(blocks).fold(own, u64::saturating_add);
        let (engine, boot_id) = (engine.to_owned(), self.boot_id.clone());
        Used { engine, boot_id, checked_at: SystemClock.now().timestamp(), bytes }
    }

    /// What a tree that was made of another one is noted as. What is taken over was looked at when the base was, and
    /// is not today's for having a new name.
    pub(super) fn use_of_next(&self, of_base: Used, engine: &str, base: &Encoded, delta: &Delta) -> Used {
        let checked_at = SystemClock.now().timestamp().min(of_base.checked_at);
        let replaced = delta.set().iter().map(|entry| entry.path).chain(delta.gone_paths());
        let replaced = replaced.filter_map(|path| base.find(path).ok()).map(|position| base.size(position));
        let bytes =
            delta.set().iter().map(|entry| blocks(entry.size)).fold(of_base.bytes, u64::saturating_add);
        let bytes = replaced.map(blocks).fold(bytes, u64::saturating_sub);
        Used { engine: engine.to_owned(), boot_id: self.boot_id.clone(), checked_at, bytes }
    }

    /// Notes who uses a sound snapshot now.
    pub(super) fn note_use(&self, manifest: &Encoded, engine: &str) -> Result<(), Refused> {
        let failed =
            |errno| Refused::step(format_args!("note the use of snapshot {}", manifest.hash()), errno);
        let dir = self.open_snapshot(&manifest.hash()).map_err(failed)?;
        let used = read_used(&dir).map(|used| Used { engine: engine.to_owned(), ..used });
        write_used(&dir, &used.unwrap_or_else(|| self.fresh_use(engine, manifest))).map_err(failed)
    }

    /// What is noted of a snapshot.
    pub(super) fn used(&self, hash: &ContentHash) -> Option<Used> {
        read_used(self.open_snapshot(hash).ok()?)
    }

    /// Takes a snapshot away from its name. What is mounted or open of it stays as it is.
    pub(super) fn set_aside(&self, _lock: &Lock<'_>, hash: &ContentHash) -> Result<(), Refused> {
        let count = self.set_aside.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let aside = format!("old-{hash}-{}-{count}", std::process::id());
        match rustix::fs::renameat(&self.dir, hash.to_string().as_str(), &self.dir, aside.as_str()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Refused::step(format_args!("set snapshot {hash} aside"), errno)),
        }
    }

    /// Removes what killed receivers left, and what was set aside and is not in use. Returns how many
    /// directories that were.
    pub(super) fn sweep(&self, work_dir: &WorkDir, leases: &Leases, dry_run: bool) -> Result<u64, Refused> {
        let names = self.names()?;
        let leftover = |name: &String| name.starts_with("tmp-") || name.starts_with("old-");
        let mut ours = Vec::new();
        for name in names.into_iter().filter(leftover) {
            let _lock = work_dir.lock()?;
            let of = name.strip_prefix("old-").and_then(|rest| rest.get(..64)?.parse().ok());
            if let Some(hash) = of
                && leases.in_use(&hash)?
            {
                continue;
            }
            let dir = match at::open_dir(&self.dir, name.as_bytes()) {
                Ok(dir) => Some(dir),
                Err(Errno::NOENT) => continue,
                // No directory: of nobody's making.
                Err(_) => None,
            };
            // Locked while its receiver lives, or while somebody else removes it.
            let free = |dir: &OwnedFd| {
                work_dir::flock(dir.as_fd(), FlockOperation::NonBlockingLockExclusive).is_ok()
            };
            if dir.as_ref().is_none_or(free) {
                ours.push((name, dir));
            }
        }
        let count = ours.len() as u64;
        for (name, _locked) in ours.into_iter().filter(|_| !dry_run) {
            at::remove_all(self.dir(), name.as_bytes())
                .map_err(|errno| Refused::step(format_args!("remove {name}"), errno))?;
        }
        Ok(count)
    }
}

/// Bytes of a file on the disk. Directories, of which there are fewer than files, have a block each.
fn blocks(size: u64) -> u64 {
    (size.div_ceil(BLOCK) + 1).saturating_mul(BLOCK)
}

fn remember(recent: &mut VecDeque<Arc<Encoded>>, manifest: &Arc<Encoded>) {
    recent.retain(|known| known.hash() != manifest.hash());
    recent.push_front(Arc::clone(manifest));
    recent.truncate(RECENT);
}

/// When a snapshot was published, by its marker: the last file that is written.
fn published(dir: impl AsFd, hash: &ContentHash) -> Result<(i64, i64), String> {
    let text = work_dir::read(&dir, MARKER, LARGEST_MARKER)
        .map_err(|error| format!("its marker cannot be read ({error})"))?
        .ok_or_else(|| "its marker is missing".to_owned())?;
    if !is_marker_of(&text, hash) {
        return Err("its marker is that of another one".to_owned());
    }
    let stat =
        at::lstat(&dir, MARKER.as_bytes()).map_err(|errno| format!("its marker is missing ({errno})"))?;
    Ok((stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)))
}

/// Whether a text is the marker of this snapshot.
pub(super) fn is_marker_of(text: &[u8], hash: &ContentHash) -> bool {
    #[derive(Deserialize)]
    struct Marker {
        content_hash: Option<ContentHash>,
    }
    serde_json::from_slice::<Marker>(text).is_ok_and(|marker| marker.content_hash == Some(*hash))
}

fn read_used(dir: impl AsFd) -> Option<Used> {
    serde_json::from_slice(&work_dir::read(dir, "used", LARGEST_MARKER).ok()??).ok()
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

/// Gives a finished directory its name; an existing one wins. Returns whether it was renamed.
pub(super) fn publish(
    shelf: &Shelf,
    _lock: &Lock<'_>,
    staged: &str,
    hash: &ContentHash,
) -> Result<bool, Refused> {
    let name = hash.to_string();
    let (dir, name) = (&shelf.dir, name.as_str());
    let renamed = match rustix::fs::renameat_with(dir, staged, dir, name, RenameFlags::NOREPLACE) {
        // A file system that does not know the flag; under the lock nobody is faster.
        Err(Errno::INVAL | Errno::NOSYS) if !shelf.has(hash)? => rustix::fs::renameat(dir, staged, dir, name),
        other => other,
    };
    match renamed {
        Ok(()) => Ok(true),
        Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(false),
        Err(errno) => Err(Refused::step(format_args!("publish snapshot {hash}"), errno)),
    }
}
