//! Reading a state root: moved, killed, corrupt, hostile, or all of it at once.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use jericho_host::fs::write_atomic;
use jericho_host::lock::FileLock;
use jerichoci::EngineError;
use jerichoci::model::event::{JournalEntry, RunLifecycleEvent};
use jerichoci::model::id::RunId;
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::model::record::RunRecord;
use jerichoci::run::layout::{Layout, RunLayout};
use jerichoci::run::list::list_runs;
use jerichoci::run::logs::{LogFile, LogKind, load_logs, load_logs_metadata, open_log, persist_job_logs};
use jerichoci::run::owner::is_alive;
use jerichoci::run::read::{load_plan, load_prepared_outputs_record, load_run_bundle, load_run_record};
use tempfile::TempDir;

struct Root(TempDir);

impl Root {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, id: &RunId) -> RunLayout {
        Layout::new(self.path()).run(id)
    }

    /// A run made from a fixture, with this id and target.
    fn add(&self, id: &str, fixture: &str, change: impl FnOnce(&mut RunRecord)) -> RunId {
        let id: RunId = id.parse().unwrap();
        let mut run = fixture_record(fixture);
        run.run_id = id.to_string();
        change(&mut run);
        fs::create_dir_all(self.run(&id).jobs()).unwrap();
        fs::write(self.run(&id).record(), serde_json::to_vec_pretty(&run).unwrap()).unwrap();
        id
    }
}

fn fixture(name: &str) -> PathBuf {
    jericho_testkit::crate_dir!().join("tests/fixtures/v0").join(name)
}

fn fixture_record(name: &str) -> RunRecord {
    serde_json::from_slice(&fs::read(fixture(name)).unwrap()).unwrap()
}

const ID: &str = "20260401T120000Z-0a1b2c3d";
const OTHER: &str = "20260401T120001Z-00000001";
const THIRD: &str = "20260401T120002Z-00000002";

#[test]
fn a_state_root_that_was_moved_reads_as_if_it_had_always_been_there() {
    let root = Root::new();
    let id = root.add(ID, "run-failed.json", |run| {
        run.snapshot_dir = format!("/home/dev/pika/.jerichoci/runs/{ID}/snapshot");
    });
    let mut outputs: serde_json::Value =
        serde_json::from_slice(&fs::read(fixture("prepared-outputs.json")).unwrap()).unwrap();
    let old = format!("/home/dev/pika/.jerichoci/runs/{ID}/jobs/unit/m");
    outputs["outputs"][0]["exposures"][0]["path"] = old.into();
    fs::write(root.run(&id).prepared_outputs(), outputs.to_string()).unwrap();

    let run = load_run_record(root.path(), &id).unwrap();
    let here = root.run(&id);
    assert_eq!(Path::new(&run.snapshot_dir), here.snapshot());
    assert_eq!(Path::new(run.plan_path.as_ref().unwrap()), here.plan());
    assert_eq!(Path::new(&run.jobs[0].host_log_path), here.job("unit").host_log());
    assert_eq!(Path::new(&run.jobs[0].guest_log_path), here.job("unit").guest_log());
    assert_eq!(run.source_root, "/home/dev/pika", "the source tree has not moved");
    let outputs = load_prepared_outputs_record(root.path(), &id).unwrap();
    assert_eq!(Path::new(&outputs.outputs[0].exposures[0].path), here.job("unit").dir().join("m"));
}

#[test]
fn a_neighbour_of_a_moved_state_root_stays_where_it_is() {
    let root = Root::new();
    let neighbour = "/home/dev/pika/.jerichoci2/snapshot";
    let id = root.add(ID, "run-passed.json", |run| run.snapshot_dir = neighbour.into());
    let run = load_run_record(root.path(), &id).unwrap();
    assert_eq!(Path::new(run.plan_path.as_ref().unwrap()), root.run(&id).plan());
    assert_eq!(run.snapshot_dir, neighbour);
}

#[test]
fn a_record_in_its_own_place_is_not_touched() {
    let root = Root::new();
    let place = root.path().to_str().unwrap().to_owned();
    let id = root.add(ID, "run-passed.json", |run| {
        run.plan_path = Some(format!("{place}/runs/{ID}/plan.json"));
        run.snapshot_dir = format!("{place}2/elsewhere");
    });
    let on_disk: RunRecord = serde_json::from_slice(&fs::read(root.run(&id).record()).unwrap()).unwrap();
    assert_eq!(load_run_record(root.path(), &id).unwrap(), on_disk);
}

#[test]
fn a_running_record_whose_owner_is_gone_reads_as_interrupted_and_stays_as_it_is() {
    let root = Root::new();
    let id = root.add(ID, "run-running.json", |_| ());
    let run = root.run(&id);
    let mut done = fixture_record("run-passed.json").jobs.remove(0);
    let mut lost = done.clone();
    done.id = "done".into();
    lost.id = "lost".into();
    lost.verdict = Verdict::Running;
    lost.message = None;
    let mut journal = Vec::new();
    for (seq, event) in [
        RunLifecycleEvent::JobStarted { run_id: ID.into(), job: Box::new(lost) },
        RunLifecycleEvent::JobFinished { run_id: ID.into(), job: Box::new(done) },
    ]
    .into_iter()
    .enumerate()
    {
        let entry =
            JournalEntry { seq: seq as u64 + 1, time: "2026-04-01T12:00:00Z".parse().unwrap(), event };
        serde_json::to_writer(&mut journal, &entry).unwrap();
        journal.push(b'\n');
    }
    journal.extend(br#"{"seq":3,"time":"2026-"#);
    fs::write(run.events(), journal).unwrap();
    let before = fs::read(run.record()).unwrap();

    let lock = FileLock::try_exclusive(&run.owner()).unwrap().unwrap();
    assert!(is_alive(&run));
    assert_eq!(load_run_record(root.path(), &id).unwrap().verdict, Verdict::Running);
    assert_eq!(list_runs(root.path()).unwrap().runs[0].verdict, Verdict::Running);
    drop(lock);

    assert!(!is_alive(&run));
    let interrupted = Verdict::Failed(FailureKind::Interrupted);
    let record = load_run_record(root.path(), &id).unwrap();
    assert_eq!(record.verdict, interrupted);
    assert!(record.message.is_some());
    let jobs: Vec<_> = record.jobs.iter().map(|job| (job.id.as_str(), job.verdict)).collect();
    assert_eq!(jobs, [("lost", interrupted), ("done", Verdict::Passed)]);
    assert_eq!(list_runs(root.path()).unwrap().runs[0].verdict, interrupted);
    assert_eq!(fs::read(run.record()).unwrap(), before, "reading does not write");
    fs::remove_file(run.owner()).unwrap();
    assert_eq!(load_run_record(root.path(), &id).unwrap().verdict, interrupted);
    assert!(!run.owner().exists(), "looking for an owner makes none");
}

#[test]
fn a_corrupt_record_is_a_problem_in_the_list_and_of_no_other_run() {
    let root = Root::new();
    root.add(OTHER, "run-passed.json", |run| run.target_id = Some("good".into()));
    let broken = root.add(ID, "run-passed.json", |_| ());
    let path = root.run(&broken).record();
    for name in ["run-passed.json", "run-failed.json"] {
        let whole = serde_json::to_string_pretty(&fixture_record(name)).unwrap();
        for cut in (0..whole.len()).step_by(7).chain([whole.len() - 1, whole.len() - 2]) {
            fs::write(&path, &whole[..cut]).unwrap();
            let list = list_runs(root.path()).unwrap();
            assert_eq!(list.runs.len(), 1, "cut at {cut}: {:?}", &whole[..cut]);
            assert_eq!(list.problems.len(), 1);
            assert_eq!(list.problems[0].0, ID);
        }
    }
    for bad in ["not json", "{\n}", "[\n]", "{\n  \"status\": 7\n}", "{\n\"status\":\"passed\"\n}"] {
        fs::write(&path, bad).unwrap();
        assert_eq!(list_runs(root.path()).unwrap().problems.len(), 1, "{bad}");
        let error = load_run_record(root.path(), &broken).unwrap_err();
        assert!(matches!(&error, EngineError::Corrupt { path: named, .. } if *named == path), "{error}");
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(list_runs(root.path()).unwrap().problems, [(ID.into(), "the run has no record".into())]);
    assert!(matches!(load_run_record(root.path(), &broken), Err(EngineError::Corrupt { .. })));
}

#[test]
fn a_list_is_newest_first_and_knows_every_kind_of_record() {
    let root = Root::new();
    assert_eq!(list_runs(root.path()).unwrap(), Default::default());
    // The order is by the recorded start, not by name.
    root.add(THIRD, "run-failed.json", |run| run.created_at = "2026-03-01T00:00:00Z".parse().unwrap());
    root.add(OTHER, "run-passed.json", |run| {
        run.target_id = None;
        run.verdict = Verdict::Failed(FailureKind::Timeout);
    });
    let oldest: RunId = ID.parse().unwrap();
    fs::create_dir_all(root.run(&oldest).dir()).unwrap();
    // Compact, other order, escapes, kind at the end: not what we write, and read all the same.
    fs::write(
        root.run(&oldest).record(),
        r#"{"jobs":[{"id":"\u0061b","x":1},{"id":"c"}],"created_at":"2027-01-01T01:00:00+01:00","target_id":null,"status":"failed","failure_kind":"cancelled"}"#,
    )
    .unwrap();
    // Looks like ours, but the kind comes last.
    let late: RunId = "20260101T000000Z-00000003".parse().unwrap();
    fs::create_dir_all(root.run(&late).dir()).unwrap();
    fs::write(
        root.run(&late).record(),
        "{\n\"status\": \"failed\", \"target_id\": \"t\", \"created_at\": \"2026-01-01T00:00:00Z\", \"jobs\": [],\n\"failure_kind\": \"timeout\"\n}\n",
    )
    .unwrap();
    fs::create_dir(root.path().join("runs/.tmp")).unwrap();
    fs::write(root.path().join("runs/README"), "").unwrap();
    fs::create_dir(root.path().join("runs/stray")).unwrap();
    let list = list_runs(root.path()).unwrap();
    let seen: Vec<_> = list
        .runs
        .iter()
        .map(|run| (run.run_id.as_str(), run.verdict, run.target_id.as_deref(), run.first_job_id.as_deref()))
        .collect();
    assert_eq!(
        seen,
        [
            (ID, Verdict::Failed(FailureKind::Cancelled), None, Some("ab")),
            (OTHER, Verdict::Failed(FailureKind::Timeout), None, Some("pika-actionlint")),
            (THIRD, Verdict::Failed(FailureKind::Unrecorded), Some("pika-actionlint"), None),
            (late.as_str(), Verdict::Failed(FailureKind::Timeout), Some("t"), None),
        ]
    );
    assert_eq!(list.problems.len(), 1);
    assert_eq!(list.problems[0].0, "stray");
}

#[test]
fn a_reader_in_a_loop_never_sees_half_a_document() {
    let root = Root::new();
    let id = root.add(ID, "run-passed.json", |_| ());
    let short = serde_json::to_vec_pretty(&fixture_record("run-passed.json")).unwrap();
    let mut long = fixture_record("run-failed.json");
    long.changed_files = (0..2000).map(|n| format!("file-{n}")).collect();
    let long = serde_json::to_vec_pretty(&long).unwrap();
    let path = root.run(&id).record();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0..300 {
                write_atomic(&path, if turn % 2 == 0 { &long } else { &short }, false).unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        while !done.load(std::sync::atomic::Ordering::Acquire) {
            load_run_record(root.path(), &id).unwrap();
            let list = list_runs(root.path()).unwrap();
            assert_eq!((list.runs.len(), list.problems.len()), (1, 0));
        }
    });
}

#[test]
fn a_run_that_is_not_there_is_its_own_error() {
    let root = Root::new();
    let id: RunId = ID.parse().unwrap();
    let gone =
        |result: Result<(), EngineError>| assert!(matches!(result, Err(EngineError::RunNotFound { .. })));
    gone(load_run_record(root.path(), &id).map(drop));
    gone(load_run_bundle(root.path(), &id).map(drop));
    gone(load_prepared_outputs_record(root.path(), &id).map(drop));
    gone(load_logs(root.path(), &id, None, LogKind::Both).map(drop));
}

#[test]
fn a_document_of_a_newer_version_says_so() {
    let root = Root::new();
    let id = root.add(ID, "run-passed.json", |_| ());
    fs::write(root.run(&id).plan(), r#"{"schema_version":2,"other":"shape"}"#).unwrap();
    fs::write(root.run(&id).prepared_outputs(), r#"{"schema_version":9}"#).unwrap();
    let error = load_plan(root.path(), &id).unwrap_err().to_string();
    assert!(error.contains("version 2") && error.contains("newer"), "{error}");
    load_prepared_outputs_record(root.path(), &id).unwrap_err();
    let bundle = load_run_bundle(root.path(), &id).unwrap();
    assert_eq!(bundle.prepared_outputs, None);
    assert!(bundle.warnings[0].contains("prepared-outputs.json"), "{:?}", bundle.warnings);
    fs::copy(fixture("plan.json"), root.run(&id).plan()).unwrap();
    fs::copy(fixture("prepared-outputs.json"), root.run(&id).prepared_outputs()).unwrap();
    assert_eq!(load_plan(root.path(), &id).unwrap().nodes.len(), 3);
    assert_eq!(load_run_bundle(root.path(), &id).unwrap().prepared_outputs.unwrap().outputs.len(), 1);
}

#[test]
fn logs_are_bytes_and_missing_ones_are_told_apart() {
    let root = Root::new();
    let id = root.add(ID, "run-failed.json", |_| ());
    let logs = |job, kind| load_logs(root.path(), &id, job, kind);
    assert!(matches!(logs(None, LogKind::Both), Err(EngineError::LogNotFound { .. })));
    persist_job_logs(root.path(), &id, "unit", Some(b"\xff no newline"), None).unwrap();
    let both = logs(None, LogKind::Both).unwrap();
    assert_eq!((both.host.as_deref(), both.guest), (Some(&b"\xff no newline"[..]), None));
    assert!(matches!(logs(None, LogKind::Guest), Err(EngineError::LogNotFound { kind: "guest", .. })));
    persist_job_logs(root.path(), &id, "slow", None, Some(b"")).unwrap();
    let slow = logs(Some("slow"), LogKind::Both).unwrap();
    assert_eq!((slow.host, slow.guest), (None, Some(Vec::new())));
    open_log(root.path(), &id, Some("slow"), LogFile::Guest).unwrap();
    let error = logs(Some("x"), LogKind::Both).unwrap_err();
    assert!(error.to_string().ends_with("it has: unit, slow, later"), "{error}");

    let metadata = load_logs_metadata(root.path(), &id, None).unwrap();
    let seen: Vec<_> =
        metadata.jobs.iter().map(|job| (job.id.as_str(), job.host_log_bytes, job.guest_log_bytes)).collect();
    assert_eq!(seen, [("unit", Some(12), None), ("slow", None, Some(0)), ("later", None, None)]);
    assert!(metadata.jobs[0].host_log_exists && !metadata.jobs[0].guest_log_exists);
    assert_eq!(load_logs_metadata(root.path(), &id, Some("slow")).unwrap().jobs.len(), 1);
    persist_job_logs(root.path(), &id, "../../x", Some(b""), None).unwrap_err();
}

#[test]
fn a_log_is_never_read_through_a_link_or_a_pipe_that_a_job_left() {
    let root = Root::new();
    let id = root.add(ID, "run-failed.json", |_| ());
    let secret = root.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let job = root.run(&id).job("unit");
    fs::create_dir_all(job.artifacts()).unwrap();
    symlink(&secret, job.guest_log()).unwrap();
    load_logs(root.path(), &id, None, LogKind::Guest).unwrap_err();
    fs::remove_file(job.guest_log()).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        job.guest_log(),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    load_logs(root.path(), &id, None, LogKind::Guest).unwrap_err();
    assert!(!load_logs_metadata(root.path(), &id, None).unwrap().jobs[0].guest_log_exists);
    fs::remove_dir_all(job.artifacts()).unwrap();
    fs::create_dir(root.path().join("dir")).unwrap();
    fs::write(root.path().join("dir/guest.log"), "secret").unwrap();
    symlink(root.path().join("dir"), job.artifacts()).unwrap();
    load_logs(root.path(), &id, None, LogKind::Guest).unwrap_err();
}

#[test]
fn paths_of_a_record_do_not_decide_which_log_is_read() {
    let root = Root::new();
    let secret = root.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let id = root.add(ID, "run-failed.json", |run| {
        run.jobs[0].host_log_path = secret.to_str().unwrap().into();
        run.jobs[1].id = "../../../secret".into();
    });
    assert!(matches!(load_logs(root.path(), &id, None, LogKind::Host), Err(EngineError::LogNotFound { .. })));
    load_logs(root.path(), &id, Some("../../../secret"), LogKind::Both).unwrap_err();
}
