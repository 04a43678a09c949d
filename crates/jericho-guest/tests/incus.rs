//! The runner in a real guest on Incus, started and followed as the engine does it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jericho_host::{CancelToken, LocalHost};
use jericho_testkit::built_program;
use jericho_testkit::incus::{Project, Rig};
use pika_cloud::ops::{Course, Ended, Incus, Launch, Limits, Observer, Outcome, Stream, Watchdog};
use pika_cloud::{
    IncusGuestRunRequest, LifecycleEvent, LifecycleState, OutputCollectionPolicy, RuntimeIdentity,
    RuntimeIncus, RuntimeMount, RuntimePolicies, RuntimeSpec,
};

#[derive(Debug, Default)]
struct Record {
    output: Vec<u8>,
    states: Vec<LifecycleState>,
}

impl Observer for Record {
    fn guest_said(&mut self, event: &LifecycleEvent) {
        self.states.push(event.kind);
    }

    fn output(&mut self, stream: Stream, bytes: &[u8]) -> std::io::Result<()> {
        if stream == Stream::Stdout {
            self.output.extend_from_slice(bytes);
        }
        Ok(())
    }
}

/// Runs a command in a guest of its own; what it leaves comes into `output`.
fn run(rig: &Rig, project: &Project<'_>, command: &str, limit: u64, output: &Path) -> (Outcome, Record) {
    let dir = project.make_dir("runner").unwrap();
    std::fs::copy(built_program!("jerichoci-incus-run"), dir.join("jerichoci-incus-run")).unwrap();
    let spec = RuntimeSpec::new(
        RuntimeIdentity::named("job"),
        RuntimeIncus::new(project.name(), "default", rig.image_alias()),
    )
    .with_mount(RuntimeMount::read_only_snapshot(dir.to_str().unwrap(), "/runner").require())
    .with_entry_command("/runner/jerichoci-incus-run")
    .with_policies(RuntimePolicies {
        output_collection: OutputCollectionPolicy {
            artifact_globs: vec!["**".into()],
            ..OutputCollectionPolicy::default()
        },
        ..RuntimePolicies::default()
    });
    let request = IncusGuestRunRequest::new(command, limit, false).unwrap();
    let launch = Launch { request: Some(serde_json::to_string(&request).unwrap()), ..Launch::default() };
    let limits = Limits {
        watchdog: Some(Watchdog { state: LifecycleState::Starting, within: Duration::from_secs(60) }),
        time_limit: None,
    };
    let course = Course { launch, limits, output: Some(output.to_owned()), attempts: None };
    let incus = Incus::new(Arc::new(LocalHost::new()), rig.socket(), &CancelToken::new().unwrap());
    let mut record = Record::default();
    let outcome = incus.run(&spec.plan().unwrap(), &course, &mut record).unwrap();
    assert_eq!(project.instances().unwrap(), Vec::<String>::new());
    (outcome, record)
}

#[test]
fn the_runner_keeps_the_contract_in_a_guest() {
    let Some(rig) = Rig::up("the_runner_keeps_the_contract_in_a_guest") else { return };
    let project = rig.project(2).unwrap();
    let output = tempfile::tempdir().unwrap();
    let command = "id -u; pwd; echo made >\"$ARTIFACTS/file\"; seq 1 1000; exit 3";
    let (outcome, record) = run(&rig, &project, command, 60, output.path());
    let Ended::Result(result) = &outcome.ended else { panic!("{outcome:?}") };
    assert_eq!(result.exit_code, Some(3));
    assert_eq!(
        record.states,
        [LifecycleState::Booted, LifecycleState::Starting, LifecycleState::Failed],
        "{outcome:?}"
    );
    let text = String::from_utf8_lossy(&record.output);
    assert!(text.starts_with("1000\n/workspace/snapshot\n1\n") && text.ends_with("\n1000\n"), "{text}");
    let read = |name: &str| std::fs::read_to_string(output.path().join(name)).unwrap();
    assert_eq!(read("logs/guest.log"), text);
    assert_eq!(read("files/file"), "made\n");
    assert!(read("result.json").contains("\"exit_code\": 3"));
}

#[test]
fn the_limit_of_the_runner_is_a_result() {
    let Some(rig) = Rig::up("the_limit_of_the_runner_is_a_result") else { return };
    let project = rig.project(2).unwrap();
    let output = tempfile::tempdir().unwrap();
    let (outcome, _) = run(&rig, &project, "echo begun; sleep 300", 1, output.path());
    let Ended::Result(result) = &outcome.ended else { panic!("{outcome:?}") };
    assert_eq!(result.exit_code, Some(124));
    assert_eq!(std::fs::read_to_string(output.path().join("logs/guest.log")).unwrap(), "begun\n");
}
