//! Whatever is written is read again as the same value.

use std::fmt::Debug;

use chrono::{DateTime, FixedOffset};
use pika_cloud::{
    EventLog, IncusRuntimePlan, LifecycleState, MountKind, MountMode, NewEvent, OutputCollectionMode,
    OutputCollectionPolicy, RestartPolicy, RetentionPolicy, RuntimeIdentity, RuntimeIncus, RuntimeMount,
    RuntimeNetwork, RuntimePaths, RuntimePolicies, RuntimeResources, RuntimeSpec, RuntimeStatusSnapshot,
    RuntimeTerminalResult, Timestamp, read_events,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn assert_round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let text = serde_json::to_string(value).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), value, "{text}");
}

fn times() -> impl Strategy<Value = Timestamp> {
    // From the year 1 to the year 9998, every offset of whole minutes.
    (-62_135_000_000_i64..253_370_000_000, prop_oneof![Just(0), 0_u32..1_000_000_000], -1439..1440_i32)
        .prop_map(|(seconds, nanoseconds, minutes)| {
            let offset = FixedOffset::east_opt(minutes * 60).unwrap();
            DateTime::from_timestamp(seconds, nanoseconds).unwrap().with_timezone(&offset)
        })
}

fn json_values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(any::<String>(), inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

/// `details: null` is the same as no details.
fn details() -> impl Strategy<Value = Option<Value>> {
    option::of(json_values().prop_filter("absent", |value| !value.is_null()))
}

fn states() -> impl Strategy<Value = LifecycleState> {
    proptest::sample::select(LifecycleState::ALL.to_vec())
}

fn mounts() -> impl Strategy<Value = RuntimeMount> {
    let kinds = [
        MountKind::PersistentVolume,
        MountKind::ReadOnlySnapshot,
        MountKind::ArtifactOutput,
        MountKind::Cache,
    ];
    let modes = [MountMode::ReadOnly, MountMode::ReadWrite];
    let select = (proptest::sample::select(kinds.to_vec()), proptest::sample::select(modes.to_vec()));
    (select, any::<String>(), any::<String>(), any::<bool>()).prop_map(
        |((kind, mode), guest_path, source, required)| RuntimeMount {
            kind,
            guest_path,
            source,
            mode,
            required,
        },
    )
}

fn policies() -> impl Strategy<Value = RuntimePolicies> {
    use proptest::sample::select;
    let restart = select(vec![RestartPolicy::Never, RestartPolicy::OnFailure, RestartPolicy::Always]);
    let retention = select(vec![
        RetentionPolicy::DestroyOnCompletion,
        RetentionPolicy::KeepUntilStopped,
        RetentionPolicy::DebugKeep,
    ]);
    let mode = select(vec![
        OutputCollectionMode::None,
        OutputCollectionMode::FailureOnly,
        OutputCollectionMode::Always,
    ]);
    (restart, retention, mode, any::<(bool, bool, Vec<String>)>()).prop_map(
        |(restart_policy, retention_policy, mode, (include_logs, include_result, artifact_globs))| {
            RuntimePolicies {
                restart_policy,
                retention_policy,
                output_collection: OutputCollectionPolicy {
                    mode,
                    include_logs,
                    include_result,
                    artifact_globs,
                },
            }
        },
    )
}

fn networks() -> impl Strategy<Value = RuntimeNetwork> {
    prop_oneof![
        Just(RuntimeNetwork::Profile),
        Just(RuntimeNetwork::Off),
        any::<Option<String>>().prop_map(|network| RuntimeNetwork::On { network }),
    ]
}

fn specs() -> impl Strategy<Value = RuntimeSpec> {
    let paths = any::<[String; 8]>().prop_map(
        |[
            state_dir,
            events_path,
            status_path,
            result_path,
            guest_request_path,
            logs_dir,
            guest_log_path,
            artifacts_dir,
        ]| RuntimePaths {
            state_dir,
            events_path,
            status_path,
            result_path,
            guest_request_path,
            logs_dir,
            guest_log_path,
            artifacts_dir,
        },
    );
    (
        any::<([String; 5], Option<u8>, Option<u32>, Option<u32>, Option<String>, Option<String>)>(),
        networks(),
        vec(mounts(), 0..4),
        paths,
        policies(),
        btree_map(any::<String>(), any::<String>(), 0..3),
        btree_map(any::<String>(), json_values(), 0..3),
    )
        .prop_map(|(plain, network, mounts, paths, policies, labels, metadata)| {
            let (names, cpus, memory, disk, entry, target) = plain;
            let [runtime_id, instance_name, project, profile, image_alias] = names;
            RuntimeSpec {
                identity: RuntimeIdentity { runtime_id, instance_name },
                incus: RuntimeIncus { project, profile, image_alias, target },
                network,
                resources: RuntimeResources { vcpu_count: cpus, memory_mib: memory, root_disk_gib: disk },
                mounts,
                paths,
                policies,
                entry_command: entry,
                labels,
                metadata,
            }
        })
}

proptest! {
    #[test]
    fn specs_round_trip_and_validating_any_of_them_is_no_panic(spec in specs()) {
        assert_round_trip(&spec);
        if let Err(errors) = spec.validate() {
            prop_assert_eq!(errors.to_string().lines().count(), errors.len() + 1);
        }
        let _ = spec.validate_canonical_paths();
    }

    #[test]
    fn plans_round_trip(
        mounts in vec(mounts(), 0..4), policies in policies(), metadata in btree_map(any::<String>(), json_values(), 0..3),
    ) {
        let mut spec = RuntimeSpec::new(RuntimeIdentity::named("guest"), RuntimeIncus::new("p", "d", "a"));
        for (number, mut mount) in mounts.into_iter().enumerate() {
            mount.guest_path = format!("/mount/{number}/{}", mount.guest_path.replace("..", "").replace('\0', ""));
            mount.source = format!("s{}", mount.source.replace('\0', ""));
            spec.mounts.push(mount);
        }
        spec.policies = policies;
        // Any text may be written down; a plan has only globs.
        spec.policies.output_collection.artifact_globs.retain(|glob| pika_cloud::glob::GlobSet::new(&[glob]).is_ok());
        spec.metadata = metadata;
        let plan: IncusRuntimePlan = spec.plan().unwrap();
        prop_assert_eq!(plan.mounts.len(), spec.mounts.len());
        assert_round_trip(&plan);
    }

    #[test]
    fn statuses_round_trip_through_their_file(
        state in states(), at in times(), message: String, boot_id: Option<String>, details in details(),
    ) {
        let mut status = RuntimeStatusSnapshot::new(state, at, message);
        status.boot_id = boot_id;
        status.details = details;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("status.json");
        status.write(&path).unwrap();
        let read = RuntimeStatusSnapshot::load(&path).unwrap();
        prop_assert_eq!(read.updated_at.offset(), at.offset());
        prop_assert_eq!(read, status);
    }

    #[test]
    fn results_round_trip_through_their_file(code: Option<i32>, at in times(), message: String, details in details()) {
        let mut result = match code {
            Some(code) => RuntimeTerminalResult::from_exit_code(code, at, message),
            None => RuntimeTerminalResult::failed(at, message),
        };
        result.details = details;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("result.json");
        result.write(&path).unwrap();
        prop_assert_eq!(RuntimeTerminalResult::load(&path).unwrap(), result);
    }

    #[test]
    fn events_round_trip_through_the_journal(
        events in vec((states(), times(), any::<(String, Option<String>)>(), details()), 0..5),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.jsonl");
        let log = EventLog::new(&path);
        let written: Vec<_> = events
            .into_iter()
            .map(|(kind, at, (message, boot_id), details)| {
                let event = NewEvent { boot_id, details, ..NewEvent::new(kind, at, message) };
                log.append(event).unwrap()
            })
            .collect();
        if !written.is_empty() {
            let read = read_events(&path).unwrap();
            prop_assert_eq!(read.problems, []);
            prop_assert_eq!(read.events, written);
        }
    }
}
