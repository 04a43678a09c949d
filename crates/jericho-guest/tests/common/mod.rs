//! A job directory, and the runner as a real process in it.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use jericho_testkit::built_program;
use pika_cloud::{LifecycleState, RuntimePaths, RuntimeStatusSnapshot, RuntimeTerminalResult, parse_events};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};
use serde_json::{Value, json};

/// A host process's directories: `state` for the lifecycle files, `work` to run in.
pub(crate) struct Rig {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) paths: RuntimePaths,
}

/// What a runner left.
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("work")).unwrap();
        let paths = RuntimePaths::in_dir(dir.path().join("state").to_str().unwrap());
        Self { dir, paths }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.path("work")
    }

    /// A sound request of version 3 for a host process.
    pub(crate) fn request(&self, command: &str) -> Value {
        json!({
            "schema_version": 3, "command": command, "timeout_secs": 60, "run_as_root": false,
            "runtime": "host_process", "cwd": self.work(), "paths": self.paths,
            "env_file": Value::Null, "grace_secs": 2,
        })
    }

    pub(crate) fn write_request(&self, request: &Value) -> PathBuf {
        let path = self.path("request.json");
        fs::write(&path, request.to_string()).unwrap();
        path
    }

    /// Writes an environment file as whoever delivers it does.
    pub(crate) fn write_environment(&self, document: &Value) -> PathBuf {
        let path = self.path("env.json");
        fs::write(&path, document.to_string()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        path
    }

    /// Runs a request to its end.
    pub(crate) fn run(&self, request: &Value) -> Outcome {
        outcome(runner(&[]).arg(self.write_request(request)))
    }

    /// Starts a request; its output is thrown away.
    pub(crate) fn start(&self, request: &Value) -> Child {
        let request = self.write_request(request);
        runner(&[]).arg(request).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    pub(crate) fn cancel(&self, options: &[&str]) -> Outcome {
        outcome(runner(&["cancel"]).args(options).arg(self.path("request.json")))
    }

    pub(crate) fn log(&self) -> Vec<u8> {
        fs::read(&self.paths.guest_log_path).unwrap()
    }

    pub(crate) fn log_text(&self) -> String {
        String::from_utf8(self.log()).unwrap()
    }

    /// The result, after a look at whether the other files agree with it and nothing is missing.
    #[track_caller]
    pub(crate) fn result(&self) -> RuntimeTerminalResult {
        let result = RuntimeTerminalResult::load(Path::new(&self.paths.result_path)).unwrap();
        let last = *self.kinds().last().unwrap();
        assert_eq!(last, LifecycleState::from(result.status));
        let status = RuntimeStatusSnapshot::load(Path::new(&self.paths.status_path)).unwrap();
        assert_eq!((status.state, &status.message), (last, &result.message));
        let left = fs::read_dir(self.path("state")).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> =
            left.filter(|name| [".reserve", ".start"].iter().any(|known| name == known)).collect();
        assert!(left.is_empty(), "{left:?}");
        result
    }

    /// The kinds of all events; their numbers have no gap and no repetition.
    #[track_caller]
    pub(crate) fn kinds(&self) -> Vec<LifecycleState> {
        let contents = parse_events(&fs::read(&self.paths.events_path).unwrap(), 0);
        assert_eq!(contents.problems, []);
        contents.events.iter().map(|event| event.kind).collect()
    }

    #[track_caller]
    pub(crate) fn detail(&self, name: &str) -> Value {
        self.result().details.unwrap()[name].clone()
    }

    /// A named pipe in the working directory, by which a command and a test wait for each other.
    pub(crate) fn fifo(&self, name: &str) -> PathBuf {
        let path = self.work().join(name);
        jericho_host::sys::make_fifo(&path).unwrap();
        path
    }
}

#[expect(clippy::disallowed_methods, reason = "the runner is what is tested")]
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(program)
}

pub(crate) fn runner(args: &[&str]) -> Command {
    let mut command = command(built_program!("jerichoci-incus-run"));
    command.args(args);
    command
}

pub(crate) fn outcome(command: &mut Command) -> Outcome {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Outcome {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Waits until a process has ended; it need not be a child.
pub(crate) fn wait_for_end(pid: i32) {
    let Ok(held) = rustix::process::pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()) else {
        return;
    };
    let timeout = Timespec { tv_sec: 60, tv_nsec: 0 };
    let ready = rustix::event::poll(&mut [PollFd::new(&held, PollFlags::IN)], Some(&timeout)).unwrap();
    assert_eq!(ready, 1, "process {pid} does not end");
}

pub(crate) fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Command lines of the processes that have `part` in theirs, zombies left out.
pub(crate) fn running(part: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let line = fs::read(entry.unwrap().path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(part) {
            found.push(line);
        }
    }
    found
}

/// A number of seconds for sleep(1) that nobody else sleeps, by which a process is known.
pub(crate) fn odd_seconds() -> String {
    let id = jericho_host::IdSource::fresh(&jericho_host::SystemIds);
    let digits: String = id.bytes().map(|byte| char::from(b'0' + byte % 10)).collect();
    format!("300.{digits}")
}

/// For things that end after the process that the test has waited for: the kernel's own work.
pub(crate) const SOON: Duration = Duration::from_secs(10);
