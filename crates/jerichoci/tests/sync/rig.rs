//! A source tree with its store, and a host over SSH that has the receiver.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jericho_host::{CancelToken, Environment, SshConfig, SshHost, SystemClock};
use jericho_testkit::program::guest_programs;
use jericho_testkit::ssh;
use jerichoci::remote::sync::{Delivered, Holder, Lease, Line, Remote, SyncError, Told, deliver, release};
use jerichoci::snapshot::{
    ContentHash, Manifest, Profile, Snapshot, SnapshotMetadata, SourceSpec, Store, StoreDirs,
};

pub(crate) struct Rig {
    // Dropped in this order: the connection before the daemon.
    pub(crate) client: Client,
    pub(crate) sshd: ssh::Rig,
    pub(crate) store: Store,
    pub(crate) root: PathBuf,
    pub(crate) cancel: CancelToken,
    dir: tempfile::TempDir,
}

/// One engine with a connection of its own.
pub(crate) struct Client {
    pub(crate) line: Line,
    pub(crate) ssh: Arc<SshHost>,
    pub(crate) engine_id: String,
    pub(crate) work_dir: PathBuf,
    pub(crate) runner: PathBuf,
    pub(crate) min_free: u64,
}

impl Client {
    pub(crate) fn remote(&self) -> Remote<'_> {
        Remote {
            ssh: &self.ssh,
            work_dir: &self.work_dir,
            runner: &self.runner,
            engine_id: &self.engine_id,
            line: &self.line,
            min_free: self.min_free,
        }
    }
}

pub(crate) fn token() -> CancelToken {
    CancelToken::new().unwrap()
}

impl Rig {
    /// Nothing where there cannot be one.
    pub(crate) fn start() -> Option<Self> {
        Self::start_in(tempfile::tempdir().unwrap())
    }

    /// In memory, for many files: disks of busy machines take minutes for them.
    pub(crate) fn start_in_memory() -> Option<Self> {
        Self::start_in(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap())
    }

    fn start_in(dir: tempfile::TempDir) -> Option<Self> {
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test of sync");
        let runner = guest_programs(test)?.join(std::env::consts::ARCH).join("jerichoci-incus-run");
        let sshd = ssh::Rig::start(test)?;
        let outside = dir.path().canonicalize().unwrap();
        let root = outside.join("source");
        fs::create_dir(&root).unwrap();
        let store = open_store(&outside.join("state"));
        let client = client(&sshd, "engine-1", outside.join("work"), runner);
        Some(Self { client, sshd, store, root, cancel: token(), dir })
    }

    pub(crate) fn outside(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    pub(crate) fn work_dir(&self) -> &Path {
        &self.client.work_dir
    }

    /// Another engine at the same host and work dir.
    pub(crate) fn another_client(&self, engine_id: &str) -> Client {
        client(&self.sshd, engine_id, self.client.work_dir.clone(), self.client.runner.clone())
    }

    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn write_executable(&self, path: &str, content: &str) {
        self.write(path, content);
        fs::set_permissions(self.root.join(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn take(&self) -> Snapshot {
        let root = self.root.clone();
        let profile = Profile::full();
        let spec = SourceSpec { root, state_root: None, profile, facts: false, env: environment() };
        self.store.take(&spec, &self.cancel).unwrap()
    }

    pub(crate) fn deliver(&self, snapshot: &Snapshot, lease: &str) -> Result<Delivered, SyncError> {
        self.deliver_as(&self.client, snapshot, &engine_lease(lease)).0
    }

    /// With the lines that were told.
    pub(crate) fn deliver_as(
        &self,
        client: &Client,
        snapshot: &Snapshot,
        lease: &Lease,
    ) -> (Result<Delivered, SyncError>, Vec<String>) {
        let mut lines = Vec::new();
        let delivered = deliver(
            &client.remote(),
            &self.store,
            &snapshot.manifest,
            &SnapshotMetadata::new(snapshot, Path::new("")),
            lease,
            &mut |told| {
                if let Told::Line(line) = told {
                    lines.push(line.to_owned());
                }
            },
            &self.cancel,
        );
        (delivered, lines)
    }

    pub(crate) fn release(&self, snapshot: &Snapshot, lease: &str) {
        release(&self.client.remote(), &snapshot.hash, lease, &self.cancel).unwrap();
    }

    /// Ends the connection, and waits until the host knows it.
    pub(crate) fn disconnect(&self) {
        let sessions = self.sshd.sessions();
        self.client.line.hang_up();
        self.client.ssh.disconnect();
        sessions.into_iter().for_each(wait_for_end);
    }

    /// Dates a lease back by an hour.
    pub(crate) fn age_lease(&self, hash: &ContentHash, id: &str) {
        let lease = self.work_dir().join("leases").join(hash.to_string()).join(id);
        let written = fs::metadata(&lease).unwrap().modified().unwrap();
        let long_ago = written - std::time::Duration::from_secs(3600);
        fs::File::options().write(true).open(lease).unwrap().set_modified(long_ago).unwrap();
    }

    pub(crate) fn dir_of(&self, hash: &ContentHash) -> PathBuf {
        self.work_dir().join("snapshots").join(hash.to_string())
    }

    pub(crate) fn tree_of(&self, hash: &ContentHash) -> PathBuf {
        self.dir_of(hash).join("snapshot")
    }

    /// Names directly below `snapshots`, without the lock.
    pub(crate) fn shelf(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.work_dir().join("snapshots"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != ".lock")
            .collect();
        names.sort();
        names
    }

    /// Fails unless the host has exactly this snapshot under its name, with the modes it should have.
    pub(crate) fn assert_has(&self, snapshot: &Snapshot) {
        assert_eq!(read_tree(&self.tree_of(&snapshot.hash)), expected(&self.store, &snapshot.manifest));
        let marker = SnapshotMetadata::load(&self.tree_of(&snapshot.hash)).unwrap().unwrap();
        assert_eq!(marker.content_hash, Some(snapshot.hash));
        assert_eq!(Path::new(&marker.snapshot_dir), self.tree_of(&snapshot.hash));
        let manifest = fs::read(self.dir_of(&snapshot.hash).join("manifest")).unwrap();
        assert_eq!(ContentHash::of(&manifest), snapshot.hash);
    }
}

/// Waits for the end of a process that is not our child.
pub(crate) fn wait_for_end(pid: u32) {
    let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else { return };
    let Ok(fd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else { return };
    let mut fds = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
    let limit = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut fds, Some(&limit)), Ok(1), "{pid:?} does not end");
}

pub(crate) fn engine_lease(id: &str) -> Lease {
    Lease { id: id.to_owned(), holder: Holder::Engine }
}

pub(crate) fn environment() -> Environment {
    [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/nonexistent")].into_iter().collect()
}

pub(crate) fn open_store(state: &Path) -> Store {
    let dirs = StoreDirs {
        store: state.join("store"),
        snapshots: state.join("snapshots"),
        stat_cache: state.join("stat"),
    };
    Store::open(dirs, Arc::new(SystemClock)).unwrap()
}

fn client(sshd: &ssh::Rig, engine_id: &str, work_dir: PathBuf, runner: PathBuf) -> Client {
    let config = SshConfig {
        config_file: Some(sshd.config()),
        control_dir: sshd.control_dir(),
        env: environment(),
        ..SshConfig::new("rig")
    };
    let ssh = Arc::new(SshHost::new(config).unwrap());
    let (line, engine_id) = (Line::new().unwrap(), engine_id.to_owned());
    Client { line, ssh, engine_id, work_dir, runner, min_free: 0 }
}

/// A tree as it is on disk: kind and mode, and content.
pub(crate) type Tree = BTreeMap<String, (String, Vec<u8>)>;

pub(crate) fn read_tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut waiting = vec![root.to_path_buf()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let stat = fs::symlink_metadata(&path).unwrap();
            let mode = format!("{:o}", stat.mode());
            if stat.is_dir() {
                assert_eq!(mode, "40755", "{name}");
                waiting.push(path);
            } else if stat.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                tree.insert(name, ("l".to_owned(), target.to_str().unwrap().as_bytes().to_vec()));
            } else {
                tree.insert(name, (mode, fs::read(&path).unwrap()));
            }
        }
    }
    tree
}

/// The same of a manifest, by another way: laid out by the engine itself.
fn expected(store: &Store, manifest: &Manifest) -> Tree {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("tree");
    jerichoci::snapshot::materialize::write_tree(store, manifest, &root, &token()).unwrap();
    read_tree(&root)
}

/// A file system of its own, until it is dropped.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    pub(crate) fn tmpfs(target: &Path, options: &str, flags: rustix::mount::MountFlags) -> Self {
        let options = std::ffi::CString::new(options).unwrap();
        rustix::mount::mount("tmpfs", target, "tmpfs", flags, options.as_c_str()).unwrap();
        Self(target.to_path_buf())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}
