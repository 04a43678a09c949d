//! The real Incus of the tests: one daemon per machine, a project of its own for each test.
//!
//! `scripts/rig up` brings the daemon up, with its own socket, pool and guest image; the first
//! test that needs it does so too, and it stays for the others. `scripts/rig down` ends it, and
//! `scripts/test` at its end. What a test makes stands in its [`Project`] and goes with it.
//!
//! A test that kills the daemon brings up one of its own, [`Rig::own`], for it would kill that of
//! all others.
//!
//! The rig asks Incus with curl, so that what it says is said independently of the code under test.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{crate_dir, need};

/// Where the rig lies unless `JERICHO_RIG_DIR` says otherwise.
const DEFAULT_DIR: &str = "/dev/shm/jericho-rig";

/// Longest that an answer of the daemon takes, in seconds: less than a test has, so that a daemon that says nothing is told
/// as that.
const PATIENCE: &str = "120";

/// What a machine must have for the rig; see `PACKAGES` in `scripts/lib/setup.sh`.
const PROGRAMS: [&str; 5] = ["mkfs.btrfs", "mmdebstrap", "tar2sqfs", "flock", "curl"];

/// The daemon of this machine's tests. While a value of this type lives, nobody ends it as idle.
#[derive(Debug)]
pub struct Rig {
    dir: PathBuf,
    /// Whether it is one test's own, and ends with it.
    is_own: bool,
    socket: PathBuf,
    pool: String,
    image_alias: String,
    work_dir: PathBuf,
    /// Held shared.
    _users: File,
}

impl Rig {
    /// The rig for the test called `test`; brought up when it is not up. Nothing, and a record of
    /// the refusal, where it cannot be: without root, or without its programs.
    ///
    /// # Panics
    ///
    /// When the rig should come up and does not; and as [`need::needs`].
    #[must_use]
    pub fn up(test: &str) -> Option<Self> {
        Self::of(test, &directory(), false)
    }

    /// A rig of the test's own, which ends when it is dropped: to be killed. It takes seconds.
    ///
    /// # Panics
    ///
    /// As [`Rig::up`].
    #[must_use]
    pub fn own(test: &str) -> Option<Self> {
        Self::of(test, &own_directory(), true)
    }

    fn of(test: &str, dir: &Path, is_own: bool) -> Option<Self> {
        if !is_possible(test) {
            return None;
        }
        match Self::bring_up(dir) {
            Ok(mut rig) => {
                rig.is_own = is_own;
                Some(rig)
            }
            Err(error) => panic!("the Incus of the tests does not come up: {error:#}"),
        }
    }

    /// The daemon of a cluster's first member, as a rig. `users` is held by the cluster.
    pub(crate) fn of_cluster(dir: &Path, socket: PathBuf, description: &Value, users: File) -> Result<Self> {
        let text = |key: &str| description[key].as_str().map(str::to_owned).with_context(|| key.to_owned());
        Ok(Self {
            dir: dir.to_owned(),
            is_own: false,
            socket,
            pool: text("pool")?,
            image_alias: text("image_alias")?,
            work_dir: text("work_dir")?.into(),
            _users: users,
        })
    }

    fn bring_up(dir: &Path) -> Result<Self> {
        // Twice: the first lock may be on a file that somebody has just removed with the rig.
        for _ in 0..4 {
            if let Some(rig) = Self::join(dir)? {
                return Ok(rig);
            }
            script(dir, &["up"])?;
        }
        bail!("{} goes away as soon as it is there", dir.display())
    }

    /// The rig that is up, held; nothing when none is.
    pub(crate) fn join(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join("users");
        let Ok(users) = File::open(&path) else { return Ok(None) };
        users.lock_shared().context("lock of the rig")?;
        let is_same =
            fs::metadata(&path).is_ok_and(|now| users.metadata().is_ok_and(|held| held.ino() == now.ino()));
        let Ok(description) = fs::read(dir.join("rig.json")) else { return Ok(None) };
        let description: Value = serde_json::from_slice(&description).context("rig.json")?;
        let text = |key: &str| description[key].as_str().map(str::to_owned).with_context(|| key.to_owned());
        let pid = description["pid"].as_u64().context("pid")?;
        let is_alive =
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "incusd");
        if !is_same || !is_alive {
            return Ok(None);
        }
        let socket: PathBuf = text("socket")?.into();
        ensure!(answers(&socket), "the daemon at {} does not answer: scripts/rig down", socket.display());
        Ok(Some(Self {
            dir: dir.to_owned(),
            is_own: false,
            socket,
            pool: text("pool")?,
            image_alias: text("image_alias")?,
            work_dir: text("work_dir")?.into(),
            _users: users,
        }))
    }

    /// The socket of the daemon.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The storage pool, btrfs.
    #[must_use]
    pub fn pool(&self) -> &str {
        &self.pool
    }

    /// Alias of the minimal guest image: Debian with git, no init but a loop, a user 1000.
    #[must_use]
    pub fn image_alias(&self) -> &str {
        &self.image_alias
    }

    /// Alias of a guest image that boots systemd, made by the recipe of the images of roles, with the
    /// static runner built in; for the test called `test`. Made when it is not there, which takes a minute
    /// the first time. Nothing, and a record of the refusal, where that runner was not built.
    ///
    /// # Panics
    ///
    /// When it should come to be and does not; and as [`need::needs`].
    #[must_use]
    pub fn systemd_image_alias(&self, test: &str) -> Option<String> {
        let target = std::env::current_exe().ok()?.ancestors().nth(3)?.to_owned();
        let runners = target.join("guest").join(std::env::consts::ARCH);
        let is_built = runners.join("jerichoci-incus-run").exists();
        if !need::needs(test, "needs what scripts/build-guest builds", is_built)
            || !need::needs_program(test, "xz")
        {
            return None;
        }
        match script(&self.dir, &["systemd-image", "--runner", &runners.to_string_lossy()]) {
            Ok(alias) => Some(alias.trim().to_owned()),
            Err(error) => panic!("the image that boots systemd cannot be made: {error:#}"),
        }
    }

    /// The root file system that images of roles are made from, as a tar archive, without the packages of
    /// one role and without the runner. Made when it is not there, which takes a minute the first time.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn systemd_base(&self) -> Result<PathBuf> {
        script(&self.dir, &["systemd-base"]).map(|path| path.trim().into())
    }

    /// Process id of the daemon now.
    ///
    /// # Errors
    ///
    /// When the rig is not described.
    pub fn daemon(&self) -> Result<u32> {
        let text = fs::read_to_string(self.dir.join("incusd.pid"))?;
        Ok(text.trim().parse()?)
    }

    /// Ends the daemon with SIGKILL, as a crash would, and does not start it again.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn kill_daemon(&self) -> Result<()> {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.daemon()?)?).context("pid")?;
        let waiter = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        let mut fds = [rustix::event::PollFd::new(&waiter, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, None)?;
        Ok(())
    }

    /// Stops (SIGSTOP) the daemon until the result is dropped: connections are taken, and nothing is answered.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn pause_daemon(&self) -> Result<Paused> {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.daemon()?)?).context("pid")?;
        let daemon = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
        rustix::process::pidfd_send_signal(&daemon, rustix::process::Signal::STOP)?;
        Ok(Paused { daemon })
    }

    /// Starts the daemon again after [`kill_daemon`](Self::kill_daemon).
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub fn start_daemon(&self) -> Result<()> {
        script(&self.dir, &["up"]).map(drop)
    }

    /// A project of its own, restricted as a build host's is: unprivileged containers, disks only
    /// from volumes and from below [`Project::dir`], at most `limit` instances.
    ///
    /// # Errors
    ///
    /// When Incus does not make it.
    pub fn project(&self, limit: u32) -> Result<Project<'_>> {
        self.project_with(limit, json!({}))
    }

    /// As [`project`](Self::project), with more configuration.
    pub(crate) fn project_with(&self, limit: u32, more: Value) -> Result<Project<'_>> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        self.remove_orphans()?;
        let name = format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = self.work_dir.join(&name);
        fs::create_dir_all(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        let _ = self.ask("DELETE", &format!("/1.0/projects/{name}?force=1"), None);
        let mut config = json!({
            "features.images": "false", "features.profiles": "true",
            "features.storage.volumes": "true", "features.networks": "false",
            "limits.instances": limit.to_string(),
            "restricted": "true", "restricted.devices.disk": "allow",
            "restricted.devices.disk.paths": dir,
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        self.ask("POST", "/1.0/projects", Some(&json!({ "name": name, "config": config })))?;
        let profile = json!({ "config": {}, "devices": {
            "root": { "type": "disk", "path": "/", "pool": self.pool },
        } });
        self.ask("PUT", &format!("/1.0/profiles/default?project={name}"), Some(&profile))?;
        Ok(Project { rig: self, name, dir })
    }

    /// Removes the projects of test processes that did not live to do so.
    fn remove_orphans(&self) -> Result<()> {
        let projects = self.ask("GET", "/1.0/projects", None)?;
        for path in projects.as_array().into_iter().flatten().filter_map(Value::as_str) {
            let Some((pid, _)) =
                path.strip_prefix("/1.0/projects/test-").and_then(|name| name.split_once('-'))
            else {
                continue;
            };
            if !Path::new("/proc").join(pid).exists() {
                // Somebody else may be at it.
                let _ = self.ask("DELETE", &format!("{path}?force=1"), None);
            }
        }
        Ok(())
    }

    /// The metadata of an answer of Incus; an operation is waited for.
    ///
    /// # Errors
    ///
    /// What Incus says, or curl.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut answer = self.curl(method, path, body)?;
        // A member of a cluster that has just come back is online before it takes what is asked of it.
        for _ in 0..200 {
            if !answer["error"].as_str().is_some_and(|error| error.contains("Server isn't ready yet")) {
                break;
            }
            rustix::event::poll(&mut [], Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 100_000_000 }))?;
            answer = self.curl(method, path, body)?;
        }
        let answer = match answer["type"].as_str() {
            Some("async") => {
                let operation = answer["metadata"]["id"].as_str().context("an operation")?;
                self.curl("GET", &format!("/1.0/operations/{operation}/wait"), None)?
            }
            _ => answer,
        };
        let err = answer["metadata"]["err"].as_str().unwrap_or_default();
        ensure!(answer["type"] == "sync" && err.is_empty(), "{method} {path}: {}{err}", answer["error"]);
        Ok(answer["metadata"].clone())
    }

    fn curl(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut curl = command(Path::new("curl"));
        curl.args(["--silent", "--show-error", "--unix-socket"]).arg(&self.socket).args(["-X", method]);
        curl.args(["--max-time", PATIENCE]);
        if let Some(body) = body {
            curl.args(["--data", &body.to_string()]);
        }
        let output = curl.arg(format!("http://incus{path}")).output().context("curl")?;
        ensure!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{path}: {}", String::from_utf8_lossy(&output.stdout)))
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if self.is_own {
            // What is left is removed by the next `scripts/rig down`.
            let _ = script(&self.dir, &["down"]);
        }
    }
}

/// Whether an Incus can be brought up here for the test called `test`; records the refusal when not.
pub(crate) fn is_possible(test: &str) -> bool {
    need::needs_root(test)
        && PROGRAMS.iter().all(|program| need::needs_program(test, program))
        && need::needs(test, "needs Incus", Path::new("/usr/libexec/incus/incusd").exists())
}

/// Whether a daemon answers, on a machine that is busy, too.
fn answers(socket: &Path) -> bool {
    let mut curl = command(Path::new("curl"));
    curl.args(["--silent", "--output", "/dev/null", "--max-time", "20", "--unix-socket"]).arg(socket);
    curl.arg("http://incus/1.0").status().is_ok_and(|status| status.success())
}

/// Runs `scripts/rig` on the rig in a directory; what it printed.
fn script(dir: &Path, args: &[&str]) -> Result<String> {
    script_with("JERICHO_RIG_DIR", dir, args)
}

/// Runs `scripts/rig` with a variable that names a directory; what it printed.
pub(crate) fn script_with(variable: &str, dir: &Path, args: &[&str]) -> Result<String> {
    let script = crate_dir!().join("../../scripts/rig");
    let output = command(&script).args(args).env(variable, dir).output().context("scripts/rig")?;
    ensure!(output.status.success(), "scripts/rig: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A project of one test. It goes, with all that is in it, when it is dropped.
#[derive(Debug)]
pub struct Project<'a> {
    rig: &'a Rig,
    name: String,
    dir: PathBuf,
}

impl Project<'_> {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory of this machine that guests may be given parts of.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes a directory below [`dir`](Self::dir) that everybody may write to.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn make_dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777))?;
        Ok(dir)
    }

    /// Names of its instances, as Incus lists them.
    ///
    /// # Errors
    ///
    /// When Incus does not answer.
    pub fn instances(&self) -> Result<Vec<String>> {
        self.names("/1.0/instances?")
    }

    /// Names of its volumes that are not those of instances.
    ///
    /// # Errors
    ///
    /// When Incus does not answer.
    pub fn volumes(&self) -> Result<Vec<String>> {
        self.names(&format!("/1.0/storage-pools/{}/volumes/custom?", self.rig.pool))
    }

    fn names(&self, path: &str) -> Result<Vec<String>> {
        let found = self.rig.ask("GET", &format!("{path}recursion=1&project={}", self.name), None)?;
        let mut names: Vec<String> = found
            .as_array()
            .context("a list")?
            .iter()
            .filter_map(|one| one["name"].as_str().map(str::to_owned))
            .collect();
        names.sort();
        Ok(names)
    }

    /// Runs a command in a guest and returns what it printed.
    ///
    /// # Errors
    ///
    /// When it does not return 0.
    pub fn exec(&self, instance: &str, script: &str) -> Result<String> {
        let body = json!({ "command": ["sh", "-c", script], "record-output": true, "interactive": false,
            "wait-for-websocket": false });
        let path = format!("/1.0/instances/{instance}/exec?project={}", self.name);
        let done = self.rig.ask("POST", &path, Some(&body))?;
        let file = done["metadata"]["output"]["1"].as_str().context("output")?;
        let mut curl = command(Path::new("curl"));
        curl.args(["--silent", "--unix-socket"]).arg(&self.rig.socket);
        let output = curl.arg(format!("http://incus{file}?project={}", self.name)).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(done["metadata"]["return"] == 0, "{script}: {}: {text}", done["metadata"]["return"]);
        Ok(text)
    }
}

/// A daemon that is stopped. Dropped, it goes on.
#[derive(Debug)]
pub struct Paused {
    daemon: std::os::fd::OwnedFd,
}

impl Drop for Paused {
    fn drop(&mut self) {
        // One that has ended is as good.
        let _ = rustix::process::pidfd_send_signal(&self.daemon, rustix::process::Signal::CONT);
    }
}

impl Drop for Project<'_> {
    fn drop(&mut self) {
        // A test that failed left something; the next ones must not suffer.
        let _ = self.rig.ask("DELETE", &format!("/1.0/projects/{}?force=1", self.name), None);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[expect(clippy::disallowed_methods, reason = "the rig must not depend on the code under test")]
fn command(program: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    command.stdin(std::process::Stdio::null());
    command
}

/// The directory of a rig of this process's own; `scripts/rig down` removes those whose process is gone.
pub(crate) fn own_directory() -> PathBuf {
    let mut dir = directory().into_os_string();
    dir.push(format!(".own-{}", std::process::id()));
    dir.into()
}

#[expect(clippy::disallowed_methods, reason = "tests are told by the environment where the rig is")]
fn directory() -> PathBuf {
    std::env::var_os("JERICHO_RIG_DIR").map_or_else(|| DEFAULT_DIR.into(), PathBuf::from)
}
