//! The only writer of a run's records: directory, record, journal, plan, definitions.
//!
//! The order of everything is "store, then tell". A record is replaced by rename, so a reader
//! never sees a part of one; the journal is appended to line by line and synced in groups by a
//! thread of its own, so that power loss loses at most the last second.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use jericho_host::fs::{remove_tree, write_atomic};
use jericho_host::lock::FileLock;
use serde::{Deserialize, Serialize};

use super::layout::{JobLayout, Layout, RunLayout};
use super::owner::Ownership;
use super::request::{RunMetadata, RunOptions};
use crate::engine::EngineError;
use crate::model::event::JournalEntry;
use crate::model::id::RunId;
use crate::model::job::JobSpec;
use crate::model::outputs::PreparedOutputsRecord;
use crate::model::plan::RunPlanRecord;
use crate::model::record::{JobRecord, RunRecord};
use crate::model::version;

/// Bytes kept free for the terminal record of a run whose disk is full.
const RESERVE_BYTES: u64 = 1 << 20;

/// How long the journal may be ahead of the disk.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) fn file_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> EngineError + 'a {
    move |source| EngineError::File { action, path: path.to_path_buf(), source }
}

/// `spec.json`: what a run was asked to do, so that it can be repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSpecRecord {
    /// [`version::RUN_SPEC`].
    pub schema_version: u32,
    /// The jobs.
    pub jobs: Vec<JobSpec>,
    /// What was recorded beside them.
    #[serde(default)]
    pub metadata: RunMetadata,
    /// How the run went about it.
    #[serde(default)]
    pub options: RunOptions,
}

/// `engine.json`: the identity of a state root. Labels of instances carry it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineRecord {
    /// [`version::ENGINE`].
    pub schema_version: u32,
    /// 32 hexadecimal digits.
    pub engine_id: String,
    /// `/etc/machine-id` of the machine that made it; empty when there is none.
    pub machine_id: String,
    /// Canonical path of the state root when it was made.
    pub state_root: String,
}

/// Makes a state root: private to its user, out of git, with an identity. Repeating changes nothing.
///
/// # Errors
/// [`EngineError::File`].
pub fn prepare_state_root(layout: &Layout, fresh_id: &str) -> Result<EngineRecord, EngineError> {
    let root = layout.root();
    make_private_dir(root)?;
    refuse_links(layout)?;
    if let Ok(known) = read_json::<serde_json::Value>(&layout.engine())
        && known["schema_version"].as_u64().is_some_and(|found| found > u64::from(version::ENGINE))
    {
        let problem = format!("it has version {}, written by a newer Jericho CI", known["schema_version"]);
        return Err(EngineError::Corrupt { path: layout.engine(), problem });
    }
    // One at a time: until it has its identity, a state root that is just being made looks like
    // one that came from elsewhere.
    let _lock = FileLock::exclusive_blocking(&layout.lock())?;
    let record = identify(layout, fresh_id)?;
    for dir in [layout.runs(), layout.active(), layout.cache()] {
        fs::create_dir_all(&dir).map_err(file_error("make", &dir))?;
    }
    let ignore = layout.gitignore();
    if !ignore.exists() {
        write_atomic(&ignore, b"*\n", false).map_err(file_error("write", &ignore))?;
    }
    Ok(record)
}

fn identify(layout: &Layout, fresh_id: &str) -> Result<EngineRecord, EngineError> {
    let root = layout.root();
    let canonical = root.canonicalize().map_err(file_error("read", root))?;
    let machine_id = fs::read_to_string("/etc/machine-id").unwrap_or_default().trim().to_owned();
    let path = layout.engine();
    if let Ok(text) = fs::read(&path)
        && let Ok(record) = serde_json::from_slice::<EngineRecord>(&text)
        && record.machine_id == machine_id
        && record.state_root == canonical.to_string_lossy()
    {
        return Ok(record);
    }
    // None yet, or the state root was copied here, or came with somebody's tree: a copy must not
    // take itself for the original, and nothing in it that is written to, or trusted without a
    // proof, may be what somebody else has put there.
    for dir in [layout.cache(), layout.active()] {
        remove_tree(&dir).map_err(file_error("remove", &dir))?;
    }
    let record = EngineRecord {
        schema_version: version::ENGINE,
        engine_id: fresh_id.to_owned(),
        machine_id,
        state_root: canonical.to_string_lossy().into_owned(),
    };
    write_json(&path, &record, false)?;
    Ok(record)
}

/// Refuses a state root with links where its directories belong. One that came with somebody
/// else's tree could otherwise make this program write, or remove, wherever they point.
///
/// # Errors
/// [`EngineError::Corrupt`].
pub(crate) fn refuse_links(layout: &Layout) -> Result<(), EngineError> {
    let (store, cache) = (layout.store(), layout.cache());
    let places = [
        layout.runs(),
        layout.active(),
        layout.shells(),
        layout.snapshots(),
        layout.engine(),
        layout.lock(),
        layout.gitignore(),
        store.join("segments"),
        store.join("damaged"),
        store.join("pins"),
        store.join("lock"),
        layout.stat_cache(),
        layout.trees(),
        layout.cargo_home(),
        cache.join("host-local"),
        layout.named_caches(),
        layout.dev_env(),
        store,
        cache,
    ];
    match places.into_iter().find(|place| place.is_symlink()) {
        Some(path) => Err(EngineError::Corrupt {
            path,
            problem: "it is a symbolic link; a state root has none there, so this one was not made here"
                .to_owned(),
        }),
        None => Ok(()),
    }
}

fn make_private_dir(dir: &Path) -> Result<(), EngineError> {
    if dir.is_dir() {
        // Somebody's own empty directory becomes as private as one that is made here. One that is
        // in use keeps what its operator has set.
        let empty = fs::read_dir(dir).map_err(file_error("read", dir))?.next().is_none();
        return match empty {
            true => fs::set_permissions(dir, Permissions::from_mode(0o700))
                .map_err(file_error("make private", dir)),
            false => Ok(()),
        };
    }
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent).map_err(file_error("make", parent))?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        other => other.map_err(file_error("make", dir)),
    }
}

pub(crate) fn write_json<T: Serialize>(path: &Path, document: &T, durable: bool) -> Result<(), EngineError> {
    let text =
        serde_json::to_vec_pretty(document).map_err(io::Error::from).map_err(file_error("write", path))?;
    write_atomic(path, &text, durable).map_err(file_error("write", path))
}

pub(crate) fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, EngineError> {
    let text = fs::read(path).map_err(file_error("read", path))?;
    serde_json::from_slice(&text)
        .map_err(|error| EngineError::Corrupt { path: path.to_path_buf(), problem: error.to_string() })
}

/// The records of one run, open for writing.
#[derive(Debug)]
pub struct RunStore {
    layout: RunLayout,
    active: std::path::PathBuf,
    journal: Journal,
    _ownership: Ownership,
}

impl RunStore {
    /// Makes the directory of a run and takes it.
    ///
    /// # Errors
    /// [`EngineError`]; what was made is removed again.
    pub fn create(
        layout: &Layout,
        id: &RunId,
        spec: &RunSpecRecord,
        process: jericho_host::sys::ProcessIdentity,
    ) -> Result<Self, EngineError> {
        let run = layout.run(id);
        let active = layout.active().join(id.as_str());
        // First of all, so that a run which dies at any later point is found by its name.
        File::create_new(&active).map_err(file_error("make", &active))?;
        let made = Self::create_in(&run, spec, process);
        match made {
            Ok((journal, ownership)) => Ok(Self { layout: run, active, journal, _ownership: ownership }),
            Err(error) => {
                // The error that is told is the first one.
                let _ = remove_tree(run.in_the_making().dir());
                let _ = remove_tree(run.dir());
                let _ = fs::remove_file(&active);
                Err(error)
            }
        }
    }

    fn create_in(
        run: &RunLayout,
        spec: &RunSpecRecord,
        process: jericho_host::sys::ProcessIdentity,
    ) -> Result<(Journal, Ownership), EngineError> {
        // A collection takes what has no owner: the run gets its name when it has one.
        let making = run.in_the_making();
        fs::create_dir(making.dir()).map_err(file_error("make", making.dir()))?;
        let ownership = Ownership::take_new(&making, process)?;
        fs::rename(making.dir(), run.dir()).map_err(file_error("make", run.dir()))?;
        fs::create_dir(run.jobs()).map_err(file_error("make", &run.jobs()))?;
        write_json(&run.spec(), spec, false)?;
        let reserve = run.reserve();
        let file = File::create_new(&reserve).map_err(file_error("make", &reserve))?;
        match jericho_host::sys::reserve(&file, RESERVE_BYTES) {
            // A file system that cannot reserve gives no promise about its last bytes.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) => Ok(()),
            other => other.map_err(file_error("reserve space in", &reserve)),
        }?;
        Ok((Journal::open(&run.events())?, ownership))
    }

    /// Takes a run that another process has left.
    pub(crate) fn adopt(layout: &Layout, id: &RunId, ownership: Ownership) -> Result<Self, EngineError> {
        let run = layout.run(id);
        let journal = Journal::open(&run.events())?;
        Ok(Self { active: layout.active().join(id.as_str()), layout: run, journal, _ownership: ownership })
    }

    /// Its paths.
    #[must_use]
    pub fn layout(&self) -> &RunLayout {
        &self.layout
    }

    /// Appends to the journal.
    ///
    /// # Errors
    /// [`EngineError::File`].
    pub fn append(&mut self, entry: &JournalEntry) -> Result<(), EngineError> {
        self.journal.append(entry).map_err(file_error("write", &self.layout.events()))
    }

    /// Replaces the run record.
    ///
    /// # Errors
    /// [`EngineError::File`].
    pub fn write_record(&self, record: &RunRecord, durable: bool) -> Result<(), EngineError> {
        write_json(&self.layout.record(), record, durable)
    }

    /// Writes the plan.
    ///
    /// # Errors
    /// [`EngineError::File`].
    pub fn write_plan(&self, plan: &RunPlanRecord) -> Result<(), EngineError> {
        write_json(&self.layout.plan(), plan, false)
    }

    /// Replaces the record of the prepared outputs.
    ///
    /// # Errors
    /// [`EngineError::File`].
    pub fn write_prepared_outputs(&self, outputs: &PreparedOutputsRecord) -> Result<(), EngineError> {
        write_json(&self.layout.prepared_outputs(), outputs, false)
    }

    /// Replaces the record of a job. Its directory must exist.
    ///
    /// # Errors
    /// [`EngineError::File`].
    pub fn write_job(&self, job: &JobLayout, record: &JobRecord) -> Result<(), EngineError> {
        write_json(&job.record(), record, false)
    }

    /// Gives back the space that was kept for the terminal record. Called when the disk is full.
    pub fn release_reserve(&self) {
        let _ = fs::remove_file(self.layout.reserve());
    }

    /// Puts the journal on the disk and says that nobody works on the run any more. The terminal
    /// record must have been written.
    ///
    /// # Errors
    /// [`EngineError::File`].
    pub fn close(mut self) -> Result<(), EngineError> {
        self.release_reserve();
        self.journal.close().map_err(file_error("sync", &self.layout.events()))?;
        let _ = fs::remove_file(self.layout.control());
        fs::remove_file(&self.active).map_err(file_error("remove", &self.active))
    }
}

/// Writes the record of a run that this process does not work on, for tools of other front ends.
///
/// # Errors
/// [`EngineError::File`].
pub fn persist_run_record(state_root: &Path, record: &RunRecord) -> Result<(), EngineError> {
    let id: RunId = record.run_id.parse()?;
    let run = Layout::new(state_root).run(&id);
    fs::create_dir_all(run.dir()).map_err(file_error("make", run.dir()))?;
    write_json(&run.record(), record, true)
}

/// An append-only file of JSON lines that a thread syncs in groups.
#[derive(Debug)]
struct Journal {
    file: File,
    line: Vec<u8>,
    /// Something was written since the syncer last began to sync.
    is_dirty: Arc<AtomicBool>,
    dirty: Option<mpsc::Sender<()>>,
    syncer: Option<JoinHandle<io::Result<()>>>,
}

impl Journal {
    fn open(path: &Path) -> Result<Self, EngineError> {
        let file = jericho_host::fs::open_append(path).map_err(file_error("open", path))?;
        let to_sync = file.try_clone().map_err(file_error("open", path))?;
        let (dirty, wake) = mpsc::channel();
        let is_dirty = Arc::new(AtomicBool::new(false));
        let cleared = Arc::clone(&is_dirty);
        let syncer = std::thread::Builder::new()
            .name("journal-sync".to_owned())
            .spawn(move || sync_in_groups(&to_sync, &wake, &cleared))
            .map_err(file_error("sync", path))?;
        Ok(Self { file, line: Vec::new(), is_dirty, dirty: Some(dirty), syncer: Some(syncer) })
    }

    fn append(&mut self, entry: &JournalEntry) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, entry)?;
        self.line.push(b'\n');
        let start = self.file.metadata()?.len();
        if let Err(error) = self.file.write_all(&self.line) {
            // Half a line would be glued to the next one.
            let _ = self.file.set_len(start);
            return Err(error);
        }
        // Only the first line after a sync wakes the syncer: the others wait for the same one.
        if let Some(dirty) = &self.dirty
            && !self.is_dirty.swap(true, Ordering::AcqRel)
        {
            // A syncer that has failed says so at the end.
            let _ = dirty.send(());
        }
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        drop(self.dirty.take());
        match self.syncer.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("the journal's sync thread panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

/// Syncs at most once per [`SYNC_INTERVAL`] while lines come, and once at the end.
fn sync_in_groups(file: &File, wake: &mpsc::Receiver<()>, is_dirty: &AtomicBool) -> io::Result<()> {
    while wake.recv().is_ok() {
        // Nothing wakes it before `is_dirty` is false again, but for the end.
        let _ = wake.recv_timeout(SYNC_INTERVAL);
        // Before the sync: what is written from here on needs another one.
        is_dirty.store(false, Ordering::Release);
        file.sync_data()?;
    }
    Ok(())
}
