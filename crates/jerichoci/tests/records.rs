//! Documents: those of the earlier system load for ever, and its readers load ours.

use std::fs;
use std::path::PathBuf;

use jerichoci::model::event::{JournalEntry, RunLifecycleEvent};
use jerichoci::model::job::{JobPlacementKind, JobRuntimeKind};
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::model::outputs::{
    FulfillmentStatus, PayloadManifestRecord, PreparedOutputLaunchRequestRecord, PreparedOutputRequestRecord,
    PreparedOutputResultRecord, PreparedOutputTransportRequestRecord, PreparedOutputsRecord, Residency,
    TransportPathContract,
};
use jerichoci::model::plan::{PlanNodeRecord, PrepareNode, RunPlanRecord};
use jerichoci::model::record::{
    JobRecord, PhaseRecord, RunBundle, RunLogsMetadata, RunRecord, SettingRecord,
};
use pika_incus_guest_role::IncusGuestRole;
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

fn path(name: &str) -> PathBuf {
    jericho_testkit::crate_dir!().join("tests/fixtures/v0").join(name)
}

fn load<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&fs::read(path(name)).unwrap()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The document loads, and is written as it was: same values, same keys, same order.
fn round_trip<T: DeserializeOwned + Serialize>(name: &str) -> T {
    let document: T = load(name);
    let before: Value = load(name);
    assert_eq!(
        serde_json::to_string_pretty(&document).unwrap(),
        serde_json::to_string_pretty(&before).unwrap(),
        "{name}"
    );
    document
}

#[test]
fn documents_of_the_earlier_system_load_and_are_written_as_they_were() {
    let passed: RunRecord = round_trip("run-passed.json");
    assert_eq!(passed.verdict, Verdict::Passed);
    let failed: RunRecord = round_trip("run-failed.json");
    assert_eq!(failed.verdict, Verdict::Failed(FailureKind::Unrecorded));
    assert_eq!(failed.jobs[0].verdict, Verdict::Failed(FailureKind::Unrecorded));
    assert_eq!(failed.jobs[2].verdict, Verdict::Skipped);
    assert_eq!(round_trip::<RunRecord>("run-skipped.json").verdict, Verdict::Skipped);
    assert_eq!(round_trip::<RunRecord>("run-running.json").verdict, Verdict::Running);
    round_trip::<RunRecord>("run-fulfilled-over-ssh.json");
    round_trip::<JobRecord>("job-passed.json");
    round_trip::<RunPlanRecord>("plan.json");
    round_trip::<PreparedOutputsRecord>("prepared-outputs.json");
    round_trip::<PreparedOutputsRecord>("prepared-outputs-with-payload.json");
    round_trip::<PreparedOutputRequestRecord>("output-request.json");
    round_trip::<PreparedOutputResultRecord>("output-result.json");
    round_trip::<PreparedOutputLaunchRequestRecord>("launch-request.json");
    round_trip::<PreparedOutputTransportRequestRecord>("transport-request.json");
    round_trip::<RunLogsMetadata>("logs-metadata.json");
    round_trip::<RunBundle>("run-bundle.json");
}

#[test]
fn the_oldest_records_load_without_placement_and_with_the_old_role() {
    let run: RunRecord = load("run-oldest.json");
    assert_eq!((run.target_id, run.finished_at, run.git_dirty), (None, None, None));
    let job = &run.jobs[0];
    assert_eq!((job.placement, job.runtime), (None, None));
    let image = job.remote_linux_vm_execution.as_ref().unwrap().incus_image.as_ref().unwrap();
    assert_eq!(image.guest_role, Some(IncusGuestRole::JerichoRunner));
    assert!(run.jobs[1].message.is_none());
}

#[test]
fn what_may_be_absent_has_its_documented_default() {
    let plan: RunPlanRecord = load("plan-minimal.json");
    assert_eq!(plan.created_at.to_rfc3339(), "2026-04-01T10:00:00+00:00");
    let PlanNodeRecord::Prepare { prepare, depends_on, placement: None, .. } = &plan.nodes[0] else {
        panic!()
    };
    assert!(depends_on.is_empty());
    let PrepareNode::NixBuild { residency, handoff: None, .. } = prepare else { panic!() };
    assert_eq!(*residency, Residency::LocalAuthoritative);
    let outputs: PreparedOutputsRecord = load("prepared-outputs-minimal.json");
    assert_eq!(outputs.outputs[0].payload, None);
    let request: PreparedOutputRequestRecord = load("output-request-minimal.json");
    assert_eq!((request.residency, request.requested_exposures.len()), (Residency::LocalAuthoritative, 0));
    let result: PreparedOutputResultRecord = load("output-result-failed-minimal.json");
    assert_eq!((result.status, result.fulfilled_exposures_count), (FulfillmentStatus::Failed, 0));
    let transport: PreparedOutputTransportRequestRecord = load("transport-request-minimal.json");
    assert_eq!(transport.path_contract, TransportPathContract::SameHostAbsolutePathsV1);
    let manifest: PayloadManifestRecord = load("payload-manifest.json");
    assert_eq!(serde_json::to_value(manifest).unwrap(), load::<Value>("payload-manifest.json"));
}

#[test]
fn events_of_the_earlier_system_are_written_as_they_were() {
    for line in fs::read_to_string(path("events.jsonl")).unwrap().lines() {
        let event: RunLifecycleEvent = serde_json::from_str(line).unwrap();
        assert!(event.is_classic());
        assert_eq!(serde_json::to_string(&event).unwrap(), line);
    }
}

/// What a reader of the earlier system knows: its fields, and those that must be there.
mod earlier {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub(super) enum Status {
        Running,
        Passed,
        Failed,
        Skipped,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "fields are there to be parsed")]
    pub(super) struct Run {
        pub(super) run_id: String,
        pub(super) status: Status,
        pub(super) rerun_of: Option<String>,
        pub(super) target_id: Option<String>,
        pub(super) target_description: Option<String>,
        pub(super) source_root: String,
        pub(super) snapshot_dir: String,
        pub(super) git_head: Option<String>,
        pub(super) git_dirty: Option<bool>,
        pub(super) created_at: String,
        pub(super) finished_at: Option<String>,
        pub(super) plan_path: Option<String>,
        pub(super) prepared_outputs_path: Option<String>,
        pub(super) prepared_output_consumer: Option<String>,
        pub(super) prepared_output_mode: Option<String>,
        #[serde(default)]
        pub(super) changed_files: Vec<String>,
        #[serde(default)]
        pub(super) filters: Vec<String>,
        pub(super) message: Option<String>,
        #[serde(default)]
        pub(super) prepare_timings: Vec<Value>,
        pub(super) jobs: Vec<Job>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "fields are there to be parsed")]
    pub(super) struct Job {
        pub(super) id: String,
        pub(super) description: String,
        pub(super) status: Status,
        pub(super) executor: String,
        pub(super) placement: Option<JobPlacementKind>,
        pub(super) runtime: Option<JobRuntimeKind>,
        pub(super) plan_node_id: Option<String>,
        pub(super) timeout_secs: u64,
        pub(super) host_log_path: String,
        pub(super) guest_log_path: String,
        pub(super) started_at: String,
        pub(super) finished_at: Option<String>,
        pub(super) exit_code: Option<i32>,
        pub(super) message: Option<String>,
        pub(super) pre_execution_prepare_duration_ms: Option<u64>,
        pub(super) remote_linux_vm_execution: Option<Value>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(tag = "event", rename_all = "snake_case")]
    #[expect(dead_code, reason = "fields are there to be parsed")]
    pub(super) enum Event {
        RunStarted { run_id: String, created_at: String, rerun_of: Option<String>, target_id: Option<String> },
        JobStarted { run_id: String, job: Box<Job> },
        JobFinished { run_id: String, job: Box<Job> },
        RunFinished { run: Box<Run> },
    }
}

/// The sample with every field of ours set.
fn newest() -> RunRecord {
    let mut run: RunRecord = load("run-failed.json");
    let time = run.created_at;
    let phase = PhaseRecord { phase: "snapshot".into(), started_at: time, finished_at: time, duration_ms: 1 };
    run.verdict = Verdict::Failed(FailureKind::Timeout);
    run.snapshot_hash = Some("00".repeat(32));
    run.duration_ms = Some(7);
    run.engine_version = Some("0.1.0".into());
    run.inherit_env = true;
    run.settings = vec![SettingRecord { name: "a".into(), value: "b".into(), origin: "flag".into() }];
    run.phases = vec![phase.clone()];
    run.warnings = vec!["w".into()];
    let job = &mut run.jobs[0];
    job.verdict = Verdict::Failed(FailureKind::TestFailure);
    job.duration_ms = Some(7);
    job.signal = Some(9);
    job.phases = vec![phase];
    job.environment = vec!["PATH".into()];
    job.leaked = vec!["sleep".into()];
    job.left_behind = vec!["a guest".into()];
    job.warnings = vec!["w".into()];
    run
}

#[test]
fn a_reader_of_the_earlier_system_reads_what_is_written_now() {
    let run = newest();
    let text = serde_json::to_string(&run).unwrap();
    let old: earlier::Run = serde_json::from_str(&text).unwrap();
    assert_eq!(old.status, earlier::Status::Failed);
    assert_eq!(old.jobs[0].status, earlier::Status::Failed);
    assert_eq!(old.created_at, "2026-04-01T12:00:00.100+00:00");
    assert_eq!(serde_json::from_str::<RunRecord>(&text).unwrap(), run);
    // The fields it knows come first and in its order, but for the kind beside the status.
    let known: Vec<String> = load::<Value>("run-failed.json").as_object().unwrap().keys().cloned().collect();
    let written: Value = serde_json::from_str(&text).unwrap();
    let written: Vec<&String> =
        written.as_object().unwrap().keys().filter(|k| *k != "failure_kind").collect();
    assert_eq!(&written[..known.len()], known.iter().collect::<Vec<_>>());
}

#[test]
fn a_strict_reader_of_lifecycle_events_reads_journal_lines() {
    let run = newest();
    let events = [
        RunLifecycleEvent::RunStarted {
            run_id: run.run_id.clone(),
            created_at: run.created_at,
            rerun_of: None,
            target_id: None,
            target_description: None,
        },
        RunLifecycleEvent::JobStarted { run_id: run.run_id.clone(), job: Box::new(run.jobs[0].clone()) },
        RunLifecycleEvent::JobFinished { run_id: run.run_id.clone(), job: Box::new(run.jobs[0].clone()) },
        RunLifecycleEvent::RunFinished { run: Box::new(run.clone()) },
    ];
    for (seq, event) in (1..).zip(events) {
        let entry = JournalEntry { seq, time: run.created_at, event: event.clone() };
        let line = serde_json::to_string(&entry).unwrap();
        assert!(line.starts_with(r#"{"seq":"#) && !line.contains('\n'), "{line}");
        assert_eq!(serde_json::from_str::<RunLifecycleEvent>(&line).unwrap(), event);
        serde_json::from_str::<earlier::Event>(&line).unwrap();
        assert_eq!(serde_json::from_str::<JournalEntry>(&line).unwrap(), entry);
    }
}

#[test]
fn unknown_words_of_an_enum_are_errors_and_unknown_keys_are_not() {
    let text = fs::read_to_string(path("run-passed.json")).unwrap();
    assert!(serde_json::from_str::<RunRecord>(&text.replacen("passed", "flaky", 1)).is_err());
    assert!(serde_json::from_str::<RunRecord>(&text.replacen('{', r#"{"x":[{}],"#, 1)).is_ok());
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Running),
        Just(Verdict::Passed),
        Just(Verdict::Skipped),
        prop_oneof![
            Just(FailureKind::Unrecorded),
            Just(FailureKind::TestFailure),
            Just(FailureKind::Timeout),
            Just(FailureKind::Infrastructure),
            Just(FailureKind::Interrupted),
            Just(FailureKind::Cancelled),
        ]
        .prop_map(Verdict::Failed),
    ]
}

fn time() -> impl Strategy<Value = chrono::DateTime<chrono::Utc>> {
    (0i64..4_000_000_000, 0u32..1_000_000_000)
        .prop_map(|(s, ns)| chrono::DateTime::from_timestamp(s, ns).unwrap())
}

prop_compose! {
    fn job()(
        verdict in verdict(), id in ".{0,6}", started_at in time(), finished_at in prop::option::of(time()),
        exit_code in any::<Option<i32>>(), signal in any::<Option<i32>>(), message in any::<Option<String>>(),
        leaked in any::<Vec<String>>(), duration_ms in any::<Option<u64>>(), timeout_secs in any::<u64>(),
        placement in prop::option::of(Just(JobPlacementKind::RemoteSsh)),
    ) -> JobRecord {
        JobRecord {
            verdict, id, started_at, finished_at, exit_code, signal, message, leaked, duration_ms, timeout_secs,
            placement, ..load("job-passed.json")
        }
    }
}

prop_compose! {
    fn run()(
        verdict in verdict(), jobs in prop::collection::vec(job(), 0..3), created_at in time(),
        finished_at in prop::option::of(time()), git_dirty in any::<Option<bool>>(),
        target_id in any::<Option<String>>(), changed_files in any::<Vec<String>>(), inherit_env in any::<bool>(),
        warnings in any::<Vec<String>>(), snapshot_hash in any::<Option<String>>(),
    ) -> RunRecord {
        RunRecord {
            verdict, jobs, created_at, finished_at, git_dirty, target_id, changed_files, inherit_env, warnings,
            snapshot_hash, ..load("run-passed.json")
        }
    }
}

fn event() -> impl Strategy<Value = RunLifecycleEvent> {
    let id = "[a-z]{0,4}";
    prop_oneof![
        (id, job()).prop_map(|(run_id, job)| RunLifecycleEvent::JobStarted { run_id, job: Box::new(job) }),
        run().prop_map(|run| RunLifecycleEvent::RunFinished { run: Box::new(run) }),
        (id, ".*", verdict(), any::<u64>()).prop_map(|(run_id, node_id, verdict, duration_ms)| {
            RunLifecycleEvent::PrepareFinished { run_id, node_id, verdict, duration_ms }
        }),
        (id, any::<Option<String>>(), ".*", any::<u64>()).prop_map(|(run_id, job_id, phase, duration_ms)| {
            RunLifecycleEvent::PhaseFinished { run_id, job_id, phase, duration_ms }
        }),
        (id, ".*", any::<(u64, u64)>()).prop_map(|(run_id, job_id, (host_log_bytes, guest_log_bytes))| {
            RunLifecycleEvent::LogProgress { run_id, job_id, host_log_bytes, guest_log_bytes }
        }),
        (id, any::<Option<String>>(), ".*")
            .prop_map(|(run_id, job_id, message)| RunLifecycleEvent::Warning { run_id, job_id, message }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn records_survive_writing_and_reading(run in run()) {
        let text = serde_json::to_vec_pretty(&run).unwrap();
        prop_assert_eq!(serde_json::from_slice::<RunRecord>(&text).unwrap(), run);
    }

    #[test]
    fn events_survive_writing_and_reading(event in event(), seq in any::<u64>(), time in time()) {
        let entry = JournalEntry { seq, time, event };
        let text = serde_json::to_vec(&entry).unwrap();
        prop_assert!(!text.contains(&b'\n'));
        prop_assert_eq!(serde_json::from_slice::<JournalEntry>(&text).unwrap(), entry);
    }
}
