//! A repository with an engine, and a host over SSH that it may use.
#![allow(dead_code, reason = "each module of tests uses a part")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jericho_host::{CancelToken, Command, Environment, Host, LocalHost, SystemClock, SystemIds};
use jericho_testkit::program::guest_programs;
use jericho_testkit::ssh;
use jerichoci::config::HostConfig;
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
        let mut config = EngineConfig::new(root.join(".jerichoci"), &root);
        config.caller_environment = environment();
        config.hosts.ssh_program = program.into();
        config.hosts.runner_dirs = vec![runners];
        let mut host = HostConfig::new("rig");
        host.work_dir = outside.join("work");
        host.allow.push(JobRuntimeKind::HostProcess);
        config.hosts.named.insert("box".to_owned(), host);
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
