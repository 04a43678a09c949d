//! Snapshots that are there: found, checked, noted as used, set aside, swept up.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use jericho_host::sys::own_identity;
use jericho_host::{Clock as _, SystemClock};
use jericho_manifest::{ContentHash, Delta, Encoded, MARKER, at};
use rustix::fs::{FlockOperation, RenameFlags};
use rustix::io::Errno;
use serde::Deserialize;

use super::check::Depth;
use super::kept::{self, Late};
use super::leases::Leases;
use super::look::Look;
use super::refused::Refused;
use super::used::{Used, blocks, read_used, write_used};
use super::work_dir::{self, Lock, WorkDir};

/// Most bytes of a marker.
const LARGEST_MARKER: u64 = 1 << 20;
/// Manifests that are kept in memory: those of a conversation repeat.
const RECENT: usize = 2;
/// A tree of more entries is not checked file by file again for [`TRUSTED`] seconds.
const LARGE: usize = 20_000;
const TRUSTED: i64 = 60;

/// The directory of all snapshots.
pub(super) struct Shelf {
    dir: OwnedFd,
    boot_id: String,
    recent: Arc<Mutex<VecDeque<Arc<Encoded>>>>,
    /// What goes on after an answer.
    late: Mutex<Option<JoinHandle<()>>>,
    set_aside: std::sync::atomic::AtomicU64,
}

/// What there is of a snapshot.
pub(super) enum Found<T> {
    /// All of it, as far as can be seen.
    Sound(T),
    /// Something is wrong: a part of a sentence.
    Damaged(String),
    /// It went away.
    Nothing,
}

impl Shelf {
    pub(super) fn open(work_dir: &WorkDir) -> Result<Self, Refused> {
        let own = own_identity().map_err(|error| Refused::io("tell which boot this is", &error))?;
        Ok(Self {
            dir: work_dir.sub_dir("snapshots")?,
            boot_id: own.boot_id,
            recent: Arc::default(),
            late: Mutex::default(),
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
    pub(super) fn check(&self, hash: &ContentHash) -> Result<Found<Arc<Encoded>>, Refused> {
        Ok(match self.begin_check(hash)? {
            Found::Sound(look) => match look.finish() {
                Ok(()) => Found::Sound(look.manifest),
                Err(why) => Found::Damaged(why),
            },
            Found::Damaged(why) => Found::Damaged(why),
            Found::Nothing => Found::Nothing,
        })
    }

    /// Manifest and marker. The tree is still to be looked at.
    pub(super) fn begin_check(&self, hash: &ContentHash) -> Result<Found<Look>, Refused> {
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
        let engine = used.map(|used| used.engine).unwrap_or_default();
        Ok(Found::Sound(Look { dir, manifest, published, depth, engine, boot_id: self.boot_id.clone() }))
    }

    fn manifest(&self, dir: &OwnedFd, hash: &ContentHash) -> Result<Arc<Encoded>, String> {
        self.settle();
        let known = locked(&self.recent).iter().find(|known| known.hash() == *hash).map(Arc::clone);
        if let Some(known) = known {
            return kept::look(dir, &known).map(|()| known);
        }
        let manifest = Arc::new(kept::read(dir, hash)?);
        self.remember(&manifest);
        Ok(manifest)
    }

    /// Keeps a manifest in memory.
    pub(super) fn remember(&self, manifest: &Arc<Encoded>) {
        remember(&self.recent, manifest);
    }

    /// Puts a manifest together, in memory and on the disk, on a thread of its own: the answer was given.
    pub(super) fn begin_late(&self, late: Late) {
        self.settle();
        let Ok(dir) = self.open_snapshot(&late.hash) else { return };
        let recent = Arc::clone(&self.recent);
        let work = move || {
            let Some(manifest) = late.manifest().map(Arc::new) else { return };
            // Asked for with the next question.
            let _ = (manifest.directories(), manifest.firsts());
            remember(&recent, &manifest);
            // What it is told by now stays where there is no room for more.
            let _ = kept::put_together(&dir, &manifest);
        };
        // Without a thread the next question finds both parts.
        *locked(&self.late) = std::thread::Builder::new().spawn(work).ok();
    }

    /// Waits for that.
    fn settle(&self) {
        if let Some(late) = locked(&self.late).take() {
            // A fault of it leaves both parts.
            let _ = late.join();
        }
    }

    /// What a tree that was just written is noted as.
    pub(super) fn fresh_use(&self, engine: &str, manifest: &Encoded) -> Used {
        Used::fresh(engine, &self.boot_id, manifest)
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
        // What is written to is not removed.
        self.settle();
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

impl Drop for Shelf {
    fn drop(&mut self) {
        self.settle();
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remember(recent: &Mutex<VecDeque<Arc<Encoded>>>, manifest: &Arc<Encoded>) {
    let mut recent = locked(recent);
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
