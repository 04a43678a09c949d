//! A repository with an engine whose guests are made in a project of the tests' Incus.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jericho_host::{CancelToken, Clock, Environment, SystemClock};
use jericho_testkit::incus::{Project, Rig};
use jericho_testkit::program::guest_programs;
use jericho_testkit::ssh;
use jerichoci::config::HostConfig;
use jerichoci::model::job::{GuestCommand, IncusRuntimeConfig, JobPlacement, JobRuntimeConfig, JobSpec};
use jerichoci::model::record::{JobRecord, RunRecord};
use jerichoci::{Engine, EngineConfig, NoReporter, RunRequest};

pub(crate) struct World<'a> {
    pub(crate) project: &'a Project<'a>,
    pub(crate) root: PathBuf,
    pub(crate) config: EngineConfig,
}

impl<'a> World<'a> {
    pub(crate) fn new(rig: &Rig, project: &'a Project<'a>, test: &str) -> Option<Self> {
        let runners = guest_programs(test)?;
        let root = project.dir().join("tree");
        fs::create_dir_all(root.join("src")).unwrap();
        fs::write(root.join("a.txt"), "one\n").unwrap();
        fs::write(root.join("src/b.txt"), "two\n").unwrap();
        let mut config = EngineConfig::new(root.join(".jerichoci"), &root);
        config.caller_environment =
            [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/nonexistent"), ("PASSED", "by the caller")]
                .into_iter()
                .collect::<Environment>();
        config.incus.socket = rig.socket().to_owned();
        config.incus.project = project.name().to_owned();
        config.incus.profile = "default".to_owned();
        config.incus.image_alias = Some(rig.image_alias().to_owned());
        config.hosts.runner_dirs = vec![runners];
        Some(Self { project, root, config })
    }

    /// With a host `box` that is reached by ssh: the same machine, with the same project.
    pub(crate) fn with_host(mut self, sshd: &ssh::Rig) -> Self {
        // ssh reads the configuration of its user, whatever HOME says.
        let program = self.project.dir().join("ssh");
        fs::write(&program, format!("#!/bin/sh\nexec ssh -F {} \"$@\"\n", sshd.config().display())).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        self.config.hosts.ssh_program = program.into();
        let mut host = HostConfig::new("rig");
        host.work_dir = self.project.dir().join("work");
        host.incus = std::mem::take(&mut self.config.incus);
        // Nothing is there for jobs of this machine.
        self.config.incus.socket = "/nonexistent/incus.socket".into();
        self.config.hosts.named.insert("box".to_owned(), host);
        self
    }

    pub(crate) fn engine(&self) -> Engine {
        Engine::new(self.config.clone())
    }

    pub(crate) fn run(&self, jobs: Vec<JobSpec>) -> RunRecord {
        self.run_request(&RunRequest::new(jobs))
    }

    pub(crate) fn run_request(&self, request: &RunRequest) -> RunRecord {
        self.run_until(request, &CancelToken::new().unwrap())
    }

    pub(crate) fn run_until(&self, request: &RunRequest, cancel: &CancelToken) -> RunRecord {
        self.engine().run(request, &mut NoReporter, cancel).unwrap()
    }

    pub(crate) fn job_dir(&self, run: &RunRecord, job: &str) -> PathBuf {
        self.config.state_root.join("runs").join(&run.run_id).join("jobs").join(job)
    }

    pub(crate) fn host_log(&self, run: &RunRecord, job: &str) -> String {
        let log = fs::read(self.job_dir(run, job).join("host.log")).unwrap();
        String::from_utf8_lossy(&log).into_owned()
    }

    pub(crate) fn guest_log(&self, run: &RunRecord, job: &str) -> String {
        let log = fs::read(self.job_dir(run, job).join("artifacts/guest.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        assert_eq!(self.project.instances().unwrap(), Vec::<String>::new());
    }
}

/// A job in a guest.
pub(crate) fn guest(id: &str, script: &str) -> JobSpec {
    let command = GuestCommand::ShellCommand { command: script.to_owned() };
    let mut job = JobSpec::host_process(id, command);
    job.runtime = JobRuntimeConfig::Incus(IncusRuntimeConfig::default());
    job.writable_workspace = false;
    job.timeout_secs = 60;
    job
}

/// The same on the host `box`.
pub(crate) fn on_host(mut job: JobSpec) -> JobSpec {
    job.placement = JobPlacement::RemoteSsh { host: "box".to_owned() };
    job
}

pub(crate) fn incus(job: &mut JobSpec) -> &mut IncusRuntimeConfig {
    match &mut job.runtime {
        JobRuntimeConfig::Incus(runtime) => runtime,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn job<'a>(run: &'a RunRecord, id: &str) -> &'a JobRecord {
    run.jobs.iter().find(|job| job.id == id).unwrap()
}

/// Most memory that this process ever had.
pub(crate) fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}

pub(crate) fn monotonic() -> Duration {
    SystemClock.monotonic()
}

/// Lets time pass, or less when the token is cancelled.
pub(crate) fn pause(cancel: &CancelToken, time: Duration) {
    let mut fds = [rustix::event::PollFd::from_borrowed_fd(cancel.fd(), rustix::event::PollFlags::IN)];
    let timeout = rustix::event::Timespec {
        tv_sec: time.as_secs().try_into().unwrap(),
        tv_nsec: time.subsec_nanos().into(),
    };
    let _ = rustix::event::poll(&mut fds, Some(&timeout));
}

/// Waits until a file of that name below `dir` has this word in it.
#[track_caller]
pub(crate) fn await_file(dir: &Path, name: &str, word: &str) {
    await_file_or(dir, name, word, || false);
}

/// The same, or until there is nothing to wait for any more.
#[track_caller]
pub(crate) fn await_file_or(dir: &Path, name: &str, word: &str, over: impl Fn() -> bool) {
    let (token, until) = (CancelToken::new().unwrap(), monotonic() + Duration::from_secs(60));
    while monotonic() < until {
        if over()
            || find(dir, name)
                .iter()
                .any(|path| fs::read_to_string(path).is_ok_and(|text| text.contains(word)))
        {
            return;
        }
        pause(&token, Duration::from_millis(5));
    }
    panic!("no {name} with {word} below {}", dir.display());
}

/// Files of that name below a directory.
pub(crate) fn find(dir: &Path, name: &str) -> Vec<PathBuf> {
    let (mut dirs, mut found) = (vec![dir.to_path_buf()], Vec::new());
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_name() == name {
                found.push(entry.path());
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                dirs.push(entry.path());
            }
        }
    }
    found
}

/// This program once more, for one of its tests.
#[expect(
    clippy::disallowed_methods,
    reason = "a child that is killed must be no child of the code under test"
)]
pub(crate) fn again(test: &str, environment: &[(&str, &std::ffi::OsStr)]) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).envs(environment.iter().copied());
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    command
}

#[expect(clippy::disallowed_methods, reason = "what `again` says")]
pub(crate) fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from)
}
