//! What a host process sees of a source tree that many share: a writable view of its own, with the caches it
//! named.
//!
//! As root the view is an overlay that only the runner and its command see, so that its path can be the same in
//! every run; else, and where overlays do not work, it is a copy.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jericho_host::lock::{self, FileLock, LockError};
use jericho_host::{CancelToken, Host, LocalHost, Mount, PrivateMounts};
use jericho_manifest::at;
use rustix::fs::{AtFlags, Mode, Timespec, Timestamps};
use rustix::io::Errno;
use serde::Deserialize;

use crate::verdict::one_line;

/// The schema version of the file.
const VERSION: u32 = 1;

/// What `--view` names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ViewSpec {
    schema_version: u32,
    /// The tree. Nothing in it is changed.
    tree: PathBuf,
    /// Names at the top of the tree that the view does not have.
    #[serde(default)]
    hidden: Vec<PathBuf>,
    /// Directories at a place in the view.
    #[serde(default)]
    caches: Vec<CacheSpec>,
    /// Which source the tree is: of one that the caches met last, nothing is newer than it was then.
    #[serde(default)]
    source: Option<String>,
    /// What others who want a cache are told of this one.
    #[serde(default)]
    holder: Option<String>,
    /// How long a cache of somebody else is waited for; without it, as long as it takes.
    #[serde(default)]
    cache_wait_secs: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct CacheSpec {
    /// The directory; made when it is missing.
    dir: PathBuf,
    /// Held while it is used; made when it is missing.
    lock: PathBuf,
    /// Relative to the view.
    path: PathBuf,
    /// What people call it.
    #[serde(default)]
    name: Option<String>,
    /// Others may have it at the same time.
    #[serde(default)]
    shared: bool,
}

/// A view, for as long as its caches are in use.
pub(crate) struct View {
    spec: ViewSpec,
    cwd: PathBuf,
    mounts: Option<PrivateMounts>,
    _held: Vec<FileLock>,
}

impl ViewSpec {
    pub(crate) fn load(path: &Path) -> Result<Self, String> {
        let bad = |why: &dyn std::fmt::Display| format!("cannot use the view {}: {why}", path.display());
        let text = fs::read(path).map_err(|error| bad(&error))?;
        let spec: Self = serde_json::from_slice(&text).map_err(|error| bad(&error))?;
        if spec.schema_version != VERSION {
            return Err(bad(&format!("it has version {}, not {VERSION}", spec.schema_version)));
        }
        let plain = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_)));
        let mut places = spec.caches.iter().map(|cache| &cache.path).chain(&spec.hidden);
        if places.any(|place| !plain(place) || place.as_os_str().is_empty()) {
            return Err(bad(&"what it names in the view is no plain path below it"));
        }
        Ok(spec)
    }

    /// Makes the view at `cwd`. What it needs besides lies in `scratch`, of the same file system.
    pub(crate) fn open(self, cwd: &Path, scratch: &Path, host: &LocalHost) -> Result<View, String> {
        let failed =
            |error| format!("cannot make a view of {} at {}: {error}", self.tree.display(), cwd.display());
        let mounts = self.make(cwd, scratch, host).map_err(failed)?;
        for name in &self.hidden {
            jericho_host::fs::remove_tree(&cwd.join(name)).map_err(|error| failed(one_line(&error)))?;
        }
        Ok(View { spec: self, cwd: cwd.to_path_buf(), mounts, _held: Vec::new() })
    }

    fn make(&self, cwd: &Path, scratch: &Path, host: &LocalHost) -> Result<Option<PrivateMounts>, String> {
        let text = |error: &dyn std::error::Error| one_line(error);
        fs::create_dir_all(cwd).map_err(|error| text(&error))?;
        let is_private = host.supports_namespaces();
        if !is_private {
            copy_into_empty(&self.tree, cwd).map_err(|error| text(&error))?;
            return Ok(None);
        }
        // It outlives the job: one that was not used for long goes.
        let now = || rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let used = Timestamps { last_access: now(), last_modification: now() };
        let _ = rustix::fs::utimensat(rustix::fs::CWD, cwd, &used, AtFlags::SYMLINK_NOFOLLOW);
        let mounts = PrivateMounts::enter().map_err(|error| text(&error))?;
        let [upper, work] = ["upper", "work"].map(|name| scratch.join(name));
        for dir in [&upper, &work] {
            fs::create_dir_all(dir).map_err(|error| text(&error))?;
        }
        // Its mode is that of the view.
        fs::set_permissions(&upper, fs::Permissions::from_mode(0o755)).map_err(|error| text(&error))?;
        let target = cwd.to_path_buf();
        let overlay = Mount::Overlay { lower: self.tree.clone(), upper, work, target: target.clone() };
        if mounts.mount(&overlay).is_err() {
            let copy = scratch.join("copy");
            copy_tree(&self.tree, &copy).map_err(|error| text(&error))?;
            mounts
                .mount(&Mount::Bind { source: copy, target, read_only: false })
                .map_err(|error| text(&error))?;
        }
        // What other jobs stand on is not written by accident.
        let tree = self.tree.clone();
        mounts
            .mount(&Mount::Bind { source: tree.clone(), target: tree, read_only: true })
            .map_err(|error| text(&error))?;
        Ok(Some(mounts))
    }
}

impl View {
    /// Takes the caches and puts them into the view. `waits` is told when somebody else has one, and who: the name
    /// of the cache, and a line for people.
    pub(crate) fn show_caches(
        &mut self,
        cancel: &CancelToken,
        waits: &mut dyn FnMut(&str, &str) -> Result<(), String>,
    ) -> Result<(), String> {
        let limit = self.spec.cache_wait_secs.map_or(Duration::MAX, Duration::from_secs);
        for cache in &self.spec.caches {
            let name = cache.name.clone().unwrap_or_else(|| cache.dir.display().to_string());
            let failed = |error: &dyn std::fmt::Display| format!("the cache `{name}`: {error}");
            fs::create_dir_all(&cache.dir).map_err(|error| failed(&error))?;
            let lock = match cache.try_lock().map_err(|error| failed(&one_line(&error)))? {
                Some(lock) => lock,
                None => {
                    let holder = lock::holder(&cache.lock).unwrap_or_else(|| "another job".to_owned());
                    waits(&name, &format!("waiting for the cache `{name}`, which {holder} has"))?;
                    lock::within(&cache.lock, cache.shared, limit, cancel)
                        .map_err(|error| failed(&one_line(&error)))?
                }
            };
            // Of those that share it nobody is the one.
            lock.sign(self.spec.holder.as_deref().filter(|_| !cache.shared).unwrap_or_default());
            // When it was used last.
            let _ = lock.file().set_modified(std::time::SystemTime::from(jericho_host::Clock::now(
                &jericho_host::SystemClock,
            )));
            self._held.push(lock);
            let above = make_place(&self.cwd, &cache.path).map_err(|error| failed(&error))?;
            let shown = match &self.mounts {
                Some(mounts) => {
                    let (source, target) = (cache.dir.clone(), self.cwd.join(&cache.path));
                    let bind = Mount::Bind { source, target, read_only: false };
                    mounts.mount(&bind).map_err(|error| one_line(&error))
                }
                None => link(&cache.dir, &above, &cache.path).map_err(|error| one_line(&error)),
            };
            shown.map_err(|error| failed(&error))?;
        }
        self.make_newer().map_err(|error| {
            format!("cannot give the files in {} their times: {}", self.cwd.display(), one_line(&error))
        })
    }

    /// A cache may hold what was built of another source, later than the times that the files of this one have:
    /// who goes by times would take it for this one's. So they get the time when the caches first met this
    /// source after another one.
    fn make_newer(&self) -> io::Result<()> {
        let (mut met, mut caches) = (None, Vec::new());
        for cache in &self.spec.caches {
            met = met.max(Some(cache.met(self.spec.source.as_deref())?));
            let dir = fs::metadata(&cache.dir)?;
            caches.push((dir.dev(), dir.ino()));
        }
        let Some(met) = met else { return Ok(()) };
        let since = met.duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
        let time = Timespec {
            tv_sec: i64::try_from(since.as_secs()).map_err(io::Error::other)?,
            tv_nsec: since.subsec_nanos().into(),
        };
        touch(&self.cwd, &Timestamps { last_access: time, last_modification: time }, &caches)
    }
}

impl CacheSpec {
    fn try_lock(&self) -> Result<Option<FileLock>, LockError> {
        if self.shared { FileLock::try_shared(&self.lock) } else { FileLock::try_exclusive(&self.lock) }
    }

    /// Since when it has met no other source than this one. Beside its content, where no job clears it away.
    fn met(&self, source: Option<&str>) -> io::Result<SystemTime> {
        let Some(source) = source else {
            return Ok(SystemTime::from(jericho_host::Clock::now(&jericho_host::SystemClock)));
        };
        let mark = self.lock.with_extension("source");
        if !fs::read(&mark).is_ok_and(|marked| marked == source.as_bytes()) {
            // Several have a shared one at once.
            let new = self.lock.with_extension(format!("source.{}", std::process::id()));
            fs::write(&new, source)?;
            fs::rename(&new, &mark)?;
        }
        fs::metadata(&mark)?.modified()
    }
}

/// Gives all files below `dir` these times, but for what lies in the directories `but`.
fn touch(dir: &Path, times: &Timestamps, but: &[(u64, u64)]) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.is_dir() {
            if !but.contains(&(metadata.dev(), metadata.ino())) {
                touch(&path, times, but)?;
            }
        } else if metadata.is_file() {
            rustix::fs::utimensat(rustix::fs::CWD, &path, times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
    }
    Ok(())
}

/// Makes the directory of a cache, and those above it, and returns the one that it lies in. Links are not entered:
/// one of the source may lead anywhere on this machine.
fn make_place(view: &Path, path: &Path) -> Result<OwnedFd, String> {
    let mut above = None;
    let mut dir = at::open_root(view).map_err(|error| one_line(&error))?;
    let mut way = PathBuf::new();
    for part in path {
        way.push(part);
        match rustix::fs::mkdirat(&dir, part, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(one_line(&error)),
        }
        let inner = at::open_dir(&dir, part.as_bytes()).map_err(|error| match error {
            Errno::LOOP | Errno::MLINK | Errno::NOTDIR => {
                format!("the source tree has a file or link {}", way.display())
            }
            other => one_line(&other),
        })?;
        above = Some(std::mem::replace(&mut dir, inner));
    }
    above.ok_or_else(|| "its place is the view itself".to_owned())
}

/// Puts a link to a directory where [`make_place`] has made one, which `above` is the parent of.
fn link(dir: &Path, above: &OwnedFd, path: &Path) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default();
    // What the source has there is covered.
    at::remove_all(above.as_fd(), name.as_bytes())?;
    Ok(rustix::fs::symlinkat(dir, above, name)?)
}

/// A copy that nothing else gets into: what an earlier job has left would be taken for source.
fn copy_into_empty(tree: &Path, cwd: &Path) -> io::Result<()> {
    if fs::read_dir(cwd)?.next().is_some() {
        return Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, "the directory is not empty"));
    }
    copy_tree(tree, cwd)
}

/// Copies a tree of directories, files and links, with modes and the times of files. What is there already
/// stays.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_tree(&source, &target)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else if kind.is_file() {
            // By reflink where the file system has them.
            fs::copy(&source, &target)?;
            let (metadata, file) = (entry.metadata()?, File::open(&target)?);
            file.set_times(fs::FileTimes::new().set_modified(metadata.modified()?))?;
            let mode = metadata.mode() & 0o777 | 0o200;
            file.set_permissions(fs::Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_modes_and_times_of_the_tree_and_can_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, copy) = (dir.path().join("tree"), dir.path().join("copy"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/b/run"), "x").unwrap();
        fs::set_permissions(tree.join("a/b/run"), fs::Permissions::from_mode(0o555)).unwrap();
        symlink("b/run", tree.join("a/link")).unwrap();
        copy_tree(&tree, &copy).unwrap();
        let (old, new) = (tree.join("a/b/run"), copy.join("a/b/run"));
        assert_eq!(fs::read(&new).unwrap(), b"x");
        assert_eq!(fs::metadata(&new).unwrap().mode() & 0o777, 0o755);
        let modified = |path| fs::metadata(path).unwrap().modified().unwrap();
        assert_eq!(modified(&old), modified(&new));
        assert_eq!(fs::read_link(copy.join("a/link")).unwrap(), Path::new("b/run"));
    }

    #[test]
    fn a_copy_is_never_mixed_with_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, copy) = (dir.path().join("tree"), dir.path().join("copy"));
        fs::create_dir_all(&tree).unwrap();
        fs::write(tree.join("a"), "x").unwrap();
        fs::create_dir_all(&copy).unwrap();
        copy_into_empty(&tree, &copy).unwrap();
        fs::remove_file(tree.join("a")).unwrap();
        let error = copy_into_empty(&tree, &copy).unwrap_err();
        assert!(error.to_string().contains("not empty"), "{error}");
    }

    #[test]
    fn a_view_that_is_not_understood_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("view.json");
        for (text, why) in [
            (r#"{"schema_version":2,"tree":"/t"}"#, "version 2"),
            (r#"{"schema_version":1,"tree":"/t","cache":[]}"#, "unknown field"),
            (
                r#"{"schema_version":1,"tree":"/t","caches":[{"dir":"/d","lock":"/l","path":"../x"}]}"#,
                "plain path",
            ),
            (
                r#"{"schema_version":1,"tree":"/t","caches":[{"dir":"/d","lock":"/l","path":""}]}"#,
                "plain path",
            ),
        ] {
            fs::write(&path, text).unwrap();
            let error = ViewSpec::load(&path).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
