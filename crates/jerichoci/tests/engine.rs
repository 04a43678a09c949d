//! The engine as another front end uses it: real repositories, real processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jericho_host::lock::FileLock;
use jericho_host::{
    CancelReason, CancelToken, Clock, Command, Entry, Environment, Finished, Host, HostError, Leaked,
    LocalHost, Output, OutputSink, Published, Supervision, SystemClock, SystemIds,
};
use jerichoci::model::demands::{SecretDelivery, SecretSpec};
use jerichoci::model::event::{JournalEntry, RunLifecycleEvent};
use jerichoci::model::job::{GuestCommand, JobRuntimeConfig, JobSpec, TartRuntimeConfig};
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::model::record::RunRecord;
use jerichoci::{
    CancelAnswer, Engine, EngineConfig, EngineError, GcPolicy, NoReporter, ReapOptions, RerunRequest,
    RunRequest,
};

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
fn a_job_that_runs_as_root_cannot_change_the_store_by_accident() {
    if !jericho_testkit::need::needs_root("a_job_that_runs_as_root_cannot_change_the_store_by_accident") {
        return;
    }
    let tree = Tree::new();
    let roots = tree.root.join(".jerichoci");
    let attempt =
        |dir: &str| format!("touch '{}' 2>/dev/null && exit 9; ", roots.join(dir).join("x").display());
    let script = ["store", "snapshots", "cache/trees"].map(attempt).concat() + "true";
    let run = tree.run(vec![sh("attempt", &script)]);
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
}

#[test]
fn a_job_cannot_read_the_callers_environment_from_the_init_above_it() {
    if !jericho_testkit::need::needs_root("a_job_cannot_read_the_callers_environment_from_the_init_above_it")
    {
        return;
    }
    let tree = Tree::new();
    let run = tree
        .run(vec![sh("look", "tr '\\0' '\\n' < /proc/1/environ | grep -c =; tr -d '\\0' < /proc/1/comm")]);
    assert_eq!(tree.host_log(&run, "look"), "0\njericho-init\n");
}

/// What a repository could ship below the name of the state root.
fn shipped_state_root(tree: &Tree, link: &str) -> PathBuf {
    let victim = tree.root.with_file_name("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("precious"), "mine").unwrap();
    let place = tree.root.join(".jerichoci").join(link);
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&victim, place).unwrap();
    victim
}

#[test]
fn a_state_root_with_links_that_came_with_the_tree_is_refused_by_all_that_write() {
    for link in [
        "runs",
        "active",
        "shells",
        "store",
        "store/segments",
        "store/pins",
        "snapshots",
        "cache",
        "cache/stat",
    ] {
        let tree = Tree::new();
        let victim = shipped_state_root(&tree, link);
        fs::create_dir_all(tree.root.join(".jerichoci/runs")).unwrap();
        let request = RunRequest::new(vec![sh("a", "true")]);
        let refused = tree.engine.run(&request, &mut NoReporter, &CancelToken::new().unwrap());
        assert!(matches!(refused, Err(EngineError::Corrupt { .. })), "{link}: {refused:?}");
        let collected = tree.engine.gc(&GcPolicy { keep_runs: 0, ..GcPolicy::default() });
        assert!(matches!(collected, Err(EngineError::Corrupt { .. })), "{link}: {collected:?}");
        let names: Vec<_> = fs::read_dir(&victim).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["precious"], "{link}");
    }
}

#[test]
fn nothing_is_written_or_removed_through_caches_that_came_with_the_tree() {
    for link in
        ["cache/trees/0/tree", "cache/host-local/adhoc/a/copy.0/tree", "cache/host-local/adhoc/a/copy.0"]
    {
        let tree = Tree::new();
        let victim = shipped_state_root(&tree, link);
        let run = tree.run(vec![sh("a", "cat a.txt")]);
        assert_eq!(tree.host_log(&run, "a"), "one\n", "{link}");
        let names: Vec<_> = fs::read_dir(&victim).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["precious"], "{link}");
    }
}

#[test]
fn what_killed_shells_have_left_goes_also_where_its_removal_was_cut_short() {
    let tree = Tree::new();
    tree.run(vec![sh("a", "true")]);
    let shells = tree.root.join(".jerichoci/shells");
    let make = |name: &str, file: &str| {
        fs::create_dir_all(shells.join(name).join("cargo-target")).unwrap();
        fs::write(shells.join(name).join(file), "").unwrap();
    };
    let (killed, open, fresh) =
        ("20260401T120000Z-0a1b2c3d", "20260401T120000Z-0a1b2c3e", "20260401T120000Z-0a1b2c3f");
    make(killed, "lock");
    make("20260401T120000Z-0a1b2c40.gone", "left");
    make(open, "lock");
    make(fresh, "nothing-yet");
    let held = FileLock::try_exclusive(&shells.join(open).join("lock")).unwrap().unwrap();
    let names = || {
        let entries = fs::read_dir(&shells).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    };
    let cancelled = CancelToken::new().unwrap();
    cancelled.cancel(CancelReason::Requested);
    tree.engine.reap_all(&ReapOptions::default(), &cancelled).unwrap();
    assert_eq!(names().len(), 4, "who is cancelled removes nothing more: {:?}", names());
    tree.engine.reap_all(&ReapOptions::default(), &CancelToken::new().unwrap()).unwrap();
    assert_eq!(names(), [open, fresh]);
    drop(held);
    tree.engine.reap_all(&ReapOptions::default(), &CancelToken::new().unwrap()).unwrap();
    assert_eq!(names(), [fresh]);
}

#[test]
fn reaping_writes_through_no_link_of_a_run_that_came_with_the_tree() {
    let tree = Tree::new();
    let id = "20260401T120000Z-0a1b2c3d";
    let root = tree.root.join(".jerichoci");
    let run = tree.run(vec![sh("j", "true")]);
    let shipped = root.join("runs").join(id);
    fs::create_dir_all(shipped.join("jobs/j")).unwrap();
    let record = fs::read_to_string(tree.run_dir(&run).join("run.json")).unwrap();
    let record = record.replace(&run.run_id, id).replace("\"passed\"", "\"running\"");
    fs::write(shipped.join("run.json"), record).unwrap();
    fs::write(shipped.join("owner.json"), "{}").unwrap();
    let victim = tree.root.with_file_name("profile");
    fs::write(&victim, "mine").unwrap();
    std::os::unix::fs::symlink(&victim, shipped.join("jobs/j/host.log")).unwrap();
    fs::write(shipped.join("jobs/j/host.log.tail-0-0"), "theirs").unwrap();
    fs::write(root.join("active").join(id), "").unwrap();
    let reaped = tree.engine.reap().unwrap();
    assert_eq!(reaped.runs, [id], "{reaped:?}");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
}

#[test]
fn a_rerun_sees_the_recorded_bytes_and_definitions() {
    let tree = Tree::new();
    let first = tree.run(vec![sh("show", "cat a.txt")]);
    fs::write(tree.root.join("a.txt"), "two\n").unwrap();
    let second = tree.run(vec![sh("show", "echo new definition; cat a.txt")]);
    assert_eq!(tree.host_log(&second, "show"), "new definition\ntwo\n");
    let cancel = CancelToken::new().unwrap();
    let again = tree
        .engine
        .rerun(&RerunRequest::new(first.run_id.parse().unwrap()), &mut NoReporter, &cancel)
        .unwrap();
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

/// Each time that it is asked it is an hour earlier.
#[derive(Debug, Default)]
struct Backwards(std::sync::atomic::AtomicI64);

impl Clock for Backwards {
    fn now(&self) -> chrono::DateTime<chrono::Utc> {
        let hours = self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        SystemClock.now() - chrono::Duration::hours(hours)
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }
}

#[test]
fn events_are_in_the_order_of_their_numbers_whatever_the_clock_says() {
    let tree = Tree::new();
    let config = EngineConfig::clone(tree.engine.config());
    let clock = Arc::new(Backwards::default());
    let engine = Engine::with_parts(config, Arc::new(LocalHost::new()), clock, Arc::new(SystemIds));
    let request = RunRequest::new(vec![sh("a", "sleep 0.1"), needs(sh("b", "sleep 0.1"), &["a"])]);
    let run = engine.run(&request, &mut NoReporter, &CancelToken::new().unwrap()).unwrap();
    assert_eq!(run.verdict, Verdict::Passed);
    let text = fs::read_to_string(tree.run_dir(&run).join("events.jsonl")).unwrap();
    let journal: Vec<JournalEntry> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(journal.iter().map(|entry| entry.seq).eq(1..=journal.len() as u64));
    assert!(journal.windows(2).all(|two| two[0].time > two[1].time), "the clock must have gone back");
    let of_jobs = journal.iter().filter_map(|entry| match &entry.event {
        RunLifecycleEvent::JobStarted { job, .. } => Some(format!("{} starts", job.id)),
        RunLifecycleEvent::JobFinished { job, .. } => Some(format!("{} ends", job.id)),
        _ => None,
    });
    assert_eq!(of_jobs.collect::<Vec<_>>(), ["a starts", "a ends", "b starts", "b ends"]);
    // Durations are those of the other clock.
    for job in &run.jobs {
        assert!(job.phases.iter().all(|phase| phase.duration_ms < 60_000), "{job:#?}");
        assert!(job.phases.iter().map(|phase| phase.duration_ms).sum::<u64>() >= 100, "{job:#?}");
    }
}

#[test]
fn a_time_out_ends_the_job_with_its_own_kind_and_without_an_exit_code() {
    let tree = Tree::new();
    let mut slow = sh("slow", "echo begun; sleep 1000 & sleep 1000");
    slow.timeout_secs = 1;
    let run = tree.run(vec![slow]);
    assert_eq!(run.verdict, Verdict::Failed(FailureKind::Timeout));
    assert_eq!(run.jobs[0].exit_code, None);
    assert_eq!(run.jobs[0].message.as_deref(), Some("timed out after 1s"));
    assert_eq!(tree.host_log(&run, "slow"), "begun\n[jerichoci] timed out after 1s\n");
}

#[test]
fn under_fail_fast_nothing_new_starts_after_a_failure() {
    let tree = Tree::with(|config| config.max_concurrent_executes = std::num::NonZero::new(1));
    let jobs = vec![sh("bad", "exit 7"), sh("other", "true"), needs(sh("after", "true"), &["bad"])];
    let run = tree.run(jobs.clone());
    assert_eq!(verdicts(&run), [("bad", "failed"), ("other", "skipped"), ("after", "skipped")]);
    assert_eq!(run.jobs[0].exit_code, Some(7));
    assert_eq!(run.verdict, Verdict::Failed(FailureKind::TestFailure));
    assert!(run.jobs[1].message.as_ref().unwrap().contains("bad"), "{:?}", run.jobs[1].message);

    let cancel = CancelToken::new().unwrap();
    let request = RunRequest::new(jobs).keep_going(true);
    let run = tree.engine.run(&request, &mut NoReporter, &cancel).unwrap();
    assert_eq!(verdicts(&run), [("bad", "failed"), ("other", "passed"), ("after", "skipped")]);
}

fn verdicts(run: &RunRecord) -> Vec<(&str, &str)> {
    run.jobs.iter().map(|job| (job.id.as_str(), job.verdict.status().as_str())).collect()
}

#[test]
fn a_failing_reporter_cancels_in_good_order_and_loses_no_records() {
    let tree = Tree::new();
    let mut reporter = |entry: &JournalEntry| match &entry.event {
        RunLifecycleEvent::JobStarted { .. } => Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe)),
        _ => Ok(()),
    };
    let request = RunRequest::new(vec![sh("long", "sleep 1000"), needs(sh("after", "true"), &["long"])]);
    let run = tree.engine.run(&request, &mut reporter, &CancelToken::new().unwrap()).unwrap();
    assert_eq!(run.verdict, Verdict::Failed(FailureKind::Cancelled));
    assert_eq!(verdicts(&run), [("long", "failed"), ("after", "skipped")]);
    assert_eq!(stored(&tree, &run), run);
}

fn stored(tree: &Tree, run: &RunRecord) -> RunRecord {
    serde_json::from_slice(&fs::read(tree.run_dir(run).join("run.json")).unwrap()).unwrap()
}

#[test]
fn a_run_is_cancelled_by_its_id_from_outside() {
    let tree = Tree::new();
    let (started, wait) = std::sync::mpsc::channel();
    let mut reporter = move |entry: &JournalEntry| {
        if let RunLifecycleEvent::JobStarted { run_id, .. } = &entry.event {
            started.send(run_id.clone()).map_err(std::io::Error::other)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let request = RunRequest::new(vec![sh("long", "sleep 1000")]);
        let cancel = CancelToken::new().unwrap();
        let engine = &tree.engine;
        let running = scope.spawn(move || engine.run(&request, &mut reporter, &cancel).unwrap());
        let id = wait.recv().unwrap().parse().unwrap();
        let answer = tree.engine.cancel_run(&id, std::time::Duration::from_secs(30)).unwrap();
        assert_eq!(answer, CancelAnswer::Ended);
        let run = running.join().unwrap();
        assert_eq!(run.verdict, Verdict::Failed(FailureKind::Cancelled));
        assert_eq!(stored(&tree, &run), run);
        let late = tree.engine.cancel_run(&id, std::time::Duration::ZERO).unwrap();
        assert_eq!(late, CancelAnswer::NotRunning);
    });
}

/// A host whose jobs panic.
#[derive(Debug, Default)]
struct Panicking(LocalHost);

impl Host for Panicking {
    fn label(&self) -> &str {
        "panicking"
    }
    fn run(&self, command: &Command, cancel: &CancelToken) -> Result<Output, HostError> {
        self.0.run(command, cancel)
    }
    fn stream(
        &self,
        command: &Command,
        cancel: &CancelToken,
        stdout: &mut dyn FnMut(&[u8]),
    ) -> Result<Output, HostError> {
        self.0.stream(command, cancel, stdout)
    }
    fn supervise(
        &self,
        _: &Command,
        _: &Supervision,
        _: &mut dyn OutputSink,
        _: &CancelToken,
    ) -> Result<Finished, HostError> {
        panic!("wires crossed")
    }
    fn end_tagged(&self, name: &str, prefix: &str, grace: Duration) -> Result<Vec<Leaked>, HostError> {
        self.0.end_tagged(name, prefix, grace)
    }
    fn supports_namespaces(&self) -> bool {
        false
    }
    fn supports_overlay(&self, _: &Path) -> bool {
        false
    }
    fn read(&self, path: &Path) -> Result<Vec<u8>, HostError> {
        self.0.read(path)
    }
    fn read_range(&self, path: &Path, offset: u64, limit: u64) -> Result<Vec<u8>, HostError> {
        self.0.read_range(path, offset, limit)
    }
    fn list(&self, dir: &Path) -> Result<Vec<Entry>, HostError> {
        self.0.list(dir)
    }
    fn make_dirs(&self, dir: &Path) -> Result<(), HostError> {
        self.0.make_dirs(dir)
    }
    fn write_atomic(&self, path: &Path, content: &[u8], durable: bool) -> Result<(), HostError> {
        self.0.write_atomic(path, content, durable)
    }
    fn publish_dir(&self, staged: &Path, target: &Path) -> Result<Published, HostError> {
        self.0.publish_dir(staged, target)
    }
    fn remove(&self, path: &Path) -> Result<(), HostError> {
        self.0.remove(path)
    }
}

#[test]
fn a_panic_in_a_worker_is_an_errored_job_never_a_hang() {
    let tree = Tree::new();
    let mut config = EngineConfig::clone(tree.engine.config());
    config.secrets.insert("TOKEN", "a value");
    let engine = Engine::with_parts(
        config,
        Arc::new(Panicking::default()),
        Arc::new(SystemClock),
        Arc::new(SystemIds),
    );
    let mut b = sh("b", "true");
    b.secrets.push(SecretSpec { name: "TOKEN".into(), delivery: SecretDelivery::File });
    let request = RunRequest::new(vec![sh("a", "true"), b]).keep_going(true);
    let run = engine.run(&request, &mut NoReporter, &CancelToken::new().unwrap()).unwrap();
    assert_eq!(run.verdict, Verdict::Failed(FailureKind::Infrastructure));
    assert_eq!(verdicts(&run), [("a", "failed"), ("b", "failed")]);
    assert!(!tree.run_dir(&run).join("jobs/b/scratch").exists(), "a secret lies there");
    let message = run.jobs[0].message.as_deref().unwrap();
    assert_eq!(message, "the engine panicked in this job: wires crossed");
}

#[test]
fn a_job_whose_runtime_is_not_built_ends_errored_and_says_so() {
    let tree = Tree::new();
    let mut job = sh("vm", "true");
    job.runtime = JobRuntimeConfig::Tart(TartRuntimeConfig::default());
    let run = tree.run(vec![job]);
    assert_eq!(run.verdict, Verdict::Failed(FailureKind::Infrastructure));
    assert_eq!(run.jobs[0].message.as_deref(), Some("the runtime tart is not built into this version"));
    assert_eq!(run.jobs[0].verdict.word(), "errored");
}

#[test]
fn jobs_get_a_cleared_environment_and_what_the_engine_promises() {
    let tree = Tree::with(|config| {
        config.caller_environment.set("SSH_AUTH_SOCK", "/s").set("TOKEN", "t");
    });
    let mut job = sh(
        "env",
        "env | cut -d= -f1 | sort | grep -v '^_$' | tr '\\n' ' '; git rev-parse 2>/dev/null && exit 9; true",
    );
    job.env.insert("MINE".into(), "1".into());
    let run = tree.run(vec![job]);
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    assert_eq!(
        tree.host_log(&run, "env"),
        "ARTIFACTS CARGO_HOME CARGO_TARGET_DIR GIT_CEILING_DIRECTORIES HOME JERICHOCI_JOB MINE PATH PWD "
    );
    assert!(!run.jobs[0].environment.contains(&"TOKEN".to_owned()));
    assert!(run.jobs[0].environment.contains(&"MINE".to_owned()));
}

#[test]
fn workspace_and_cargo_target_dir_have_the_same_path_in_every_run() {
    let tree = Tree::new();
    let show = || {
        vec![sh("where", "pwd; echo $CARGO_TARGET_DIR; ls $CARGO_TARGET_DIR; touch $CARGO_TARGET_DIR/kept")]
    };
    let (first, second) = (tree.run(show()), tree.run(show()));
    let lines = |run: &RunRecord| tree.host_log(run, "where").lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&first)[..2], lines(&second)[..2]);
    assert_eq!(lines(&second)[2..], ["kept"]);
}

#[test]
fn gc_keeps_the_newest_runs_and_never_touches_a_live_one() {
    let tree = Tree::new();
    let runs: Vec<RunRecord> = (0..3).map(|_| tree.run(vec![sh("a", "true")])).collect();
    let newest = runs.iter().map(|run| run.run_id.clone()).max().unwrap();
    let policy = GcPolicy { keep_runs: 1, dry_run: true, ..GcPolicy::default() };
    let would = tree.engine.gc(&policy).unwrap();
    assert_eq!(would.removed_runs.len(), 2, "{would:?}");
    assert!(runs.iter().all(|run| tree.run_dir(run).is_dir()));
    let collected = tree.root.with_file_name("collected");
    let mut during = None;
    let mut reporter = |entry: &JournalEntry| {
        if let RunLifecycleEvent::JobStarted { job, .. } = &entry.event
            && job.id == "a"
        {
            let all = GcPolicy { keep_runs: 0, ..GcPolicy::default() };
            during = Some(tree.engine.gc(&all).map_err(std::io::Error::other)?);
            fs::write(&collected, "")?;
        }
        Ok(())
    };
    let wait = format!("until [ -e '{}' ]; do sleep 0.01; done; cat a.txt", collected.display());
    let request = RunRequest::new(vec![sh("a", &wait), needs(sh("b", "cat a.txt"), &["a"])]);
    let live = tree.engine.run(&request, &mut reporter, &CancelToken::new().unwrap()).unwrap();
    assert_eq!(live.verdict, Verdict::Passed, "{live:#?}");
    let during = during.unwrap();
    assert_eq!(during.kept_live, std::slice::from_ref(&live.run_id));
    assert_eq!(during.removed_runs.len(), 3, "{during:?}");
    assert!(during.removed_runs.contains(&newest));
    assert_eq!(during.problems, Vec::<String>::new());
}
