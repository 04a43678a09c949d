//! The engine as another front end uses it: real repositories, real processes.

use std::fs;
use std::path::{Path, PathBuf};

use jericho_host::{CancelToken, Command, Environment, Host, LocalHost};
use jerichoci::model::event::{JournalEntry, RunLifecycleEvent};
use jerichoci::model::job::{GuestCommand, JobSpec};
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::model::record::RunRecord;
use jerichoci::{Engine, EngineConfig, NoReporter, RunRequest};

struct Tree {
    _dir: tempfile::TempDir,
    root: PathBuf,
    engine: Engine,
}

fn environment() -> Environment {
    [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/nonexistent")].into_iter().collect()
}

impl Tree {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut EngineConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap().join("tree");
        fs::create_dir(&root).unwrap();
        let tree_root = root.clone();
        git(&root, &["init", "-q"]);
        fs::write(root.join("a.txt"), "one\n").unwrap();
        let mut config = EngineConfig::new(root.join(".jerichoci"), &root);
        config.caller_environment = environment();
        change(&mut config);
        Self { _dir: dir, root: tree_root, engine: Engine::new(config) }
    }

    fn run(&self, jobs: Vec<JobSpec>) -> RunRecord {
        let cancel = CancelToken::new().unwrap();
        self.engine.run(&RunRequest::new(jobs), &mut NoReporter, &cancel).unwrap()
    }

    fn run_dir(&self, run: &RunRecord) -> PathBuf {
        self.root.join(".jerichoci/runs").join(&run.run_id)
    }

    fn host_log(&self, run: &RunRecord, job: &str) -> String {
        fs::read_to_string(self.run_dir(run).join("jobs").join(job).join("host.log")).unwrap()
    }
}

fn git(dir: &Path, args: &[&str]) {
    let command = Command::new("git").args(args).cwd(dir).env(environment());
    let output = LocalHost::new().run(&command, &CancelToken::new().unwrap()).unwrap();
    assert!(output.exit.success(), "{output:?}");
}

fn sh(id: &str, script: &str) -> JobSpec {
    JobSpec::host_process(id, GuestCommand::Argv { argv: vec!["sh".into(), "-c".into(), script.into()] })
}

fn needs(mut job: JobSpec, needs: &[&str]) -> JobSpec {
    job.needs = needs.iter().map(ToString::to_string).collect();
    job
}

#[test]
fn a_job_sees_the_snapshot_and_a_clean_log_is_its_output_byte_for_byte() {
    let tree = Tree::new();
    let run = tree.run(vec![sh("show", "cat a.txt; printf 'no newline'")]);
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    assert_eq!(tree.host_log(&run, "show"), "one\nno newline");
    assert_eq!(run.jobs[0].exit_code, Some(0));
    assert_eq!(run.snapshot_hash.as_ref().map(String::len), Some(64));
}

#[test]
fn what_one_job_writes_the_next_does_not_see() {
    let tree = Tree::new();
    let write = sh("write", "echo x > new; echo changed > a.txt; echo out > $ARTIFACTS/f");
    let look = needs(sh("look", "ls; cat a.txt"), &["write"]);
    let run = tree.run(vec![write.clone(), look]);
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    assert_eq!(tree.host_log(&run, "look"), "a.txt\none\n");
    assert_eq!(fs::read_to_string(tree.root.join("a.txt")).unwrap(), "one\n");
    let again = tree.run(vec![sh("write", "ls; cat a.txt")]);
    assert_eq!(tree.host_log(&again, "write"), "a.txt\none\n");
}

#[test]
fn a_rerun_sees_the_recorded_bytes_and_definitions() {
    let tree = Tree::new();
    let first = tree.run(vec![sh("show", "cat a.txt")]);
    fs::write(tree.root.join("a.txt"), "two\n").unwrap();
    let second = tree.run(vec![sh("show", "echo new definition; cat a.txt")]);
    assert_eq!(tree.host_log(&second, "show"), "new definition\ntwo\n");
    let cancel = CancelToken::new().unwrap();
    let again = tree.engine.rerun(&first.run_id.parse().unwrap(), &mut NoReporter, &cancel).unwrap();
    assert_eq!(tree.host_log(&again, "show"), "one\n");
    assert_eq!(again.rerun_of.as_deref(), Some(first.run_id.as_str()));
    assert_eq!(again.snapshot_hash, first.snapshot_hash);
    // What a snapshot is now is not changed by what it was.
    let third = tree.run(vec![sh("show", "cat a.txt")]);
    assert_eq!(tree.host_log(&third, "show"), "two\n");
}

#[test]
fn events_are_stored_before_they_are_told_and_numbered_without_gaps() {
    let tree = Tree::new();
    let mut told: Vec<JournalEntry> = Vec::new();
    let mut stored_first = true;
    let runs = tree.root.join(".jerichoci/runs");
    let mut reporter = |entry: &JournalEntry| {
        let run = fs::read_dir(&runs)?.next().expect("a run directory")?.path();
        let journal = fs::read_to_string(run.join("events.jsonl"))?;
        stored_first &= journal.contains(&format!("\"seq\":{},", entry.seq));
        if let RunLifecycleEvent::RunFinished { run: told } = &entry.event {
            let record: RunRecord = serde_json::from_slice(&fs::read(run.join("run.json"))?)?;
            stored_first &= record == **told;
        }
        told.push(entry.clone());
        Ok(())
    };
    let request = RunRequest::new(vec![sh("a", "true"), sh("b", "exit 3")]).target("check", None);
    let run = tree.engine.run(&request, &mut reporter, &CancelToken::new().unwrap()).unwrap();
    assert_eq!(run.verdict, Verdict::Failed(FailureKind::TestFailure));
    assert!(stored_first);
    assert!(told.iter().map(|entry| entry.seq).eq(1..=told.len() as u64));
    assert!(matches!(told[0].event, RunLifecycleEvent::RunStarted { .. }));
    assert!(matches!(told[told.len() - 1].event, RunLifecycleEvent::RunFinished { .. }));
}
