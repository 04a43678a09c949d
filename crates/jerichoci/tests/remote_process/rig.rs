//! A repository with an engine, and a host over SSH that it may use.
#![allow(dead_code, reason = "each module of tests uses a part")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jericho_host::{CancelToken, Clock, Command, Environment, Host, LocalHost, SystemClock, SystemIds};
use jericho_testkit::program::guest_programs;
use jericho_testkit::ssh;
use jerichoci::config::HostConfig;
use jerichoci::model::demands::{SecretDelivery, SecretSpec};
use jerichoci::model::event::JournalEntry;
use jerichoci::model::job::{GuestCommand, JobPlacement, JobRuntimeKind, JobSpec};
use jerichoci::model::record::{JobRecord, RunRecord};
use jerichoci::remote::Hosts;
use jerichoci::{Engine, EngineConfig, RunRequest};

pub(crate) struct Rig {
    dir: tempfile::TempDir,
    pub(crate) root: PathBuf,
    pub(crate) config: EngineConfig,
    pub(crate) sshd: ssh::Rig,
    events: Mutex<Vec<JournalEntry>>,
}

impl Drop for Rig {
    /// A job of a test that has failed outlives it otherwise.
    fn drop(&mut self) {
        self.runners().into_iter().for_each(|runner| self.kill(runner));
    }
}

pub(crate) fn token() -> CancelToken {
    CancelToken::new().unwrap()
}

pub(crate) fn environment() -> Environment {
    [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/nonexistent"), ("GIT_CONFIG_NOSYSTEM", "1")]
        .into_iter()
        .collect()
}

impl Rig {
    /// With the host `box`, whose work directory is [`Rig::work_dir`]; nothing where there cannot be one.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let runners = guest_programs(test)?;
        let sshd = ssh::Rig::start(test)?;
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().canonicalize().unwrap();
        let root = outside.join("tree");
        fs::create_dir(&root).unwrap();
        git(&root, &["init", "-q", "-b", "main"]);
        fs::write(root.join("a.txt"), "one\n").unwrap();
        fs::write(root.join(".gitignore"), "/.jerichoci\n").unwrap();
        // ssh reads the configuration of its user, whatever HOME says.
        let program = outside.join("ssh");
        fs::write(&program, format!("#!/bin/sh\nexec ssh -F {} \"$@\"\n", sshd.config().display())).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let config = Self::config_of(&root, program, runners, outside.join("work"));
        Some(Self { dir, root, config, sshd, events: Mutex::default() })
    }

    /// A directory outside the tree.
    pub(crate) fn outside(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    /// Where the host keeps what is given to it.
    pub(crate) fn work_dir(&self) -> PathBuf {
        self.outside().join("work")
    }

    /// Settings of the host `box`.
    pub(crate) fn host(&mut self) -> &mut HostConfig {
        self.config.hosts.named.get_mut("box").unwrap()
    }

    pub(crate) fn hosts(&self) -> Hosts {
        let config = Arc::new(self.config.clone());
        Hosts::new(config, Arc::new(SystemClock), Arc::new(SystemIds), "e".repeat(32))
    }

    pub(crate) fn engine(&self) -> Engine {
        Engine::new(self.config.clone())
    }

    pub(crate) fn run(&self, jobs: Vec<JobSpec>) -> RunRecord {
        self.run_until(&RunRequest::new(jobs), &token())
    }

    pub(crate) fn run_until(&self, request: &RunRequest, cancel: &CancelToken) -> RunRecord {
        self.engine().run(request, &mut self.reporter(), cancel).unwrap()
    }

    /// Keeps what is told.
    pub(crate) fn reporter(&self) -> impl FnMut(&JournalEntry) -> std::io::Result<()> + Send + '_ {
        |entry| {
            self.events.lock().unwrap().push(entry.clone());
            Ok(())
        }
    }

    /// What jobs have left on the host: directories of runs, files with variables.
    pub(crate) fn left(&self) -> Vec<String> {
        let names = |dir: &Path| -> Vec<String> {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            entries.map(|entry| entry.path().display().to_string()).collect()
        };
        let mut left = names(&self.work_dir().join("runs"));
        // Those of this rig name its work directory.
        let ours = |path: &String| {
            let text = fs::read(path).unwrap_or_default();
            String::from_utf8_lossy(&text).contains(&*self.work_dir().to_string_lossy())
        };
        let variables = names(Path::new("/dev/shm")).into_iter().filter(|path| path.contains("/jerichoci-"));
        left.extend(variables.filter(ours));
        left
    }

    /// Processes of this machine with this command line.
    pub(crate) fn commands(&self, line: &str) -> Vec<u32> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let text = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).replace('\0', " ");
            if text.trim_end() == line {
                found.push(pid);
            }
        }
        found
    }

    /// Waits until the host log of a job of the only run has a text.
    pub(crate) fn wait_for_log(&self, job: &str, text: &str) {
        wait_until(|| {
            let runs = fs::read_dir(self.config.state_root.join("runs")).into_iter().flatten().flatten();
            runs.map(|run| run.path().join("jobs").join(job).join("host.log"))
                .any(|log| fs::read(log).is_ok_and(|log| String::from_utf8_lossy(&log).contains(text)))
        });
    }

    /// Processes of this machine whose command lines have all of these words.
    fn with_words(words: &[&str]) -> Vec<u32> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let text = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).replace('\0', " ");
            if words.iter().all(|word| text.contains(word)) {
                found.push(pid);
            }
        }
        found
    }

    /// Runners at work on the host.
    pub(crate) fn runners(&self) -> Vec<u32> {
        let mut found = Self::with_words(&["__detached", &self.work_dir().to_string_lossy()]);
        // The first process of the job's namespace looks like its parent.
        found.retain(|pid| fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name != b"jericho-init\n"));
        found
    }

    /// Whether a job is being told to end there.
    pub(crate) fn is_cancelling(&self) -> bool {
        !Self::with_words(&["jerichoci-incus-run cancel", &self.work_dir().to_string_lossy()]).is_empty()
    }

    /// Processes that hold the connection.
    pub(crate) fn masters(&self) -> Vec<u32> {
        Self::with_words(&[&self.sshd.config().to_string_lossy(), " -M "])
    }

    pub(crate) fn kill(&self, pid: u32) {
        let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
        // One that has just ended is as good.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }

    pub(crate) fn now(&self) -> std::time::Duration {
        SystemClock.monotonic()
    }

    /// An engine in another process that runs one job, `job`.
    #[expect(clippy::disallowed_methods, reason = "it is to be killed")]
    pub(crate) fn engine_process(&self, script: &str) -> std::process::Child {
        let host = self.config.hosts.get("box");
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "faults::the_engine_of_another_process", "--nocapture"])
            .env("JERICHO_TEST_ROOT", &self.root)
            .env("JERICHO_TEST_SSH", &self.config.hosts.ssh_program)
            .env("JERICHO_TEST_RUNNERS", &self.config.hosts.runner_dirs[0])
            .env("JERICHO_TEST_WORK_DIR", host.work_dir)
            .env("JERICHO_TEST_SCRIPT", script)
            .envs(self.config.secrets.get("TOKEN").map(|token| ("JERICHO_TEST_TOKEN", token)))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap()
    }

    /// What the other side of [`Rig::engine_process`] finds.
    #[expect(clippy::disallowed_methods, reason = "a test tells another process what to do")]
    pub(crate) fn of_another_process() -> Option<(Engine, JobSpec)> {
        let variable = |name: &str| std::env::var_os(format!("JERICHO_TEST_{name}"));
        let root = PathBuf::from(variable("ROOT")?);
        let mut config =
            Self::config_of(&root, variable("SSH")?, variable("RUNNERS")?, variable("WORK_DIR")?);
        let mut job = sh("job", &variable("SCRIPT")?.into_string().unwrap());
        if let Some(token) = variable("TOKEN") {
            config.secrets.insert("TOKEN", token);
            job.secrets.push(SecretSpec { name: "TOKEN".into(), delivery: SecretDelivery::Env });
        }
        Some((Engine::new(config), job))
    }

    fn config_of(
        root: &Path,
        ssh: impl Into<std::ffi::OsString>,
        runners: impl Into<PathBuf>,
        work_dir: impl Into<PathBuf>,
    ) -> EngineConfig {
        let mut config = EngineConfig::new(root.join(".jerichoci"), root);
        config.caller_environment = environment();
        config.hosts.ssh_program = ssh.into();
        config.hosts.runner_dirs = vec![runners.into()];
        let mut host = HostConfig::new("rig");
        host.work_dir = work_dir.into();
        host.allow.push(JobRuntimeKind::HostProcess);
        // The machine of a test need not have as much as a host.
        host.min_free = 0;
        config.hosts.named.insert("box".to_owned(), host);
        config
    }

    pub(crate) fn run_dir(&self, run: &RunRecord) -> PathBuf {
        self.config.state_root.join("runs").join(&run.run_id)
    }

    pub(crate) fn job_dir(&self, run: &RunRecord, job: &str) -> PathBuf {
        self.run_dir(run).join("jobs").join(job)
    }

    pub(crate) fn log(&self, run: &RunRecord, job: &str, which: &str) -> String {
        let log = fs::read(self.job_dir(run, job).join(which)).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}

/// Looks until it is so, for at most a minute.
#[expect(clippy::disallowed_methods, reason = "what is waited for gives no sign")]
pub(crate) fn wait_until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if is_so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("it does not come");
}

pub(crate) fn git(dir: &Path, args: &[&str]) -> String {
    let command = Command::new("git").args(args).cwd(dir).env(environment());
    let output = LocalHost::new().run(&command, &token()).unwrap();
    assert!(output.exit.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A job on the host `box`.
pub(crate) fn sh(id: &str, script: &str) -> JobSpec {
    let argv = vec!["sh".into(), "-c".into(), script.into()];
    let mut job = JobSpec::host_process(id, GuestCommand::Argv { argv });
    job.placement = JobPlacement::RemoteSsh { host: "box".to_owned() };
    job
}

pub(crate) fn job<'a>(run: &'a RunRecord, id: &str) -> &'a JobRecord {
    run.jobs.iter().find(|job| job.id == id).unwrap()
}
