//! The runner in a real guest on Incus, started and followed as the engine does it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jericho_host::{CancelToken, LocalHost};
use jericho_testkit::built_program;
use jericho_testkit::incus::{Project, Rig};
use pika_cloud::ops::{Course, Ended, Incus, Launch, Limits, Observer, Outcome, Progress, Stream, Watchdog};
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

/// What a guest is made from, and where it has the runner.
struct Base {
    image: String,
    program: &'static str,
    mount: Option<RuntimeMount>,
}

/// The minimal image, into which the runner is brought.
fn minimal(rig: &Rig, project: &Project<'_>) -> Base {
    let dir = project.make_dir("runner").unwrap();
    std::fs::copy(built_program!("jerichoci-incus-run"), dir.join("jerichoci-incus-run")).unwrap();
    Base {
        image: rig.image_alias().to_owned(),
        program: "/runner/jerichoci-incus-run",
        mount: Some(RuntimeMount::read_only_snapshot(dir.to_str().unwrap(), "/runner").require()),
    }
}

impl Base {
    fn spec(&self, project: &Project<'_>) -> RuntimeSpec {
        let spec = RuntimeSpec::new(
            RuntimeIdentity::named("job"),
            RuntimeIncus::new(project.name(), "default", &self.image),
        )
        .with_entry_command(self.program)
        .with_policies(RuntimePolicies {
            output_collection: OutputCollectionPolicy {
                artifact_globs: vec!["**".into()],
                ..OutputCollectionPolicy::default()
            },
            ..RuntimePolicies::default()
        });
        self.mount.iter().cloned().fold(spec, RuntimeSpec::with_mount)
    }
}

fn incus(rig: &Rig) -> Incus {
    Incus::new(Arc::new(LocalHost::new()), rig.socket(), &CancelToken::new().unwrap())
}

/// Runs a command in a guest of its own; what it leaves comes into `output`.
fn run(
    rig: &Rig,
    project: &Project<'_>,
    base: &Base,
    command: &str,
    limit: u64,
    output: &Path,
) -> (Outcome, Record) {
    let request = IncusGuestRunRequest::new(command, limit, false).unwrap();
    let launch = Launch { request: Some(serde_json::to_string(&request).unwrap()), ..Launch::default() };
    let limits = Limits {
        watchdog: Some(Watchdog { state: LifecycleState::Starting, within: Duration::from_secs(60) }),
        time_limit: None,
    };
    let course = Course { launch, limits, output: Some(output.to_owned()), attempts: None };
    let mut record = Record::default();
    let outcome = incus(rig).run(&base.spec(project).plan().unwrap(), &course, &mut record).unwrap();
    assert_eq!(project.instances().unwrap(), Vec::<String>::new());
    (outcome, record)
}

#[test]
fn the_runner_keeps_the_contract_in_a_guest() {
    let Some(rig) = Rig::up("the_runner_keeps_the_contract_in_a_guest") else { return };
    let project = rig.project(2).unwrap();
    let output = tempfile::tempdir().unwrap();
    let command = "id -u; pwd; echo made >\"$ARTIFACTS/file\"; seq 1 1000; exit 3";
    let (outcome, record) = run(&rig, &project, &minimal(&rig, &project), command, 60, output.path());
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
    let base = minimal(&rig, &project);
    let (outcome, _) = run(&rig, &project, &base, "echo begun; sleep 300", 1, output.path());
    let Ended::Result(result) = &outcome.ended else { panic!("{outcome:?}") };
    assert_eq!(result.exit_code, Some(124));
    assert_eq!(std::fs::read_to_string(output.path().join("logs/guest.log")).unwrap(), "begun\n");
}

/// Prints the state of the guest's system once it has one, and the units that failed.
const STATE: &str = r#"
# For a moment it is offline, then it has no socket to ask it by, and Incus nothing that tells when it has.
until state=$(systemctl is-system-running --wait 2>/dev/null) || case $state in '' | offline) false ;; esac; do
  sleep 0.05
done
echo "$(cat /proc/1/comm) $state"
systemctl --failed --plain --no-legend
"#;

/// What an image of a role promises, asked by a job in it.
const PROMISES: &str = r#"
set -eu
echo "user $(id -un) $(id -u) $(id -g) home $HOME"
touch "$HOME/writable"
echo "links $(readlink /run/current-system) $(readlink /run/pika-cloud)"
# A result that the job itself could write would be no verdict.
! touch /var/lib/pika-cloud/result.json 2>/dev/null || echo "the job may write its result"
git --version >/dev/null && test -s /etc/ssl/certs/ca-certificates.crt && echo tools
"#;

#[test]
fn the_image_of_a_role_boots_systemd_and_runs_jobs_with_its_own_runner() {
    let name = "the_image_of_a_role_boots_systemd_and_runs_jobs_with_its_own_runner";
    let Some(rig) = Rig::up(name) else { return };
    let Some(image) = rig.systemd_image_alias(name) else { return };
    let project = rig.project(2).unwrap();
    let output = tempfile::tempdir().unwrap();
    let base = Base { image, program: "/run/current-system/sw/bin/jerichoci-incus-run", mount: None };
    incus(&rig).ensure(&base.spec(&project).plan().unwrap(), &mut Record::default()).unwrap();
    assert_eq!(project.exec("job", STATE).unwrap(), "systemd running\n");
    let (outcome, record) = run(&rig, &project, &base, PROMISES, 60, output.path());
    let text = String::from_utf8_lossy(&record.output);
    let Ended::Result(result) = &outcome.ended else { panic!("{outcome:?}") };
    assert_eq!(result.exit_code, Some(0), "{text}");
    assert_eq!(
        text,
        "user pikaci 1000 1000 home /home/pikaci\n\
         links /opt/jerichoci/system /var/lib/pika-cloud\n\
         tools\n"
    );
}

#[test]
fn a_stopped_guest_that_booted_systemd_still_shows_its_result() {
    let name = "a_stopped_guest_that_booted_systemd_still_shows_its_result";
    let Some(rig) = Rig::up(name) else { return };
    let Some(image) = rig.systemd_image_alias(name) else { return };
    let project = rig.project(2).unwrap();
    let base = Base { image, program: "/run/current-system/sw/bin/jerichoci-incus-run", mount: None };
    let (incus, plan) = (incus(&rig), base.spec(&project).plan().unwrap());
    incus.ensure(&plan, &mut Record::default()).unwrap();
    let request = IncusGuestRunRequest::new("exit 4", 60, false).unwrap();
    let launch = Launch { request: Some(serde_json::to_string(&request).unwrap()), ..Launch::default() };
    let started = incus.start_detached(&plan, &launch).unwrap();
    let mut progress = Progress::default();
    let ended = incus
        .follow(&started, &plan.paths, &Limits::default(), &mut progress, &mut Record::default())
        .unwrap();
    incus.stop(&started.instance).unwrap();
    let output = tempfile::tempdir().unwrap();
    incus.collect(&plan, &ended, output.path()).unwrap();
    let result = std::fs::read_to_string(output.path().join("result.json")).unwrap();
    assert!(result.contains("\"exit_code\": 4"), "{result}");
}
