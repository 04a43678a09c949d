//! Named caches of a job: directories that are kept from run to run, at a place in its workspace.
//!
//! | path below `cache/named/<name>` of the state root | what |
//! |---|---|
//! | `lock` | flock: exclusive for a locked cache, shared for a shared one; its modification time is the last use |
//! | `data/` | what jobs see |
//! | `source` | the source that it met last; its modification time is since when |
//!
//! Where a job has a mount namespace its place is the directory itself, bound there; elsewhere
//! it is a symbolic link. Either way what the snapshot has at that place is covered.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jericho_host::lock::FileLock;
use jericho_host::{CancelReason, CancelToken, Environment, Isolation, Mount};

use crate::beneath;
use crate::executor::JobContext;
use crate::executor::workspace::{CACHE_LOCK, JobView};
use crate::lock::{self, WaitError};
use crate::model::demands::{CacheSharing, CacheSpec};
use crate::snapshot::Manifest;

/// The caches of a job, in use until this is dropped.
#[derive(Debug)]
pub(super) struct Caches<'a> {
    held: Vec<Held<'a>>,
}

#[derive(Debug)]
struct Held<'a> {
    name: &'a str,
    spec: &'a CacheSpec,
    data: PathBuf,
    lock: FileLock,
}

/// Why a job has no caches.
#[derive(Debug)]
pub(super) enum CacheError {
    Cancelled(CancelReason),
    Errored(String),
}

/// Takes the caches, in the order of their names so that two jobs never wait for each other.
/// `waits` is told, once each, which one somebody else has, and who. `own` is what others are told of this one.
pub(super) fn take<'a>(
    named: &Path,
    asked: &'a BTreeMap<String, CacheSpec>,
    (own, limit): (&str, Duration),
    cancel: &CancelToken,
    mut waits: impl FnMut(&str),
) -> Result<Caches<'a>, CacheError> {
    let mut held = Vec::with_capacity(asked.len());
    for (name, spec) in asked {
        let dir = named.join(name);
        let data = dir.join("data");
        let failed =
            |error: &dyn std::fmt::Display| CacheError::Errored(format!("the cache `{name}`: {error}"));
        let lock = loop {
            fs::create_dir_all(&data).map_err(|error| failed(&error))?;
            let path = dir.join(CACHE_LOCK);
            let lock = one(&path, spec.sharing, limit, cancel, || waits(&waiting(name, &path))).map_err(
                |error| match error {
                    WaitError::Cancelled(reason) => CacheError::Cancelled(reason),
                    other => failed(&other),
                },
            )?;
            // A collection that was faster has removed the directory, and with it this file.
            if lock::is_at(&lock, &path) && data.is_dir() {
                // Of those that share it nobody is the one.
                lock.sign(if spec.sharing == CacheSharing::Locked { own } else { "" });
                lock::touch(&lock).map_err(|error| failed(&error))?;
                break lock;
            }
        };
        held.push(Held { name, spec, data, lock });
    }
    Ok(Caches { held })
}

fn one(
    path: &Path,
    sharing: CacheSharing,
    limit: Duration,
    cancel: &CancelToken,
    waits: impl FnOnce(),
) -> Result<FileLock, WaitError> {
    let free = match sharing {
        CacheSharing::Locked => FileLock::try_exclusive(path)?,
        CacheSharing::Shared => FileLock::try_shared(path)?,
    };
    if let Some(lock) = free {
        return Ok(lock);
    }
    waits();
    lock::within(path, sharing == CacheSharing::Shared, limit, cancel)
}

/// What a person is told while a cache is waited for.
pub(in crate::executor) fn waiting(name: &str, lock: &Path) -> String {
    let holder = jericho_host::lock::holder(lock).unwrap_or_else(|| "another job".to_owned());
    format!("waiting for the cache `{name}`, which {holder} has")
}

/// What others are told of a job that has a cache.
pub(in crate::executor) fn holder(job: &JobContext<'_>) -> String {
    format!("job `{}` of run {}", job.spec.id, job.run_id)
}

impl Caches<'_> {
    /// Makes them visible in the workspace, and says where in the environment.
    pub(super) fn show(
        &self,
        view: &mut JobView,
        manifest: &Manifest,
        env: &mut Environment,
    ) -> Result<(), String> {
        for held in &self.held {
            self.show_one(held, view, manifest)
                .map_err(|error| cannot_be_at(held.name, held.spec, &error))?;
            env.set(variable(held.name), view.workspace.join(&held.spec.path));
        }
        Ok(())
    }

    fn show_one(&self, held: &Held<'_>, view: &mut JobView, manifest: &Manifest) -> io::Result<()> {
        let relative = Path::new(&held.spec.path);
        refuse_files(relative, manifest)?;
        if let Isolation::Namespaces(mounts) = &mut view.isolation {
            // What is written below an overlay appears in it.
            beneath::walk(&view.writable, relative, true)?;
            let target = view.workspace.join(relative);
            mounts.push(Mount::Bind { source: held.data.clone(), target, read_only: false });
            return Ok(());
        }
        let (above, name) = beneath::split(relative)?;
        let parent = beneath::walk(&view.writable, above, true)?;
        let place = view.writable.join(relative);
        // A private copy: it is mended before it is used again.
        jericho_host::fs::remove_tree(&place)?;
        Ok(rustix::fs::symlinkat(&held.data, &parent, name)?)
    }

    /// A cache may hold what was built of another source, later than the times that the files of this one have: who goes
    /// by times would take it for this one's. So they get the time when the caches first met this source after
    /// another one. Nothing where there are no caches.
    pub(super) fn met(&self, source: &str) -> io::Result<Option<SystemTime>> {
        let mut met = None;
        for held in &self.held {
            let mark = held.data.with_file_name("source");
            if !fs::read(&mark).is_ok_and(|marked| marked == source.as_bytes()) {
                jericho_host::fs::write_atomic(&mark, source.as_bytes(), false)?;
            }
            met = met.max(Some(fs::metadata(&mark)?.modified()?));
        }
        Ok(met)
    }

    /// Where the files of each cache are, by its path in the workspace.
    pub(super) fn places(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.held.iter().map(|held| (held.spec.path.as_str(), held.data.as_path()))
    }
}

impl Drop for Caches<'_> {
    fn drop(&mut self) {
        for held in &self.held {
            // So that a collection sees the last use, also of a job that took days. Not noted,
            // the cache only looks as old as its last start.
            let _ = lock::touch(&held.lock);
        }
    }
}

/// `JERICHO_CACHE_<NAME>`.
pub(in crate::executor) fn variable(name: &str) -> String {
    let name = name.chars().map(|letter| match letter {
        letter if letter.is_ascii_alphanumeric() => letter.to_ascii_uppercase(),
        _ => '_',
    });
    "JERICHO_CACHE_".chars().chain(name).collect()
}

fn cannot_be_at(name: &str, cache: &CacheSpec, why: &dyn std::fmt::Display) -> String {
    format!("the cache `{name}` cannot be at {}: {why}", cache.path)
}

/// Whether the source leaves room for a cache.
///
/// # Errors
/// For people.
pub(in crate::executor) fn check(name: &str, cache: &CacheSpec, manifest: &Manifest) -> Result<(), String> {
    refuse_files(Path::new(&cache.path), manifest).map_err(|error| cannot_be_at(name, cache, &error))
}

/// A file or a link of the snapshot on the way would be replaced by a directory.
fn refuse_files(relative: &Path, manifest: &Manifest) -> io::Result<()> {
    let found = relative.ancestors().find(|path| manifest.get(path.as_os_str().as_bytes()).is_some());
    match found {
        Some(path) => Err(io::Error::other(format!("the source tree has a file or link {}", path.display()))),
        None => Ok(()),
    }
}
