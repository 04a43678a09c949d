//! Taking a snapshot: one listing and one round of lstat side by side, then only what changed
//! is read.
//!
//! ```text
//! git ls-files ────────────────┐
//! stat cache ─▶ lstat, n threads ─▶ join ─▶ read what is new ─▶ manifest ─▶ publish
//! ```

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use ignore::gitignore::Gitignore;
use jericho_host::sys::processors;
use jericho_host::{CancelToken, Environment};
use rustix::fs::FileType;

use super::at;
use super::collect;
use super::error::{SnapshotError, shown};
use super::git::{self, GitFacts, Listing};
use super::hash::ContentHash;
use super::index::{StatCache, StatCacheWriter, Verdict};
use super::ingest::{Found, Ingest};
use super::manifest::{EntryKind, Manifest, ManifestError, Row};
use super::objects::{HashSetByHash, Objects};
use super::profile::Profile;
use super::stat::{self, StatKey};
use super::store::{self, Pin, Store};
use super::view::{EarlyListing, Listed, View};
use super::walk;

/// From this many files that were read, the memory of the reading threads is worth giving back.
const MANY: u64 = 20_000;

/// What to take a snapshot of.
#[derive(Debug, Clone)]
pub struct SourceSpec {
    /// The directory; a git work tree, a part of one, or neither.
    pub root: PathBuf,
    /// Left out where it lies inside `root`, whether it exists yet or not.
    pub state_root: Option<PathBuf>,
    /// What else is left out.
    pub profile: Profile,
    /// Whether to also ask git for head, branch and dirtiness.
    pub facts: bool,
    /// What git sees of the environment: `PATH`, `HOME`, …; variables that could point it at
    /// another repository are dropped.
    pub env: Environment,
}

/// A snapshot that was taken. While this value or a clone of it lives, no collection removes
/// the snapshot.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Content hash: names it in the store.
    pub hash: ContentHash,
    /// All its entries.
    pub manifest: Arc<Manifest>,
    /// The source root, absolute, without links.
    pub source_root: PathBuf,
    /// When it was begun.
    pub taken_at: DateTime<Utc>,
    /// What git said; absent when not asked for, or outside a repository.
    pub facts: Option<GitFacts>,
    /// What the user should know, sorted by file.
    pub warnings: Vec<SnapshotWarning>,
    /// What it cost.
    pub stats: SnapshotStats,
    _pin: Arc<Pin>,
}

/// Something of a source tree that is not in its snapshot, or that was decided without git.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotWarning {
    /// A file that cannot be copied.
    #[error("{file} is left out: it is a {kind}")]
    LeftOut {
        /// Relative to the source root, escaped.
        file: String,
        /// `FIFO`, `socket`, `character device`, `block device`.
        kind: &'static str,
    },
    /// There is a repository but no git program: ignored files were found by `.gitignore` alone.
    #[error("there is no git program; what to leave out is taken from .gitignore files alone")]
    NoGit,
    /// Nothing is left of the tree.
    #[error("the snapshot is empty: git ignores everything here, or there are no files")]
    Empty,
}

/// What a snapshot cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SnapshotStats {
    /// Entries.
    pub files: u64,
    /// Bytes of all contents.
    pub bytes: u64,
    /// Files and links that were read.
    pub hashed_files: u64,
    /// Bytes that were read.
    pub hashed_bytes: u64,
    /// Whether the store did not have this snapshot before.
    pub is_new: bool,
    /// Until listing and lstat were done, side by side.
    pub listing: Duration,
    /// Reading what changed.
    pub reading: Duration,
    /// Sorting, hashing the manifest, publishing.
    pub publishing: Duration,
}

/// Where the state of an entry comes from.
#[derive(Debug, Clone, Copy)]
enum Origin {
    /// Position in the stat cache.
    Cached(u32),
    /// Position among the keys just read.
    Fresh(u32),
}

/// Entries found so far; names of rows point into `names`.
#[derive(Default)]
struct Collected {
    names: Vec<u8>,
    rows: Vec<(Row, Origin)>,
    keys: Vec<StatKey>,
    warnings: Vec<SnapshotWarning>,
    unsynced: Vec<(File, u64)>,
    read_files: u64,
    read_bytes: u64,
}

struct Source<'a> {
    store: &'a Store,
    spec: &'a SourceSpec,
    cancel: &'a CancelToken,
    view: View,
    rules: Option<Gitignore>,
    cache_file: PathBuf,
}

impl Store {
    /// Takes a snapshot. The tree is not changed in any way (times of last access aside).
    ///
    /// # Errors
    /// [`SnapshotError`]: a root or file that cannot be read, a file that keeps changing, git
    /// refusing or failing in a repository, a store that cannot be written. Nothing is
    /// published then.
    pub fn take(&self, spec: &SourceSpec, cancel: &CancelToken) -> Result<Snapshot, SnapshotError> {
        self.take_listed(spec, None, cancel)
    }

    /// [`Store::take`] with a listing that was begun before, of the same `spec`.
    pub(crate) fn take_listed(
        &self,
        spec: &SourceSpec,
        early: Option<EarlyListing>,
        cancel: &CancelToken,
    ) -> Result<Snapshot, SnapshotError> {
        use std::os::unix::ffi::OsStrExt;
        let view = View::of(spec)?;
        let cache_name = ContentHash::of(view.root.as_os_str().as_bytes()).to_string();
        let source = Source {
            store: self,
            spec,
            cancel,
            rules: walk::own_rules(&view.root)?,
            cache_file: self.dirs().stat_cache.join(cache_name),
            view,
        };
        let lock = self.lock_shared(cancel)?;
        let snapshot = match source.take(early, None)? {
            Some(snapshot) => snapshot,
            // The store lost contents that the stat cache speaks of.
            None => source.take(None, Some(self.objects()?))?.ok_or(SnapshotError::Panicked)?,
        };
        drop(lock);
        // Many small segments only cost time to open.
        drop(self.tidy(collect::VERY_MANY_SMALL, cancel));
        Ok(snapshot)
    }
}

impl Source<'_> {
    /// `trusted`: unchanged files are read again unless this has them. `None`: the store lacks
    /// contents of unchanged files.
    fn take(
        &self,
        early: Option<EarlyListing>,
        trusted: Option<Arc<Objects>>,
    ) -> Result<Option<Snapshot>, SnapshotError> {
        let clock = self.store.clock();
        let (began, taken_at, seen) = (clock.monotonic(), clock.now(), stat::wall_ns(clock));
        let bad_root = |error: rustix::io::Errno| SnapshotError::BadRoot {
            path: self.view.root.clone(),
            source: error.into(),
        };
        let root = at::open_root(&self.view.root).map_err(bad_root)?;
        let mut collected = Collected::default();
        let (listed, (cache, mut verdicts)) = std::thread::scope(|scope| {
            let listed = match early {
                Some(early) => Ok(early),
                None => Err(scope.spawn(|| self.view.list(self.cancel))),
            };
            let cache = StatCache::load(&self.cache_file);
            let verdicts = cache.verify(root.as_fd(), processors());
            if verdicts.contains(&Verdict::Stale) {
                // Will be asked for; git is still listing. What fails here fails there too.
                drop(self.store.objects());
            }
            let listed = match listed {
                Ok(early) => early.wait(),
                Err(listing) => listing.join().unwrap_or(Err(SnapshotError::Panicked)),
            };
            (listed, (cache, verdicts))
        });
        let Listed { listing, facts, warning } = listed?;
        collected.warnings.extend(warning);
        if let Some(objects) = &trusted {
            for (position, verdict) in verdicts.iter_mut().enumerate() {
                if !objects.contains(&cache.hash(position)) {
                    *verdict = Verdict::Stale;
                }
            }
        }
        let listing_done = clock.monotonic();
        self.collect(listing, root.as_fd(), &cache, &verdicts, &mut collected)?;
        if collected.read_files >= MANY {
            jericho_host::sys::memory::give_back();
        }
        let reading_done = clock.monotonic();

        let Collected { names, mut rows, keys, mut warnings, unsynced, read_files, read_bytes } = collected;
        let (small, large): (Vec<_>, Vec<_>) =
            unsynced.into_iter().partition(|&(_, size)| size <= store::SYNC_AT_ONCE);
        let unsynced = large.into_iter().map(|(file, _)| file).collect();
        let (made, synced) = std::thread::scope(|scope| {
            let syncing = (!small.is_empty())
                .then(|| scope.spawn(|| small.iter().try_for_each(|(file, _)| file.sync_data())));
            sort_rows(&names, &mut rows);
            let origins: Vec<Origin> = rows.iter().map(|row| row.1).collect();
            let rows: Vec<Row> = rows.into_iter().map(|row| row.0).collect();
            let manifest = Manifest::from_sorted(names, rows).map_err(manifest_error);
            let synced = syncing.map_or(Ok(Ok(())), std::thread::ScopedJoinHandle::join);
            (manifest.map(|manifest| (manifest, origins)), synced)
        });
        let synced = synced.map_err(|_| SnapshotError::Panicked)?;
        synced.map_err(SnapshotError::io("sync", self.store.segments_dir()))?;
        let (manifest, origins) = made?;
        let manifest = Arc::new(manifest);
        let is_new = !self.store.is_published(&manifest);
        let staged = if trusted.is_none() && (is_new || self.store.has_damage()) {
            let objects = self.store.objects()?;
            let (whole, staged) = std::thread::scope(|scope| {
                let whole = scope.spawn(|| manifest.iter().all(|entry| objects.contains(&entry.hash)));
                let staged = is_new.then(|| self.store.stage(&manifest)).transpose();
                (whole.join(), staged)
            });
            if !whole.map_err(|_| SnapshotError::Panicked)? {
                self.store.sync_later(unsynced);
                return Ok(None);
            }
            staged?
        } else {
            is_new.then(|| self.store.stage(&manifest)).transpose()?
        };
        staged.map_or(Ok(()), |staged| self.store.publish(staged))?;
        self.store.sync_later(unsynced);
        let pin = self.store.pin_locked(&manifest.hash())?;
        if manifest.is_empty() {
            warnings.push(SnapshotWarning::Empty);
        }
        warnings.sort();
        let stats = SnapshotStats {
            files: manifest.len() as u64,
            bytes: manifest.total_size(),
            hashed_files: read_files,
            hashed_bytes: read_bytes,
            is_new,
            listing: listing_done.saturating_sub(began),
            reading: reading_done.saturating_sub(listing_done),
            publishing: clock.monotonic().saturating_sub(reading_done),
        };
        self.remember(seen, cache, verdicts, &manifest, origins, keys);
        Ok(Some(Snapshot {
            hash: manifest.hash(),
            manifest,
            source_root: self.view.root.clone(),
            taken_at,
            facts,
            warnings,
            stats,
            _pin: Arc::new(pin),
        }))
    }

    fn is_left_out(&self, name: &[u8]) -> bool {
        self.spec.profile.excludes(name)
            || self.view.is_in_state_root(name)
            || self.rules.as_ref().is_some_and(|rules| walk::is_left_out(rules, name))
    }

    /// Joins a listing with the cache, reads the rest, and goes on with nested repositories.
    fn collect(
        &self,
        listing: Listing,
        root: std::os::fd::BorrowedFd<'_>,
        cache: &StatCache,
        verdicts: &[Verdict],
        collected: &mut Collected,
    ) -> Result<(), SnapshotError> {
        let mut pending = listing;
        loop {
            let mut nested = Vec::new();
            let wanted = self.join(&pending, cache, verdicts, collected, &mut nested)?;
            collected.read_files += wanted.len() as u64;
            if !wanted.is_empty() {
                let objects = self.store.objects()?;
                let ingest = Ingest {
                    store: self.store,
                    root,
                    objects: &objects,
                    cancel: self.cancel,
                    fresh: Mutex::new(HashSetByHash::with_capacity_and_hasher(
                        wanted.len(),
                        Default::default(),
                    )),
                };
                let ingested = ingest.run(wanted.len(), |position| pending.name(wanted[position]))?;
                collected.read_bytes += ingested.bytes;
                collected.unsynced.extend(ingested.unsynced);
                collected.rows.reserve_exact(wanted.len());
                collected.keys.reserve_exact(wanted.len());
                for (position, found) in ingested.found.into_iter().flatten() {
                    let span = wanted[position as usize];
                    collected.add(&pending, span, found, &mut nested);
                }
            }
            collected.keep_names(&mut pending)?;
            let nested: Vec<_> = nested
                .into_iter()
                .filter(|name| git::has_repository(&at::join(&self.view.root, name)))
                .collect();
            if nested.is_empty() {
                return Ok(());
            }
            pending = self.list_nested(&nested)?;
        }
    }

    fn list_nested(&self, nested: &[Vec<u8>]) -> Result<Listing, SnapshotError> {
        let mut all = Listing::default();
        for name in nested {
            let mut prefix = name.clone();
            prefix.push(b'/');
            let Some(listing) = self.view.git.list(&at::join(&self.view.root, name), &prefix, self.cancel)?
            else {
                continue;
            };
            for &span in &listing.spans {
                all.push(b"", listing.name(span))?;
            }
        }
        all.sort();
        Ok(all)
    }

    /// Takes over what the cache knows; returns what must be read.
    fn join(
        &self,
        listing: &Listing,
        cache: &StatCache,
        verdicts: &[Verdict],
        collected: &mut Collected,
        nested: &mut Vec<Vec<u8>>,
    ) -> Result<Vec<(u32, u32)>, SnapshotError> {
        let base = u32::try_from(collected.names.len()).map_err(|_| SnapshotError::TooLarge)?;
        let mut wanted = Vec::new();
        let mut at = 0;
        collected.rows.reserve(listing.spans.len());
        for &span in &listing.spans {
            let name = listing.name(span);
            if let Some(directory) = name.strip_suffix(b"/") {
                if !self.is_left_out(directory) {
                    nested.push(directory.to_vec());
                }
                continue;
            }
            if self.is_left_out(name) {
                continue;
            }
            while at < cache.len() && cache.name(at) < name {
                at += 1;
            }
            if at == cache.len() || verdicts[at] != Verdict::Same || cache.name(at) != name {
                wanted.push(span);
                continue;
            }
            let key = cache.key(at);
            let kind = match FileType::from_raw_mode(key.raw_mode()) {
                FileType::Symlink => EntryKind::Symlink,
                _ if key.is_executable() => EntryKind::Executable,
                _ => EntryKind::File,
            };
            let start = base.checked_add(span.0).ok_or(SnapshotError::TooLarge)?;
            let row = Row { start, len: span.1, kind, hash: cache.hash(at), size: key.size };
            let origin = u32::try_from(at).map_err(|_| SnapshotError::TooLarge)?;
            collected.rows.push((row, Origin::Cached(origin)));
        }
        Ok(wanted)
    }

    /// Writes the stat cache anew when it would say anything else, off the critical path.
    fn remember(
        &self,
        seen: i64,
        cache: StatCache,
        verdicts: Vec<Verdict>,
        manifest: &Arc<Manifest>,
        origins: Vec<Origin>,
        keys: Vec<StatKey>,
    ) {
        let news = keys.iter().any(|key| key.is_settled(seen)) || verdicts.contains(&Verdict::Stale);
        if !news {
            return;
        }
        let manifest = Arc::clone(manifest);
        let (file, root, id) = (self.cache_file.clone(), self.view.root.clone(), self.store.fresh_id());
        self.store.in_background(move || {
            let bytes = encode_cache(&root, seen, &cache, &verdicts, &manifest, &origins, &keys);
            drop((cache, verdicts, origins, keys));
            // Lost, it costs hashing.
            drop(store::replace(&file, &bytes, &id));
        });
    }
}

impl Collected {
    fn add(&mut self, listing: &Listing, span: (u32, u32), found: Found, nested: &mut Vec<Vec<u8>>) {
        match found {
            Found::Content { kind, hash, size, key } => {
                let origin = Origin::Fresh(u32::try_from(self.keys.len()).unwrap_or(u32::MAX));
                self.keys.push(key);
                // Checked when the cached entries of the same listing were joined.
                let start = (self.names.len() as u32).wrapping_add(span.0);
                self.rows.push((Row { start, len: span.1, kind, hash, size }, origin));
            }
            Found::Directory => nested.push(listing.name(span).to_vec()),
            Found::Special(kind) => {
                let file = shown(listing.name(span));
                self.warnings.push(SnapshotWarning::LeftOut { file, kind });
            }
            Found::Gone => {}
        }
    }

    /// Rows of this listing already point behind what was here.
    fn keep_names(&mut self, listing: &mut Listing) -> Result<(), SnapshotError> {
        let total = self.names.len() + listing.names.len();
        u32::try_from(total).map_err(|_| SnapshotError::TooLarge)?;
        if self.names.is_empty() {
            self.names = std::mem::take(&mut listing.names);
        } else {
            self.names.append(&mut listing.names);
        }
        Ok(())
    }
}

fn sort_rows(names: &[u8], rows: &mut Vec<(Row, Origin)>) {
    let name = |row: &(Row, Origin)| &names[row.0.start as usize..row.0.start as usize + row.0.len as usize];
    if !rows.is_sorted_by(|a, b| name(a) < name(b)) {
        rows.sort_by(|a, b| name(a).cmp(name(b)));
        rows.dedup_by(|a, b| name(a) == name(b));
    }
}

/// Names come from git and the file system; what is wrong with them is a tree in motion.
fn manifest_error(error: ManifestError) -> SnapshotError {
    match error {
        ManifestError::TooLarge => SnapshotError::TooLarge,
        ManifestError::Conflict(file) => SnapshotError::Unsteady { file, tries: 1 },
        other => SnapshotError::Unreadable {
            file: match &other {
                ManifestError::Path(file) | ManifestError::Order(file) => file.clone(),
                _ => String::new(),
            },
            source: std::io::Error::new(std::io::ErrorKind::InvalidData, other.to_string()),
        },
    }
}

fn encode_cache(
    root: &Path,
    seen: i64,
    cache: &StatCache,
    verdicts: &[Verdict],
    manifest: &Manifest,
    origins: &[Origin],
    keys: &[StatKey],
) -> Vec<u8> {
    let mut writer = StatCacheWriter::new(root, manifest.len(), manifest.names_len());
    // What another profile takes is kept, as long as it is still there.
    let mut others = (0..cache.len()).filter(|&at| verdicts[at] == Verdict::Same).peekable();
    let keep_before = |writer: &mut StatCacheWriter, at: usize| {
        writer.push(cache.name(at), &cache.hash(at), &cache.key(at));
    };
    for (entry, origin) in manifest.iter().zip(origins) {
        while let Some(at) = others.next_if(|&at| cache.name(at) < entry.path) {
            keep_before(&mut writer, at);
        }
        others.next_if(|&at| cache.name(at) == entry.path);
        let key = match *origin {
            Origin::Cached(at) => Some(cache.key(at as usize)),
            Origin::Fresh(at) => keys.get(at as usize).copied().filter(|key| key.is_settled(seen)),
        };
        if let Some(key) = key {
            writer.push(entry.path, &entry.hash, &key);
        }
    }
    for at in others {
        keep_before(&mut writer, at);
    }
    writer.finish()
}
