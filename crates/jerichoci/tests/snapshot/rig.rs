//! A store, a source tree, and what the snapshot of it must be according to git and lstat.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use chrono::{DateTime, Utc};
use jericho_host::{CancelToken, Clock, Environment, SystemClock};
use jericho_testkit::repo::Repo;
use jerichoci::snapshot::{
    ContentHash, Entry, EntryKind, Manifest, Profile, Snapshot, SnapshotError, SourceSpec, Store, StoreDirs,
};
use tempfile::TempDir;

pub(crate) struct Rig {
    pub(crate) tmp: TempDir,
    pub(crate) root: PathBuf,
    pub(crate) store: Store,
    pub(crate) cancel: CancelToken,
}

impl Rig {
    pub(crate) fn new() -> Result<Self> {
        let tmp = TempDir::new()?;
        let root = tmp.path().join("source");
        fs::create_dir(&root)?;
        let store = open_store(&tmp.path().join("state"))?;
        Ok(Self { root, store, tmp, cancel: CancelToken::new()? })
    }

    pub(crate) fn with_repo() -> Result<(Self, Repo)> {
        let rig = Self::new()?;
        let repo = Repo::init(&rig.root)?;
        Ok((rig, repo))
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.tmp.path().join("state")
    }

    pub(crate) fn spec(&self) -> SourceSpec {
        spec(&self.root)
    }

    pub(crate) fn take(&self) -> Result<Snapshot, SnapshotError> {
        self.store.take(&self.spec(), &self.cancel)
    }

    /// Takes snapshots until every file is old enough to be trusted.
    pub(crate) fn settle(&self) -> Result<Snapshot> {
        loop {
            let snapshot = self.take()?;
            self.store.settle();
            if snapshot.stats.hashed_files == 0 {
                return Ok(snapshot);
            }
        }
    }

    /// Another store over the same files, as another process would have.
    pub(crate) fn reopen(&mut self) -> Result<()> {
        self.store.settle();
        self.store = open_store(&self.state())?;
        Ok(())
    }

    pub(crate) fn paths(&self) -> Result<Vec<String>> {
        let snapshot = self.take()?;
        Ok(snapshot.manifest.iter().map(|entry| String::from_utf8_lossy(entry.path).into_owned()).collect())
    }
}

pub(crate) fn open_store(state: &Path) -> Result<Store> {
    open_store_at(state, Arc::new(SystemClock))
}

pub(crate) fn open_store_at(state: &Path, clock: Arc<dyn Clock>) -> Result<Store> {
    let dirs = StoreDirs {
        store: state.join("store"),
        snapshots: state.join("snapshots"),
        stat_cache: state.join("stat"),
    };
    Ok(Store::open(dirs, clock)?)
}

pub(crate) fn environment() -> Environment {
    Repo::environment().into_iter().collect()
}

pub(crate) fn spec(root: &Path) -> SourceSpec {
    SourceSpec {
        root: root.to_path_buf(),
        state_root: None,
        profile: Profile::full(),
        facts: false,
        env: environment(),
    }
}

/// What a snapshot must be, found in the slow and obvious way.
pub(crate) fn oracle(root: &Path) -> Result<Manifest> {
    let mut found = BTreeMap::new();
    oracle_into(root, root, &mut found)?;
    manifest_of(&found)
}

fn manifest_of(found: &BTreeMap<Vec<u8>, (EntryKind, Vec<u8>)>) -> Result<Manifest> {
    Ok(Manifest::from_entries(found.iter().map(|(path, (kind, content))| Entry {
        path,
        kind: *kind,
        hash: ContentHash::of(content),
        size: content.len() as u64,
    }))?)
}

fn oracle_into(
    top: &Path,
    repository: &Path,
    found: &mut BTreeMap<Vec<u8>, (EntryKind, Vec<u8>)>,
) -> Result<()> {
    let listed = Repo::at(repository).git(["ls-files", "-z", "-c", "-o", "--exclude-standard"])?;
    for name in listed.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let path = repository.join(OsStr::from_bytes(name.strip_suffix(b"/").unwrap_or(name)));
        let behind_a_link = path
            .ancestors()
            .skip(1)
            .take_while(|above| *above != repository)
            .any(|above| fs::symlink_metadata(above).is_ok_and(|found| !found.is_dir()));
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if behind_a_link {
            continue;
        }
        if meta.is_dir() {
            if path.join(".git").exists() {
                oracle_into(top, &path, found)?;
            }
            continue;
        }
        let relative = path.strip_prefix(top)?.as_os_str().as_bytes().to_vec();
        if let Some(entry) = content_of(&path)? {
            found.insert(relative, entry);
        }
    }
    Ok(())
}

fn content_of(path: &Path) -> Result<Option<(EntryKind, Vec<u8>)>> {
    let meta = fs::symlink_metadata(path)?;
    Ok(if meta.is_symlink() {
        Some((EntryKind::Symlink, fs::read_link(path)?.as_os_str().as_bytes().to_vec()))
    } else if meta.is_file() {
        let kind = if meta.mode() & 0o100 == 0 { EntryKind::File } else { EntryKind::Executable };
        Some((kind, fs::read(path)?))
    } else {
        None
    })
}

/// Path to mode and content.
pub(crate) type Tree = BTreeMap<Vec<u8>, (u32, Vec<u8>)>;

/// Everything below a directory, as it is: modes, kinds, contents, directories too.
pub(crate) fn tree_of(root: &Path) -> Result<Tree> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let meta = fs::symlink_metadata(&path)?;
            let name = path.strip_prefix(root)?.as_os_str().as_bytes().to_vec();
            let content = content_of(&path)?.map_or_else(Vec::new, |(_, content)| content);
            // Permissions of a link mean nothing.
            let mode = if meta.is_symlink() { 0o120_000 } else { meta.permissions().mode() };
            found.insert(name, (mode, content));
            if meta.is_dir() {
                todo.push(path);
            }
        }
    }
    Ok(found)
}

/// What a laid out tree must be.
pub(crate) fn expected_tree(snapshot: &Manifest, store_tree: &Path) -> Result<()> {
    let tree = tree_of(store_tree)?;
    let mut expected = Vec::new();
    for entry in snapshot.iter() {
        let mode = match entry.kind {
            EntryKind::File => 0o100_644,
            EntryKind::Executable => 0o100_755,
            EntryKind::Symlink => 0o120_000,
        };
        let mut above = entry.path;
        while let Some(end) = above.iter().rposition(|&byte| byte == b'/') {
            above = &above[..end];
            expected.push((above.to_vec(), 0o40_755, None));
        }
        expected.push((entry.path.to_vec(), mode, Some(entry.hash)));
    }
    expected.sort();
    expected.dedup();
    let found: Vec<_> = tree
        .into_iter()
        .map(|(path, (mode, content))| {
            (path, mode, (mode & 0o170_000 != 0o40_000).then(|| ContentHash::of(&content)))
        })
        .collect();
    let shown = |lines: &[(Vec<u8>, u32, Option<ContentHash>)]| -> Vec<String> {
        lines.iter().map(|(path, mode, hash)| format!("{} {mode:o} {hash:?}", path.escape_ascii())).collect()
    };
    anyhow::ensure!(found == expected, "found {:#?}\nexpected {:#?}", shown(&found), shown(&expected));
    Ok(())
}

/// Starts this test program again to run one test of it, with variables that tell it to.
#[expect(clippy::disallowed_methods, reason = "a test that kills a process needs one of its own")]
pub(crate) fn again(test: &str, variables: &[(&str, &Path)]) -> Result<std::process::Command> {
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).envs(variables.iter().copied());
    Ok(command)
}

#[expect(clippy::disallowed_methods, reason = "the test that started this one says so here")]
pub(crate) fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from)
}

/// A clock that tests set.
#[derive(Debug)]
pub(crate) struct SetClock(pub(crate) Mutex<DateTime<Utc>>);

impl Clock for SetClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap()
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}
