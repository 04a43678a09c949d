//! Garbage collection: what no live snapshot needs goes away.

use std::collections::HashSet;
use std::path::Path;

use jericho_host::CancelToken;
use jericho_host::lock::FileLock;

use super::error::SnapshotError;
use super::hash::ContentHash;
use super::index::StatCache;
use super::objects::{HashSetByHash, ObjectReader, Objects};
use super::segment::SegmentWriter;
use super::store::Store;

/// A segment with more than this many hundredths of its bytes dead is written anew.
const REWRITE_ABOVE: u64 = 50;
/// Segments up to this size are joined…
const SMALL: u64 = 1024 * 1024;
/// …once there are more than this many of them.
pub(super) const MANY_SMALL: usize = 16;
/// The same while somebody waits for a snapshot.
pub(super) const VERY_MANY_SMALL: usize = 128;

/// What a collection removed, or would remove.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CollectReport {
    /// On the disk, all together.
    pub bytes: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Segments, removed or written anew.
    pub segments: u64,
    /// Stat caches of source roots that are gone.
    pub stat_caches: u64,
}

impl Store {
    /// Removes every snapshot that is neither in `live`, which is asked once nothing can change, nor pinned by a live process, the
    /// contents that only those had, and what killed processes left unfinished. Waits until
    /// nobody takes a snapshot or lays out a tree, and keeps them waiting while it works. With
    /// `dry_run` nothing is removed.
    ///
    /// # Errors
    /// [`SnapshotError`]; what was removed by then was not needed.
    pub fn collect(
        &self,
        live: impl FnOnce() -> std::io::Result<HashSet<ContentHash>>,
        dry_run: bool,
        cancel: &CancelToken,
    ) -> Result<CollectReport, SnapshotError> {
        self.settle();
        let _lock = self.lock_exclusive(cancel)?;
        let mut sweep = Sweep { store: self, cancel, dry_run, report: CollectReport::default() };
        // Pins first: who lets go of a pin has made the snapshot known to `live` before.
        let mut needed: HashSet<ContentHash> = HashSet::new();
        needed.extend(sweep.pins()?);
        needed.extend(live().map_err(SnapshotError::io("ask what is needed of", &self.dirs().snapshots))?);
        let needed = sweep.snapshots(&needed)?;
        sweep.segments(&needed)?;
        sweep.stat_caches()?;
        Ok(sweep.report)
    }

    /// Joins small segments when there are more than `many` and nobody uses the store.
    pub(crate) fn tidy(&self, many: usize, cancel: &CancelToken) -> Result<(), SnapshotError> {
        if self.segments_known() <= many {
            return Ok(());
        }
        let Some(_lock) = self.try_lock_exclusive()? else { return Ok(()) };
        let objects = self.objects()?;
        let small: Vec<u32> = (0u32..)
            .zip(&objects.segments)
            .filter(|(_, segment)| segment.size <= SMALL)
            .map(|(number, _)| number)
            .collect();
        if small.len() > many {
            rewrite(self, &objects, &small, |_| true, cancel)?;
        }
        Ok(())
    }
}

struct Sweep<'a> {
    store: &'a Store,
    cancel: &'a CancelToken,
    dry_run: bool,
    report: CollectReport,
}

impl Sweep<'_> {
    /// Snapshots that live processes use. Pins of dead ones are removed.
    fn pins(&mut self) -> Result<Vec<ContentHash>, SnapshotError> {
        let mut pinned = Vec::new();
        for (name, path) in list(&self.store.pins_dir())? {
            let hash = name.split('.').next().and_then(|hash| hash.parse().ok());
            match (hash, FileLock::try_exclusive(&path)?) {
                (Some(hash), None) => pinned.push(hash),
                // Nobody can pin anew meanwhile: that needs the store lock.
                _ => self.remove(&path)?,
            }
        }
        Ok(pinned)
    }

    /// Removes dead snapshots; returns the contents of the live ones.
    fn snapshots(&mut self, live: &HashSet<ContentHash>) -> Result<HashSetByHash, SnapshotError> {
        let mut needed = HashSetByHash::default();
        for (name, path) in list(&self.store.dirs().snapshots)? {
            let hash = name.parse::<ContentHash>().ok();
            if hash.is_some_and(|hash| live.contains(&hash)) {
                for (name, left) in list(&path)? {
                    if name.starts_with("tmp-") {
                        self.remove(&left)?;
                    }
                }
                // A damaged manifest needs nothing that could still be found by it.
                match hash.map(|hash| self.store.load(&hash)) {
                    Some(Ok(Some(manifest))) => needed.extend(manifest.iter().map(|entry| entry.hash)),
                    Some(Err(error)) if !error.is_damage() => return Err(error),
                    _ => {}
                }
            } else if hash.is_some() {
                self.remove(&path)?;
                self.report.snapshots += 1;
            }
        }
        Ok(needed)
    }

    fn segments(&mut self, needed: &HashSetByHash) -> Result<(), SnapshotError> {
        let objects = self.store.objects()?;
        let known: HashSet<&Path> = objects.segments.iter().map(|segment| segment.path.as_path()).collect();
        for (_, path) in list(&self.store.segments_dir())? {
            // Unfinished or damaged: nobody works on one while the lock is held.
            if !known.contains(path.as_path()) {
                self.remove(&path)?;
            }
        }
        let mut live_bytes = vec![0u64; objects.segments.len()];
        for (number, extent) in needed.iter().filter_map(|hash| objects.number_of(hash)) {
            if let Some(bytes) = live_bytes.get_mut(number as usize) {
                *bytes += extent.len;
            }
        }
        let mut half_dead = Vec::new();
        for ((number, segment), live) in (0u32..).zip(&objects.segments).zip(live_bytes) {
            let is_needed = live > 0 || objects.rows_of(number).iter().any(|(hash, _)| needed.contains(hash));
            if !is_needed {
                self.remove(&segment.path)?;
                self.report.segments += 1;
            } else if segment.size.saturating_sub(live).saturating_mul(100)
                > segment.size.saturating_mul(REWRITE_ABOVE)
                && segment.size > 4096
            {
                half_dead.push(number);
                self.report.segments += 1;
                self.report.bytes += segment.size.saturating_sub(live);
            }
        }
        if !half_dead.is_empty() && !self.dry_run {
            rewrite(self.store, &objects, &half_dead, |hash| needed.contains(hash), self.cancel)?;
        }
        for (name, path) in list(&self.store.marks_dir())? {
            let segment = name.split('.').next().unwrap_or_default();
            if !self.dry_run && !self.store.segments_dir().join(format!("{segment}.seg")).exists() {
                self.remove(&path)?;
            }
        }
        Ok(())
    }

    fn stat_caches(&mut self) -> Result<(), SnapshotError> {
        for (_, path) in list(&self.store.dirs().stat_cache)? {
            let root = StatCache::load(&path).root();
            if !root.is_some_and(|root| root.is_dir()) {
                self.remove(&path)?;
                self.report.stat_caches += 1;
            }
        }
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> Result<(), SnapshotError> {
        self.cancel.reason().map_or(Ok(()), |reason| Err(SnapshotError::Cancelled(reason)))?;
        self.report.bytes = self.report.bytes.saturating_add(size_of(path));
        if self.dry_run {
            return Ok(());
        }
        jericho_host::fs::remove_tree(path).map_err(SnapshotError::io("remove", path))
    }
}

/// Copies what is wanted of some segments to a new one, then removes them.
fn rewrite(
    store: &Store,
    objects: &Objects,
    numbers: &[u32],
    wanted: impl Fn(&ContentHash) -> bool,
    cancel: &CancelToken,
) -> Result<(), SnapshotError> {
    let mut reader = ObjectReader::new(objects, &store.marks_dir());
    let mut segment = SegmentWriter::create(&store.segments_dir(), &store.fresh_id())?;
    for &number in numbers {
        for (hash, _) in objects.rows_of(number).into_iter().filter(|(hash, _)| wanted(hash)) {
            cancel.reason().map_or(Ok(()), |reason| Err(SnapshotError::Cancelled(reason)))?;
            let start = segment.position();
            match reader.read(&hash, b"", |piece| segment.append(piece)) {
                Ok(()) => segment.seal(start, hash),
                // What is damaged is not carried on; who needs it will say so.
                Err(error) if error.is_damage() => segment.rewind(start)?,
                Err(error) => return Err(error),
            }
        }
    }
    if let Some((file, _)) = segment.publish()? {
        // The old ones go now.
        file.sync_data().map_err(SnapshotError::io("sync", store.segments_dir()))?;
    }
    for &number in numbers {
        if let Some(old) = objects.segments.get(number as usize) {
            std::fs::remove_file(&old.path).map_err(SnapshotError::io("remove", &old.path))?;
        }
    }
    Ok(())
}

/// Names and paths in a directory of the store. Names that no store makes are left alone.
fn list(directory: &Path) -> Result<Vec<(String, std::path::PathBuf)>, SnapshotError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(SnapshotError::io("list", directory))? {
        let entry = entry.map_err(SnapshotError::io("list", directory))?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Bytes on the disk of a file or a tree.
fn size_of(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(found) = std::fs::symlink_metadata(path) else { return 0 };
    let own = found.blocks() * 512;
    if !found.is_dir() {
        return own;
    }
    let Ok(entries) = std::fs::read_dir(path) else { return own };
    entries.flatten().fold(own, |sum, entry| sum.saturating_add(size_of(&entry.path())))
}
