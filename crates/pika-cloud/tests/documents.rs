//! The documents of the contract: frozen samples load for ever, and are written as they were.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use chrono::{DateTime, FixedOffset};
use pika_cloud::{
    IncusGuestRunRequest, IncusMountPlan, IncusRuntimePlan, LifecycleEvent, LifecycleState, LoadError,
    NewEvent, ParseError, RuntimeIdentity, RuntimeIncus, RuntimeResultStatus, RuntimeSpec,
    RuntimeStatusSnapshot, RuntimeTerminalResult, Timestamp, read_events,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn fixture(name: &str) -> PathBuf {
    jericho_testkit::crate_dir!().join("tests/fixtures").join(name)
}

fn fixture_value(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture(name)).unwrap()).unwrap()
}

fn time(text: &str) -> Timestamp {
    DateTime::parse_from_rfc3339(text).unwrap()
}

/// Loads a fixture and asserts that what is written is the same value.
fn assert_kept<T: DeserializeOwned + Serialize + PartialEq + Debug>(name: &str) -> T {
    let value = fixture_value(name);
    let document: T = serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(serde_json::to_value(&document).unwrap(), value, "{name}");
    document
}

#[test]
fn every_frozen_sample_loads_and_is_written_as_the_same_value() {
    assert_kept::<LifecycleEvent>("event-booted.jsonl");
    assert_kept::<RuntimeStatusSnapshot>("status-completed.json");
    assert_kept::<RuntimeTerminalResult>("result-completed.json");
    assert_kept::<RuntimeTerminalResult>("result-bootstrap-error.json");
    assert_kept::<IncusGuestRunRequest>("guest-run-request.json");
    assert_kept::<IncusGuestRunRequest>("guest-run-request-v3.json");
    assert_kept::<IncusGuestRunRequest>("guest-run-request-v3-host.json");
    assert_kept::<RuntimeSpec>("runtime-spec-full.json");
    assert_kept::<IncusMountPlan>("incus-mount-plan.json");
    assert_kept::<IncusRuntimePlan>("incus-runtime-plan.json");
}

#[test]
fn the_loaders_take_the_frozen_samples() {
    let status = RuntimeStatusSnapshot::load(&fixture("status-completed.json")).unwrap();
    assert_eq!(status.state, LifecycleState::Completed);
    assert_eq!(status.details, Some(json!({ "exit_code": 0 })));
    let result = RuntimeTerminalResult::load(&fixture("result-completed.json")).unwrap();
    assert_eq!((result.status, result.exit_code), (RuntimeResultStatus::Completed, Some(0)));
    let request = IncusGuestRunRequest::load(&fixture("guest-run-request.json")).unwrap();
    assert_eq!(request.timeout_secs(), 600);
    assert!(!request.run_as_root());
    let events = read_events(&fixture("event-booted.jsonl")).unwrap();
    assert_eq!(events.problems, []);
    assert_eq!(events.events[0].boot_id.as_deref(), Some("b1"));
}

#[test]
fn a_time_with_z_is_read_and_written_with_a_numeric_offset() {
    let result = RuntimeTerminalResult::load(&fixture("result-tart.json")).unwrap();
    assert_eq!(result.finished_at, time("2026-04-01T12:04:08+00:00"));
    assert_eq!(serde_json::to_value(&result).unwrap()["finished_at"], "2026-04-01T12:04:08+00:00");
}

#[test]
fn a_guests_own_offset_and_its_digits_are_kept() {
    for text in
        ["2026-04-01T14:04:08+02:00", "2026-04-01T12:00:00.100+00:00", "2026-04-01T06:34:08.000001-05:30"]
    {
        let status = RuntimeStatusSnapshot::new(LifecycleState::Ready, time(text), "");
        assert_eq!(serde_json::to_value(&status).unwrap()["updated_at"], text);
    }
    // An offset with seconds has no RFC 3339 form; the instant is what counts.
    let odd = time("2026-04-01T12:00:00Z").with_timezone(&FixedOffset::east_opt(3601).unwrap());
    let status = RuntimeStatusSnapshot::new(LifecycleState::Ready, odd, "");
    assert_eq!(serde_json::to_value(&status).unwrap()["updated_at"], "2026-04-01T12:00:00+00:00");
}

#[test]
fn a_time_that_rfc_3339_cannot_write_is_an_error_and_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("status.json");
    let far = chrono::DateTime::<chrono::Utc>::MAX_UTC;
    let error = RuntimeStatusSnapshot::new(LifecycleState::Ready, far, "").write(&path).unwrap_err();
    assert!(error.to_string().contains("status.json"), "{error}");
    assert!(!path.exists());
    for text in ["1774958648", "\"2026-04-01\"", "\"2026-04-01T12:00:00\"", "\"\"", "null"] {
        let document = format!(r#"{{"schema_version":1,"state":"ready","updated_at":{text},"message":""}}"#);
        assert!(RuntimeStatusSnapshot::parse(document.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn fields_are_written_in_the_order_of_the_contract() {
    let at = time("2026-04-01T12:00:30+00:00");
    let keys = |value: &dyn Fn() -> Value| value().as_object().unwrap().keys().cloned().collect::<Vec<_>>();

    let status =
        RuntimeStatusSnapshot::new(LifecycleState::Booted, at, "m").with_boot_id("b").with_details(json!(1));
    assert_eq!(
        keys(&|| serde_json::to_value(&status).unwrap()),
        ["schema_version", "state", "updated_at", "message", "boot_id", "details"]
    );
    let result = RuntimeTerminalResult::from_exit_code(0, at, "m").with_details(json!(1));
    assert_eq!(
        keys(&|| serde_json::to_value(&result).unwrap()),
        ["schema_version", "status", "finished_at", "message", "exit_code", "details"]
    );
    let directory = tempfile::tempdir().unwrap();
    let event = NewEvent::new(LifecycleState::Booted, at, "m").with_boot_id("b").with_details(json!(1));
    let event = pika_cloud::EventLog::new(directory.path().join("events.jsonl")).append(event).unwrap();
    assert_eq!(
        serde_json::to_string(&event).unwrap(),
        r#"{"schema_version":1,"seq":1,"timestamp":"2026-04-01T12:00:30+00:00","kind":"booted","message":"m","boot_id":"b","details":1}"#
    );
    let request = IncusGuestRunRequest::new("true", 1, false).unwrap();
    assert_eq!(
        serde_json::to_string(&request).unwrap(),
        r#"{"schema_version":2,"command":"true","timeout_secs":1,"run_as_root":false}"#
    );
}

#[test]
fn what_is_empty_is_left_out() {
    let at = time("2026-04-01T12:00:30+00:00");
    assert_eq!(
        serde_json::to_value(RuntimeTerminalResult::failed(at, "m")).unwrap(),
        json!({ "schema_version": 1, "status": "failed", "finished_at": "2026-04-01T12:00:30+00:00", "message": "m" })
    );
    assert_eq!(
        serde_json::to_value(RuntimeStatusSnapshot::new(LifecycleState::Ready, at, "m")).unwrap(),
        json!({ "schema_version": 1, "state": "ready", "updated_at": "2026-04-01T12:00:30+00:00", "message": "m" })
    );
}

#[test]
fn files_are_pretty_and_end_with_a_newline() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/er/result.json");
    let result = RuntimeTerminalResult::from_exit_code(7, time("2026-04-01T12:00:30+00:00"), "exit 7");
    result.write(&path).unwrap();
    insta::assert_snapshot!(std::fs::read_to_string(&path).unwrap(), @r#"
    {
      "schema_version": 1,
      "status": "failed",
      "finished_at": "2026-04-01T12:00:30+00:00",
      "message": "exit 7",
      "exit_code": 7
    }
    "#);
    assert!(std::fs::read(&path).unwrap().ends_with(b"}\n"));
    assert_eq!(RuntimeTerminalResult::load(&path).unwrap(), result);
}

#[test]
fn the_old_value_passed_is_no_result() {
    let text = r#"{"schema_version":1,"status":"passed","finished_at":"2026-04-01T12:04:08Z","message":"m","exit_code":0}"#;
    let error = RuntimeTerminalResult::parse(text.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("`passed`") && error.contains("`completed`"), "{error}");
}

#[test]
fn a_completed_result_with_another_exit_code_than_0_is_refused() {
    let text = |status, code| {
        format!(
            r#"{{"schema_version":1,"status":"{status}","finished_at":"2026-04-01T12:04:08Z","message":"","exit_code":{code}}}"#
        )
    };
    for code in [1, -1, 124, i32::MIN] {
        let error = RuntimeTerminalResult::parse(text("completed", code).as_bytes()).unwrap_err();
        assert!(matches!(error, ParseError::Invalid(_)), "{error}");
    }
    // Work may fail after a command that returned 0.
    assert!(RuntimeTerminalResult::parse(text("failed", 0).as_bytes()).is_ok());
}

#[test]
fn exit_code_0_is_completed_and_every_other_failed() {
    let at = time("2026-04-01T12:04:08Z");
    assert_eq!(RuntimeTerminalResult::from_exit_code(0, at, "").status, RuntimeResultStatus::Completed);
    for code in [1, -1, 2, 124, 137, i32::MAX, i32::MIN] {
        assert_eq!(RuntimeTerminalResult::from_exit_code(code, at, "").status, RuntimeResultStatus::Failed);
    }
    assert_eq!(LifecycleState::from(RuntimeResultStatus::Completed), LifecycleState::Completed);
    assert_eq!(LifecycleState::from(RuntimeResultStatus::Failed), LifecycleState::Failed);
}

#[test]
fn another_schema_version_is_told_by_found_and_expected_whatever_else_is_there() {
    for text in [r#"{"schema_version":2}"#, r#"{"schema_version":2,"state":"new","status":"new","x":[1]}"#] {
        for error in [
            RuntimeTerminalResult::parse(text.as_bytes()).unwrap_err(),
            RuntimeStatusSnapshot::parse(text.as_bytes()).unwrap_err(),
        ] {
            let ParseError::SchemaVersion { found: 2, expected: 1, .. } = &error else { panic!("{error:?}") };
            assert!(error.to_string().ends_with("has schema_version 2, expected 1"), "{error}");
        }
    }
    for text in [
        r#"{"schema_version":true}"#,
        r#"{"schema_version":"1"}"#,
        r#"{"schema_version":1.0}"#,
        "{}",
        "",
        "[]",
    ] {
        let error = RuntimeTerminalResult::parse(text.as_bytes()).unwrap_err();
        assert!(matches!(error, ParseError::Json { .. }), "{text}: {error}");
    }
    // Also where a document is a part of another one.
    let text = r#"{"schema_version":2,"status":"failed","finished_at":"2026-04-01T12:04:08Z","message":""}"#;
    assert!(serde_json::from_str::<RuntimeTerminalResult>(text).is_err());
}

#[test]
fn loading_names_the_file() {
    let error = RuntimeTerminalResult::load(Path::new("/nonexistent/result.json")).unwrap_err();
    assert!(matches!(error, LoadError::Read { .. }) && error.is_not_found(), "{error:?}");
    assert_eq!(error.to_string(), "cannot read /nonexistent/result.json");

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("result.json");
    std::fs::write(&path, "{\n  \"schema_version\": 1,").unwrap();
    let error = RuntimeTerminalResult::load(&path).unwrap_err();
    assert!(!error.is_not_found());
    let error = anyhow::Error::from(error);
    let chain = format!("{error:#}");
    assert!(chain.contains("result.json") && chain.contains("not a valid guest result"), "{chain}");
    assert!(chain.contains("line 2"), "{chain}");
}

#[test]
fn states_are_spelled_as_in_the_contract() {
    let words = [
        "requested",
        "provisioning",
        "booted",
        "unreachable",
        "stopped",
        "destroyed",
        "starting",
        "ready",
        "failed",
        "completed",
    ];
    assert_eq!(LifecycleState::ALL.map(|state| state.to_string()), words);
    for (state, word) in LifecycleState::ALL.into_iter().zip(words) {
        assert_eq!(serde_json::to_value(state).unwrap(), word);
    }
    for word in ["Booted", "BOOTED", "running", "passed", ""] {
        assert!(serde_json::from_value::<LifecycleState>(word.into()).is_err(), "{word}");
    }
}

#[test]
fn the_smallest_spec_has_the_canonical_defaults() {
    let spec: RuntimeSpec = serde_json::from_value(json!({
        "identity": { "runtime_id": "r", "instance_name": "r" },
        "incus": { "project": "p", "profile": "d", "image_alias": "a" }
    }))
    .unwrap();
    assert_eq!(spec, RuntimeSpec::new(RuntimeIdentity::named("r"), RuntimeIncus::new("p", "d", "a")));
    assert_eq!(
        serde_json::to_value(&spec).unwrap(),
        json!({
            "identity": { "runtime_id": "r", "instance_name": "r" },
            "incus": { "project": "p", "profile": "d", "image_alias": "a" },
            "resources": {}, "mounts": [],
            "paths": {
                "state_dir": "/run/pika-cloud", "events_path": "/run/pika-cloud/events.jsonl",
                "status_path": "/run/pika-cloud/status.json", "result_path": "/run/pika-cloud/result.json",
                "guest_request_path": "/run/pika-cloud/guest-request.json", "logs_dir": "/run/pika-cloud/logs",
                "guest_log_path": "/run/pika-cloud/logs/guest.log", "artifacts_dir": "/run/pika-cloud/artifacts"
            },
            "policies": {
                "restart_policy": "never", "retention_policy": "destroy_on_completion",
                "output_collection": { "mode": "always", "include_logs": true, "include_result": true, "artifact_globs": [] }
            },
            "labels": {}, "metadata": {}
        })
    );
    spec.validate().unwrap();
    spec.validate_canonical_paths().unwrap();
}

#[test]
fn a_spec_with_the_old_key_provider_and_unknown_keys_loads() {
    let spec: RuntimeSpec = serde_json::from_value(fixture_value("runtime-spec-old-provider.json")).unwrap();
    spec.validate().unwrap();
    assert!(!spec.mounts[0].required);
    assert_eq!(spec.policies.output_collection.mode, pika_cloud::OutputCollectionMode::Always);
    assert!(serde_json::to_value(&spec).unwrap().get("provider").is_none());
}

#[test]
fn what_a_given_policies_object_must_have() {
    let read = |policies: Value| serde_json::from_value::<pika_cloud::RuntimePolicies>(policies);
    for missing in [
        json!({}),
        json!({ "restart_policy": "never" }),
        json!({ "retention_policy": "debug_keep" }),
        json!({ "restart_policy": "never", "retention_policy": "debug_keep", "output_collection": {} }),
        json!({ "restart_policy": "sometimes", "retention_policy": "debug_keep" }),
    ] {
        assert!(read(missing.clone()).is_err(), "{missing}");
    }
    let policies = read(json!({ "restart_policy": "always", "retention_policy": "debug_keep",
                                "output_collection": { "mode": "none" } }))
    .unwrap();
    assert_eq!(
        serde_json::to_value(policies.output_collection).unwrap(),
        json!({ "mode": "none", "include_logs": true, "include_result": true, "artifact_globs": [] })
    );
}

#[test]
fn a_number_beyond_its_field_is_an_error() {
    let read = |resources: Value| serde_json::from_value::<pika_cloud::RuntimeResources>(resources);
    assert!(read(json!({ "vcpu_count": 255, "memory_mib": u32::MAX })).is_ok());
    for wrong in [
        json!({ "vcpu_count": 256 }),
        json!({ "vcpu_count": -1 }),
        json!({ "memory_mib": 1.5 }),
        json!({ "memory_mib": "4096" }),
        json!({ "root_disk_gib": 4_294_967_296_u64 }),
    ] {
        assert!(read(wrong.clone()).is_err(), "{wrong}");
    }
}

#[test]
fn a_reader_in_a_loop_never_sees_a_half_document_and_no_temporary_file_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("status.json");
    let at = time("2026-04-01T12:00:00Z");
    let status = |n: usize| {
        RuntimeStatusSnapshot::new(LifecycleState::Ready, at, "x".repeat(n * 1000)).with_details(json!(n))
    };
    status(0).write(&path).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let path = &path;
            scope.spawn(move || (0..40).for_each(|n| status(n * 2 + writer).write(path).unwrap()));
        }
        for _ in 0..400 {
            let read = RuntimeStatusSnapshot::load(&path).unwrap();
            assert_eq!(read.details, Some(json!(read.message.len() / 1000)));
        }
    });
    let names: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["status.json"]);
}

#[test]
fn a_failed_write_leaves_the_old_content_and_no_temporary_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("status.json");
    std::fs::create_dir_all(path.join("in the way")).unwrap();
    let status = RuntimeStatusSnapshot::new(LifecycleState::Ready, time("2026-04-01T12:00:00Z"), "");
    let error = status.write(&path).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot write {}", path.display()));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    assert!(path.join("in the way").exists());
}
