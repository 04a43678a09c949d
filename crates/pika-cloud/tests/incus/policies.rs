//! Every policy, acting.

use jericho_testkit::incus::Rig;
use pika_cloud::ops::{Ended, Limits, Note, Silence, Watchdog};
use pika_cloud::{
    LifecycleState, OutputCollectionMode, OutputCollectionPolicy, RestartPolicy, RetentionPolicy,
    RuntimePolicies,
};
use std::time::Duration;

use crate::common::{Record, assert_nothing_left, course, exit_code, incus, script, spec};

fn restarts(policy: RestartPolicy) -> RuntimePolicies {
    RuntimePolicies { restart_policy: policy, ..RuntimePolicies::default() }
}

fn keeps(policy: RetentionPolicy) -> RuntimePolicies {
    RuntimePolicies { retention_policy: policy, ..RuntimePolicies::default() }
}

/// Counts its attempts on the guest's root disk; the third one is well.
const THIRD_TIME_LUCKY: &str = "echo x >>/root/tries; [ $(wc -l </root/tries) -ge 3 ]";

#[test]
fn on_failure_restarts_until_it_is_well() {
    let Some(rig) = Rig::up("on_failure_restarts_until_it_is_well") else { return };
    let project = rig.project(4).unwrap();
    let plan =
        spec(&rig, &project, "lucky").with_policies(restarts(RestartPolicy::OnFailure)).plan().unwrap();
    let mut record = Record::default();
    let outcome = incus(&rig).run(&plan, &course(THIRD_TIME_LUCKY), &mut record).unwrap();
    assert_eq!((exit_code(&outcome.ended), outcome.attempts), (0, 3));
    let restarts = record.notes.iter().filter(|note| matches!(note, Note::Restarting { .. })).count();
    assert_eq!(restarts, 2);
    assert_eq!(record.seqs, (1..=9).collect::<Vec<u64>>(), "one journal, each event once");
    assert_nothing_left(&project);
}

#[test]
fn never_does_not_restart_and_always_does_so_after_success() {
    let Some(rig) = Rig::up("never_does_not_restart_and_always_does_so_after_success") else { return };
    let project = rig.project(4).unwrap();
    for (policy, attempts) in [(RestartPolicy::Never, 1), (RestartPolicy::Always, 2)] {
        let plan = spec(&rig, &project, "again").with_policies(restarts(policy)).plan().unwrap();
        let mut course = course("true");
        course.attempts = Some(2);
        let outcome = incus(&rig).run(&plan, &course, &mut Silence).unwrap();
        assert_eq!(outcome.attempts, attempts, "{policy:?}");
        assert_nothing_left(&project);
    }
}

#[test]
fn a_guest_that_was_stopped_is_started_again() {
    let Some(rig) = Rig::up("a_guest_that_was_stopped_is_started_again") else { return };
    let project = rig.project(4).unwrap();
    let plan = spec(&rig, &project, "back").with_policies(restarts(RestartPolicy::OnFailure)).plan().unwrap();
    // The first attempt ends the whole guest, the second one finds its trace.
    let work = "[ -e /root/was ] && exit 0; touch /root/was; kill -TERM 1; sleep 300";
    let mut record = Record::default();
    let outcome = incus(&rig).run(&plan, &course(work), &mut record).unwrap();
    assert_eq!((exit_code(&outcome.ended), outcome.attempts), (0, 2), "{record:?}");
    assert!(record.host.contains(&LifecycleState::Stopped), "{record:?}");
    assert_nothing_left(&project);
}

#[test]
fn a_kept_guest_is_kept_as_its_policy_says() {
    let Some(rig) = Rig::up("a_kept_guest_is_kept_as_its_policy_says") else { return };
    let project = rig.project(4).unwrap();
    let incus = incus(&rig);
    for (policy, kept) in [
        (RetentionPolicy::DestroyOnCompletion, false),
        (RetentionPolicy::KeepUntilStopped, true),
        (RetentionPolicy::DebugKeep, true),
    ] {
        let plan = spec(&rig, &project, "kept").with_policies(keeps(policy)).plan().unwrap();
        let outcome = incus.run(&plan, &course("exit 1"), &mut Silence).unwrap();
        assert_eq!(outcome.kept, kept, "{policy:?}");
        assert_eq!(project.instances().unwrap().len(), usize::from(kept), "{policy:?}");
        if kept {
            assert_eq!(project.exec("kept", "cat /run/pika-cloud/status.json | wc -l").unwrap(), "1\n");
            incus.destroy(&pika_cloud::ops::InstanceRef::of(&plan)).unwrap();
        }
    }
    // Its owner has stopped it: that is what it was kept until.
    let plan = spec(&rig, &project, "ended").with_policies(keeps(RetentionPolicy::KeepUntilStopped)).plan();
    let outcome = incus.run(&plan.unwrap(), &course("kill -TERM 1; sleep 300"), &mut Silence).unwrap();
    assert_eq!((outcome.ended, outcome.kept), (Ended::Stopped, false));
    assert_nothing_left(&project);
}

#[test]
fn output_is_collected_as_the_mode_says() {
    let Some(rig) = Rig::up("output_is_collected_as_the_mode_says") else { return };
    let project = rig.project(4).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (mode, code, collected) in [
        (OutputCollectionMode::None, 1, false),
        (OutputCollectionMode::FailureOnly, 0, false),
        (OutputCollectionMode::FailureOnly, 1, true),
        (OutputCollectionMode::Always, 0, true),
    ] {
        let output_collection = OutputCollectionPolicy { mode, ..OutputCollectionPolicy::default() };
        let plan = spec(&rig, &project, "output")
            .with_policies(RuntimePolicies { output_collection, ..RuntimePolicies::default() })
            .plan()
            .unwrap();
        let mut course = course(&format!("exit {code}"));
        course.output = Some(dir.path().join(format!("{mode:?}-{code}")));
        let outcome = incus(&rig).run(&plan, &course, &mut Silence).unwrap();
        assert_eq!(!outcome.collected.files.is_empty(), collected, "{mode:?} {code}");
        assert_eq!(course.output.unwrap().join("result.json").exists(), collected, "{mode:?} {code}");
    }
    assert_nothing_left(&project);
}

#[test]
fn only_what_the_policy_includes_is_collected() {
    let Some(rig) = Rig::up("only_what_the_policy_includes_is_collected") else { return };
    let project = rig.project(4).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let plan = spec(&rig, &project, "parts")
        .with_policies(RuntimePolicies {
            output_collection: OutputCollectionPolicy {
                mode: OutputCollectionMode::Always,
                include_logs: false,
                include_result: true,
                artifact_globs: Vec::new(),
            },
            ..RuntimePolicies::default()
        })
        .plan()
        .unwrap();
    let mut course = course("touch /run/pika-cloud/artifacts/a");
    course.output = Some(dir.path().to_owned());
    let outcome = incus(&rig).run(&plan, &course, &mut Silence).unwrap();
    let names: Vec<_> = outcome.collected.files.iter().map(|(name, _)| name.to_str().unwrap()).collect();
    assert_eq!(names, ["result.json", "status.json", "events.jsonl"]);
    assert_nothing_left(&project);
}

#[test]
fn the_watchdog_ends_what_never_gets_ready_and_lets_live_what_does() {
    let Some(rig) = Rig::up("the_watchdog_ends_what_never_gets_ready_and_lets_live_what_does") else {
        return;
    };
    let project = rig.project(4).unwrap();
    let watchdog = |within| Some(Watchdog { state: LifecycleState::Ready, within });
    let incus = incus(&rig);

    let plan = spec(&rig, &project, "never").plan().unwrap();
    let mut course = course("sleep 300");
    course.limits = Limits { watchdog: watchdog(Duration::from_secs(1)), time_limit: None };
    let mut record = Record::default();
    let outcome = incus.run(&plan, &course, &mut record).unwrap();
    assert_eq!(outcome.ended, Ended::NotReady);
    assert!(!record.guest.contains(&LifecycleState::Ready));
    assert_nothing_left(&project);

    // Ready, and then at work for longer than the watchdog waits.
    let plan = spec(&rig, &project, "ready").plan().unwrap();
    let mut course = crate::common::course("say ready; sleep 6");
    course.limits = Limits { watchdog: watchdog(Duration::from_secs(5)), time_limit: None };
    let mut record = Record::default();
    let outcome = incus.run(&plan, &course, &mut record).unwrap();
    assert_eq!(exit_code(&outcome.ended), 0);
    assert!(record.guest.contains(&LifecycleState::Ready));
    assert_nothing_left(&project);
}

#[test]
fn the_time_limit_ends_the_guest_and_brings_its_output_back() {
    let Some(rig) = Rig::up("the_time_limit_ends_the_guest_and_brings_its_output_back") else { return };
    let project = rig.project(4).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let plan = spec(&rig, &project, "endless").plan().unwrap();
    let mut course = course("echo begun; sleep 300");
    course.limits.time_limit = Some(Duration::from_secs(2));
    course.output = Some(dir.path().to_owned());
    let mut record = Record::default();
    let outcome = incus(&rig).run(&plan, &course, &mut record).unwrap();
    assert_eq!(outcome.ended, Ended::TimeLimit);
    assert_eq!(record.text(), "begun\n");
    assert_eq!(std::fs::read_to_string(dir.path().join("logs/guest.log")).unwrap(), "begun\n");
    assert_nothing_left(&project);
}

#[test]
fn a_result_of_an_earlier_attempt_is_not_taken_for_that_of_a_later_one() {
    let Some(rig) = Rig::up("a_result_of_an_earlier_attempt_is_not_taken_for_that_of_a_later_one") else {
        return;
    };
    let project = rig.project(4).unwrap();
    let plan = spec(&rig, &project, "stale").plan().unwrap();
    let incus = incus(&rig);
    let ensured = incus.ensure(&plan, &mut Silence).unwrap();
    let follow = |work: &str| {
        let started = incus.start_detached(&plan, &script(work)).unwrap();
        let mut progress = pika_cloud::ops::Progress::default();
        incus.follow(&started, &plan.paths, &Limits::default(), &mut progress, &mut Silence).unwrap()
    };
    assert_eq!(exit_code(&follow("exit 0")), 0);
    let killed = follow("kill -9 $(cat /tmp/entry.pid)");
    assert!(matches!(killed, Ended::NoResult { .. }), "{killed:?}");
    incus.destroy(&ensured.instance).unwrap();
    assert_nothing_left(&project);
}
