//! A repository with an engine.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use jericho_host::{CancelToken, Command, Environment, Host, LocalHost};
use jerichoci::model::event::{JournalEntry, RunLifecycleEvent};
use jerichoci::model::job::{GuestCommand, JobSpec};
use jerichoci::model::record::{JobRecord, RunRecord};
use jerichoci::{Engine, EngineConfig, RunRequest};

pub(crate) struct Rig {
    dir: tempfile::TempDir,
    pub(crate) root: PathBuf,
    pub(crate) config: EngineConfig,
    events: Mutex<Vec<JournalEntry>>,
}

pub(crate) fn environment() -> Environment {
    [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/nonexistent"), ("GIT_CONFIG_NOSYSTEM", "1")]
        .into_iter()
        .collect()
}

impl Rig {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap().join("tree");
        fs::create_dir(&root).unwrap();
        git(&root, &["init", "-q", "-b", "main"]);
        fs::write(root.join("a.txt"), "one\n").unwrap();
        fs::write(root.join(".gitignore"), "/.jerichoci\n").unwrap();
        let mut config = EngineConfig::new(root.join(".jerichoci"), &root);
        config.caller_environment = environment();
        Self { dir, root, config, events: Mutex::default() }
    }

    /// A directory outside the tree.
    pub(crate) fn outside(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    pub(crate) fn engine(&self) -> Engine {
        Engine::new(self.config.clone())
    }

    pub(crate) fn commit(&self, message: &str) -> String {
        git(&self.root, &["add", "-A"]);
        git(
            &self.root,
            &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", message],
        );
        git(&self.root, &["rev-parse", "HEAD"]).trim().to_owned()
    }

    pub(crate) fn run(&self, jobs: Vec<JobSpec>) -> RunRecord {
        self.run_request(&RunRequest::new(jobs))
    }

    pub(crate) fn run_request(&self, request: &RunRequest) -> RunRecord {
        let cancel = CancelToken::new().unwrap();
        self.run_until(request, &cancel)
    }

    pub(crate) fn run_until(&self, request: &RunRequest, cancel: &CancelToken) -> RunRecord {
        self.engine().run(request, &mut self.reporter(), cancel).unwrap()
    }

    /// Keeps what is told.
    pub(crate) fn reporter(&self) -> impl FnMut(&JournalEntry) -> io::Result<()> + Send + '_ {
        |entry| {
            self.events.lock().unwrap().push(entry.clone());
            Ok(())
        }
    }

    pub(crate) fn events(&self) -> Vec<RunLifecycleEvent> {
        self.events.lock().unwrap().iter().map(|entry| entry.event.clone()).collect()
    }

    pub(crate) fn run_dir(&self, run: &RunRecord) -> PathBuf {
        self.config.state_root.join("runs").join(&run.run_id)
    }

    pub(crate) fn job_dir(&self, run: &RunRecord, job: &str) -> PathBuf {
        self.run_dir(run).join("jobs").join(job)
    }

    pub(crate) fn log(&self, run: &RunRecord, job: &str) -> String {
        let log = fs::read(self.job_dir(run, job).join("host.log")).unwrap();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// All files of a run with their contents, but for what jobs left as artifacts.
    pub(crate) fn texts(&self, run: &RunRecord) -> Vec<(PathBuf, Vec<u8>)> {
        let mut texts = Vec::new();
        let mut open = vec![self.run_dir(run)];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(&dir).unwrap() {
                let entry = entry.unwrap();
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    open.push(entry.path());
                } else if kind.is_file() {
                    texts.push((entry.path(), fs::read(entry.path()).unwrap()));
                }
            }
        }
        texts
    }
}

pub(crate) fn git(dir: &Path, args: &[&str]) -> String {
    let command = Command::new("git").args(args).cwd(dir).env(environment());
    let output = LocalHost::new().run(&command, &CancelToken::new().unwrap()).unwrap();
    assert!(output.exit.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn sh(id: &str, script: &str) -> JobSpec {
    JobSpec::host_process(id, GuestCommand::Argv { argv: vec!["sh".into(), "-c".into(), script.into()] })
}

pub(crate) fn needs(mut job: JobSpec, needs: &[&str]) -> JobSpec {
    job.needs = needs.iter().map(ToString::to_string).collect();
    job
}

pub(crate) fn job<'a>(run: &'a RunRecord, id: &str) -> &'a JobRecord {
    run.jobs.iter().find(|job| job.id == id).unwrap()
}
