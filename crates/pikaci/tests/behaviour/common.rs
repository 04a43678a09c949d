//! A repository, and the real program run in it in every way that jobs can be kept together here.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use jericho_host::{Clock as _, Host as _, LocalHost, SystemClock};
use jericho_testkit::built_program;
use jericho_testkit::repo::Repo;
use serde_json::Value;
use tempfile::TempDir;

/// How the engine keeps the processes of a job together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// As root on Linux: an overlay, and a process namespace that dies with the engine.
    Namespaces,
    /// As an ordinary user: a private copy, and a session; children are found by their tag.
    Sessions,
}

impl Way {
    /// The ways of this machine and user. Root goes the second way without the right to mount.
    pub(crate) fn all() -> Vec<Self> {
        match LocalHost::new().supports_namespaces() {
            true => vec![Self::Namespaces, Self::Sessions],
            false => vec![Self::Sessions],
        }
    }

    /// What the program is used with when nothing is said.
    pub(crate) fn usual() -> Self {
        Self::all()[0]
    }
}

/// Holds a rule in every way, at the same time.
pub(crate) fn each_way(check: impl Fn(Way) + Sync) {
    std::thread::scope(|scope| {
        for way in Way::all() {
            let check = &check;
            scope.spawn(move || check(way));
        }
    });
}

/// A repository in a directory of its own. What was started in it ends with it.
pub(crate) struct Tree {
    dir: TempDir,
    way: Way,
    repo: Repo,
}

impl Tree {
    /// With these targets committed on `main`; `@OUT@` stands for [`Tree::outside`].
    pub(crate) fn new(way: Way, targets: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("behave-").tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap().join("tree");
        let tree = Self { dir, way, repo: Repo::init(root).unwrap() };
        tree.targets(targets);
        tree.repo.commit("first").unwrap();
        tree
    }

    /// [`Tree::new`] in the usual way.
    pub(crate) fn with(targets: &str) -> Self {
        Self::new(Way::usual(), targets)
    }

    /// Replaces the targets.
    pub(crate) fn targets(&self, targets: &str) {
        self.write("jericho.toml", targets.replace("@OUT@", self.outside().to_str().unwrap()));
    }

    pub(crate) fn repo(&self) -> &Repo {
        &self.repo
    }

    pub(crate) fn root(&self) -> &Path {
        self.repo.root()
    }

    pub(crate) fn write(&self, name: impl AsRef<OsStr>, content: impl AsRef<[u8]>) {
        self.repo.write(name, content).unwrap();
    }

    pub(crate) fn git<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> String {
        String::from_utf8(self.repo.git(args).unwrap()).unwrap()
    }

    /// A directory beside the tree, writable for jobs.
    pub(crate) fn outside(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    pub(crate) fn state_root(&self) -> PathBuf {
        self.root().join(".jerichoci")
    }

    pub(crate) fn run_dir(&self, id: &str) -> PathBuf {
        self.state_root().join("runs").join(id)
    }

    /// `pikaci` with these arguments, in this tree, not started yet.
    pub(crate) fn pikaci(&self, args: &[&str]) -> Command {
        let mut pikaci = match self.way {
            Way::Sessions if LocalHost::new().supports_namespaces() => {
                without_rights("sys_admin", built_program!("pikaci").as_os_str())
            }
            Way::Sessions | Way::Namespaces => command(built_program!("pikaci").as_os_str()),
        };
        pikaci.current_dir(self.root()).args(args).stdin(Stdio::null());
        pikaci
    }

    /// `pikaci` with these arguments, to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        Ended::of(self.pikaci(args).output().unwrap())
    }

    /// Runs a target and returns its record, whatever became of it.
    pub(crate) fn record_of(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.extend(["--output", "json"]);
        let ended = self.run(&all);
        serde_json::from_slice(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
    }

    /// Starts a command that tells events.
    pub(crate) fn start(&self, args: &[&str]) -> Live {
        let mut all = args.to_vec();
        all.extend(["--output", "jsonl"]);
        Live::of(self.pikaci(&all))
    }

    /// What `status --json` says.
    pub(crate) fn status(&self, id: &str) -> Value {
        self.run(&["status", id, "--json"]).code(0).json()
    }

    /// The record as it lies on the disk.
    pub(crate) fn stored(&self, id: &str) -> Value {
        serde_json::from_slice(&fs::read(self.run_dir(id).join("run.json")).unwrap()).unwrap()
    }

    /// The journal as it lies on the disk, line by line.
    pub(crate) fn journal(&self, id: &str) -> Vec<String> {
        let text = fs::read_to_string(self.run_dir(id).join("events.jsonl")).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn host_log(&self, id: &str, job: &str) -> Vec<u8> {
        fs::read(self.run_dir(id).join("jobs").join(job).join("host.log")).unwrap()
    }

    /// Ids of all runs, newest first, as `list` has them.
    pub(crate) fn run_ids(&self) -> Vec<String> {
        let list = self.run(&["list"]).code(0).text();
        list.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
    }

    /// A file that a job makes beside the tree.
    pub(crate) fn wait_for_file(&self, name: &str) {
        let path = self.outside().join(name);
        wait_for(name, || path.exists().then_some(()));
    }

    /// Makes a file beside the tree that a job waits for.
    pub(crate) fn make_file(&self, name: &str) {
        fs::write(self.outside().join(name), "").unwrap();
    }

    /// Processes of jobs of this tree, by pid: what they were started with names it.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let (name, own) = (self.dir.path().file_name().unwrap().as_bytes(), std::process::id());
        let names = |pid: u32, file: &str| {
            let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            text.windows(name.len()).any(|part| part == name)
        };
        let all = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        all.filter(|&pid| pid != own && (names(pid, "cmdline") || names(pid, "environ"))).collect()
    }

    /// Holds that nothing of any job runs any more. What was killed may take a moment to go.
    #[track_caller]
    pub(crate) fn nothing_is_left(&self) {
        wait_for("the end of all processes", || self.processes().is_empty().then_some(()));
    }
}

impl Drop for Tree {
    /// A test that failed leaves nothing behind either.
    fn drop(&mut self) {
        for pid in self.processes() {
            let _ = command("sh".as_ref()).args(["-c", "kill -KILL \"$1\"", "sh", &pid.to_string()]).status();
        }
    }
}

/// What a finished `pikaci` left.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        let stderr = String::from_utf8(output.stderr).unwrap();
        Self { code: output.status.code(), stdout: output.stdout, stderr }
    }

    /// Checks the exit code, and shows everything when it is another.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        let out = String::from_utf8_lossy(&self.stdout);
        assert_eq!(self.code, Some(code), "\nstdout: {out}\nstderr: {}", self.stderr);
        self
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks that standard error has these words.
    #[track_caller]
    pub(crate) fn says(self, words: &str) -> Self {
        assert!(self.stderr.contains(words), "{words:?} is not in: {}", self.stderr);
        self
    }
}

/// A run that goes on and tells events.
pub(crate) struct Live {
    child: Child,
    out: BufReader<ChildStdout>,
    err: Option<JoinHandle<String>>,
    /// Lines that were read so far.
    pub(crate) lines: Vec<String>,
    /// The run.
    pub(crate) id: String,
}

impl Live {
    /// Starts it and waits for its first event.
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let err = Some(collect(child.stderr.take().unwrap()));
        let mut live = Self { child, out, err, lines: Vec::new(), id: String::new() };
        let first = live.next();
        live.id = first["run_id"].as_str().unwrap().to_owned();
        live
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next event.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Value {
        let mut line = String::new();
        if self.out.read_line(&mut line).unwrap() == 0 {
            let said = self.err.take().map(|err| err.join().unwrap());
            panic!("it ended early: {said:?}");
        }
        let event = serde_json::from_str(&line).unwrap();
        self.lines.push(line.trim_end().to_owned());
        event
    }

    /// Reads until this event of this job.
    #[track_caller]
    pub(crate) fn until(&mut self, kind: &str, job: &str) -> Value {
        loop {
            let event = self.next();
            if event["event"] == kind && event["job"]["id"] == job {
                return event;
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = command("sh".as_ref()).args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// `kill -9`, and its end.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        self.lines.extend(rest.lines().map(str::to_owned));
        std::mem::take(&mut self.lines)
    }

    /// Waits for its end. Standard output is all lines that were not read before.
    pub(crate) fn end(mut self) -> Ended {
        let mut stdout = Vec::new();
        self.out.read_to_end(&mut stdout).unwrap();
        let stderr = self.err.take().unwrap().join().unwrap();
        Ended { code: self.child.wait().unwrap().code(), stdout, stderr }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(mut err: ChildStderr) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        let _ = err.read_to_string(&mut text);
        text
    })
}

/// Looks until there is something to see, for half a minute at most.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let give_up = SystemClock.monotonic() + Duration::from_secs(30);
    while SystemClock.monotonic() < give_up {
        if let Some(seen) = look() {
            return seen;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("did not happen within half a minute: {what}");
}

/// Everything below a directory with what would change if it were touched: kind and mode, size,
/// inode, modification time in nanoseconds, and the time of the last change of the inode.
pub(crate) fn listing(dir: &Path) -> BTreeMap<PathBuf, String> {
    fn add(path: &Path, all: &mut BTreeMap<PathBuf, String>) {
        let Ok(meta) = fs::symlink_metadata(path) else { return };
        let [mode, size, inode] = [u64::from(meta.mode()), meta.size(), meta.ino()];
        let [written, changed] = [meta.mtime(), meta.ctime()];
        let facts = format!(
            "{mode:o} {size} {inode} {written}.{} {changed}.{}",
            meta.mtime_nsec(),
            meta.ctime_nsec()
        );
        all.insert(path.to_path_buf(), facts);
        if meta.is_dir() {
            // One that is closed to this user has only itself to show.
            for entry in fs::read_dir(path).into_iter().flatten() {
                add(&entry.unwrap().path(), all);
            }
        }
    }
    let mut all = BTreeMap::new();
    add(dir, &mut all);
    all
}

/// A program with nothing in its environment but what it cannot do without.
#[expect(clippy::disallowed_methods, reason = "tests start the real programs")]
pub(crate) fn command(program: &OsStr) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", "/nonexistent");
    if let Some(path) = variable("PATH") {
        command.env("PATH", path);
    }
    command
}

/// The same without these capabilities, which root can give up.
pub(crate) fn without_rights(rights: &str, program: &OsStr) -> Command {
    let mut command = command("setpriv".as_ref());
    let rights: Vec<String> = rights.split(',').map(|right| format!("-{right}")).collect();
    command.arg(format!("--bounding-set={}", rights.join(","))).arg(program);
    command
}

/// A variable of the test's own environment.
#[expect(clippy::disallowed_methods, reason = "what the programs under test need is here")]
pub(crate) fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

/// Verdicts of the jobs of a record, in its order: the word, with the kind of a failure.
pub(crate) fn verdicts(record: &Value) -> Vec<(String, String)> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let jobs = record["jobs"].as_array().unwrap();
    let verdict = |job: &Value| match job["failure_kind"].as_str() {
        Some(kind) => kind.to_owned(),
        None => word(&job["status"]),
    };
    jobs.iter().map(|job| (word(&job["id"]), verdict(job))).collect()
}
