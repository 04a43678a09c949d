//! A whole life of a guest, at once and step by step.

use jericho_testkit::incus::Rig;
use pika_cloud::LifecycleState::{Booted, Completed, Destroyed, Failed, Provisioning, Requested, Starting};
use pika_cloud::ops::{Ended, Limits, Progress, Silence, Started};
use pika_cloud::{LifecycleState, OutputCollectionPolicy, RuntimePolicies};

use crate::common::{Record, assert_completed, assert_nothing_left, course, exit_code, incus, script, spec};

#[test]
fn a_guest_lives_from_its_creation_to_its_end() {
    let Some(rig) = Rig::up("a_guest_lives_from_its_creation_to_its_end") else { return };
    let project = rig.project(4).unwrap();
    let into = tempfile::tempdir().unwrap();
    let plan = spec(&rig, &project, "whole")
        .with_policies(RuntimePolicies {
            output_collection: OutputCollectionPolicy {
                artifact_globs: vec!["**/*.xml".into(), "top".into(), "!a/secret/**".into()],
                ..OutputCollectionPolicy::default()
            },
            ..RuntimePolicies::default()
        })
        .plan()
        .unwrap();
    let work = "echo hello; echo oops >&2; cd /run/pika-cloud/artifacts; mkdir -p a/b; echo x >a/b/r.xml; \
                echo t >top; echo no >a/top; ln -s /etc/passwd link.xml; mkdir a/secret; echo s >a/secret/s.xml; \
                echo b >$(printf 'a/\\377.xml')";
    let mut course = course(work);
    course.output = Some(into.path().join("out"));
    let mut record = Record::default();
    let outcome = incus(&rig).run(&plan, &course, &mut record).unwrap();

    assert_completed(&outcome);
    assert_eq!(exit_code(&outcome.ended), 0);
    assert_eq!((outcome.attempts, outcome.kept), (1, false));
    assert_eq!(record.host, [Requested, Provisioning, Booted, Destroyed]);
    assert_eq!(record.guest, [Booted, Starting, Completed]);
    assert_eq!(record.seqs, [1, 2, 3]);
    assert!(record.text().contains("hello\n") && record.text().contains("oops\n"), "{record:?}");
    assert_eq!(outcome.image.fingerprint.len(), 64);

    let read = |name: &str| std::fs::read_to_string(into.path().join("out").join(name)).unwrap();
    assert!(read("logs/guest.log").contains("hello\n"));
    assert!(read("result.json").contains("\"exit_code\":0"));
    assert!(read("status.json").contains("completed"));
    assert_eq!(read("events.jsonl").lines().count(), 3);
    assert_eq!(read("files/a/b/r.xml"), "x\n");
    assert_eq!(read("files/top"), "t\n");
    assert!(!into.path().join("out/files/a/top").exists(), "it matches no glob");
    assert!(!into.path().join("out/files/a/secret").exists(), "the last glob takes it away again");
    assert!(!into.path().join("out/files/link.xml").exists(), "a link leads anywhere");
    for said in ["link.xml: it is a symbolic link", "is not UTF-8"] {
        assert!(outcome.collected.skipped.iter().any(|line| line.contains(said)), "{outcome:?}");
    }
    assert_nothing_left(&project);
}

#[test]
fn a_command_that_fails_is_a_result_and_no_error() {
    let Some(rig) = Rig::up("a_command_that_fails_is_a_result_and_no_error") else { return };
    let project = rig.project(4).unwrap();
    let plan = spec(&rig, &project, "fails").plan().unwrap();
    let mut record = Record::default();
    let outcome = incus(&rig).run(&plan, &course("echo no; exit 7"), &mut record).unwrap();
    assert_eq!(exit_code(&outcome.ended), 7);
    assert!(!outcome.ended.is_success());
    assert_eq!(record.guest.last(), Some(&Failed));
    assert_nothing_left(&project);
}

#[test]
fn the_steps_can_be_taken_one_by_one_and_by_another_process() {
    let Some(rig) = Rig::up("the_steps_can_be_taken_one_by_one_and_by_another_process") else { return };
    let project = rig.project(4).unwrap();
    let plan = spec(&rig, &project, "steps").with_label("run", "7").plan().unwrap();
    let incus = incus(&rig);
    let ensured = incus.ensure(&plan, &mut Silence).unwrap();
    assert!(ensured.created);
    assert!(!incus.ensure(&plan, &mut Silence).unwrap().created, "it is there and is what was asked for");

    let seen = incus.inspect(&ensured.instance, &plan.paths).unwrap();
    assert_eq!((seen.infrastructure, &seen.workload, &seen.result), (Booted, &None, &None));
    assert_eq!(seen.labels["user.run"], "7");
    assert_eq!(seen.image.as_deref(), Some(ensured.image.fingerprint.as_str()));
    assert!(seen.pid > 0);

    let started = incus.start_detached(&plan, &script("echo one; echo two; exit 3")).unwrap();
    // All that another process needs is what is written down.
    let written = serde_json::to_string(&started).unwrap();
    drop(incus);
    let started: Started = serde_json::from_str(&written).unwrap();
    let incus = crate::common::incus(&rig);
    let (mut progress, mut record) = (Progress { stdout: 4, ..Progress::default() }, Record::default());
    let ended = incus.follow(&started, &plan.paths, &Limits::default(), &mut progress, &mut record).unwrap();
    assert_eq!(exit_code(&ended), 3);
    assert_eq!(record.text(), "two\n", "what was handed on before does not come again");
    assert_eq!((progress.stdout, progress.last_seq), (8, 3));

    // Also after the end, from what the guest wrote.
    let mut again = Progress::default();
    let ended = incus.follow(&started, &plan.paths, &Limits::default(), &mut again, &mut Silence).unwrap();
    assert_eq!((exit_code(&ended), again), (3, progress));

    incus.stop(&ensured.instance).unwrap();
    incus.stop(&ensured.instance).unwrap();
    let seen = incus.inspect(&ensured.instance, &plan.paths).unwrap();
    assert_eq!(seen.infrastructure, LifecycleState::Stopped);
    assert_eq!(seen.workload.unwrap().state, Failed, "a stopped guest still shows what it said");
    assert_eq!(seen.result.unwrap().exit_code, Some(3));

    incus.destroy(&ensured.instance).unwrap();
    incus.destroy(&ensured.instance).unwrap();
    let seen = incus.inspect(&ensured.instance, &plan.paths).unwrap();
    assert_eq!(seen.infrastructure, LifecycleState::Destroyed);
    let ended = incus.follow(&started, &plan.paths, &Limits::default(), &mut again, &mut Silence).unwrap();
    assert_eq!(ended, Ended::Deleted);
    assert_nothing_left(&project);
}

#[test]
fn output_comes_while_the_command_runs_and_all_of_it() {
    let Some(rig) = Rig::up("output_comes_while_the_command_runs_and_all_of_it") else { return };
    let project = rig.project(4).unwrap();
    let gate = project.make_dir("gate").unwrap();
    let plan = spec(&rig, &project, "prints")
        .with_mount(pika_cloud::RuntimeMount::artifact_output(gate.to_str().unwrap(), "/gate").require())
        .plan()
        .unwrap();
    // It goes on only once its first line was seen here.
    let open = gate.join("open");
    let mut record = Record::once_printed("first", move || std::fs::write(&open, "").unwrap());
    let work = "echo first; until [ -e /gate/open ]; do sleep 0.05; done; seq 1 200000; printf 'no newline'";
    let outcome = incus(&rig).run(&plan, &course(work), &mut record).unwrap();
    assert_completed(&outcome);
    let expected: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    assert_eq!(record.text(), format!("first\n{expected}no newline"));
    assert_nothing_left(&project);
}

#[test]
fn a_thousand_artifacts_come_back_bit_for_bit() {
    let Some(rig) = Rig::up("a_thousand_artifacts_come_back_bit_for_bit") else { return };
    let project = rig.project(4).unwrap();
    let into = tempfile::tempdir().unwrap();
    let plan = spec(&rig, &project, "many")
        .with_policies(RuntimePolicies {
            output_collection: OutputCollectionPolicy {
                artifact_globs: vec!["**".into()],
                ..OutputCollectionPolicy::default()
            },
            ..RuntimePolicies::default()
        })
        .plan()
        .unwrap();
    let work = "cd /run/pika-cloud/artifacts; for d in $(seq 10); do mkdir \"d $d\"; for f in $(seq 100); do \
                head -c 20000 /dev/urandom >\"d $d/f%2f$f\"; done; done; head -c 30000000 /dev/urandom >big; \
                : >empty; find . -type f -exec sha256sum {} + >/root/sums; cat /root/sums";
    let mut course = course(work);
    course.output = Some(into.path().to_owned());
    let mut record = Record::default();
    let outcome = incus(&rig).run(&plan, &course, &mut record).unwrap();
    assert_completed(&outcome);
    let sums = record.text();
    assert_eq!(sums.lines().count(), 1002);
    for line in sums.lines() {
        let (sum, name) = line.split_once("  ").unwrap();
        let content = std::fs::read(into.path().join("files").join(name)).unwrap();
        assert_eq!(hex(&content), sum, "{name}");
    }
    assert_nothing_left(&project);
}

fn hex(content: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}
