//! How guest jobs end: by their limit, by a cancellation, kept, without their engine.

use std::fs;
use std::time::Duration;

use chrono::{DateTime, Utc};
use jericho_host::{CancelReason, CancelToken, Clock, SystemClock};
use jericho_testkit::incus::Rig;
use jericho_testkit::ssh;
use jerichoci::model::event::{JournalEntry, RunLifecycleEvent};
use jerichoci::model::job::JobSpec;
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::{Engine, GcPolicy, ReapOptions, RunRequest};

use crate::cluster::at_work;
use crate::doomed::doomed_engine;
use crate::rig::{World, guest, job, monotonic, on_host};

#[test]
fn the_limit_of_a_job_is_kept_by_its_guest_and_log_and_result_come_back() {
    let test = "the_limit_of_a_job_is_kept_by_its_guest_and_log_and_result_come_back";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let mut slow = guest("slow", "echo begun; touch $ARTIFACTS/x; sleep 300");
    slow.timeout_secs = 1;
    let run = world.run(vec![slow]);
    let record = job(&run, "slow");
    assert_eq!(record.verdict, Verdict::Failed(FailureKind::Timeout));
    assert_eq!((record.exit_code, record.message.as_deref()), (None, Some("timed out after 1s")));
    assert_eq!(world.guest_log(&run, "slow"), "begun\n");
    let artifacts = world.job_dir(&run, "slow").join("artifacts");
    assert!(fs::read_to_string(artifacts.join("result.json")).unwrap().contains("\"timeout\""));
    assert!(artifacts.join("x").exists());
    world.assert_nothing_left();
}

#[test]
fn a_cancellation_in_any_phase_ends_within_5_s_and_leaves_nothing() {
    let test = "a_cancellation_in_any_phase_ends_within_5_s_and_leaves_nothing";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    // What takes how long differs from machine to machine: times that are close together meet every phase.
    for delay in [0, 10, 30, 60, 90, 120, 160, 200, 240, 300, 400, 600] {
        let cancel = CancelToken::new().unwrap();
        let mut writable = guest("cancelled", "echo begun; sleep 300");
        writable.writable_workspace = true;
        let (run, spent) = std::thread::scope(|scope| {
            let running = scope.spawn(|| {
                let run = world.run_until(&RunRequest::new(vec![writable]), &cancel);
                (run, monotonic())
            });
            let waiter = CancelToken::new().unwrap();
            crate::rig::pause(&waiter, Duration::from_millis(delay));
            let begun = monotonic();
            cancel.cancel(CancelReason::Signal);
            let (run, ended) = running.join().unwrap();
            (run, ended.saturating_sub(begun))
        });
        assert!(spent < Duration::from_secs(5), "after {delay} ms it took {spent:?}");
        assert_eq!(run.verdict, Verdict::Failed(FailureKind::Cancelled), "{run:#?}");
        assert_eq!(
            run.jobs.iter().flat_map(|job| job.leaked.iter().chain(&job.left_behind)).count(),
            0,
            "{run:#?}"
        );
        world.assert_nothing_left();
    }
}

#[test]
fn a_cancelled_guest_has_its_last_words_in_the_log() {
    let test = "a_cancelled_guest_has_its_last_words_in_the_log";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let cancel = CancelToken::new().unwrap();
    let log = world.config.state_root.join("runs");
    let run = std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            world.run_until(&RunRequest::new(vec![guest("talking", "echo begun; sleep 300")]), &cancel)
        });
        crate::rig::await_file(&log, "guest.log", "begun");
        cancel.cancel(CancelReason::Signal);
        running.join().unwrap()
    });
    assert_eq!(job(&run, "talking").verdict, Verdict::Failed(FailureKind::Cancelled));
    assert_eq!(world.guest_log(&run, "talking"), "begun\n");
    world.assert_nothing_left();
}

#[test]
fn the_verdict_is_told_before_the_guest_is_gone() {
    let test = "the_verdict_is_told_before_the_guest_is_gone";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let mut there = Vec::new();
    let mut reporter = |entry: &JournalEntry| -> std::io::Result<()> {
        if let RunLifecycleEvent::JobFinished { .. } = &entry.event {
            there = project.instances().unwrap();
        }
        Ok(())
    };
    let request = RunRequest::new(vec![guest("told", "true")]);
    let run = world.engine().run(&request, &mut reporter, &CancelToken::new().unwrap()).unwrap();
    assert_eq!(run.verdict, Verdict::Passed);
    assert_eq!(there.len(), 1, "it was gone before its job was told");
    world.assert_nothing_left();
}

#[test]
fn a_guest_that_cannot_be_removed_is_a_warning_of_a_job_that_passed() {
    let test = "a_guest_that_cannot_be_removed_is_a_warning_of_a_job_that_passed";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let protect = |instance: &str, value: &str| {
        let path = format!("/1.0/instances/{instance}?project={}", project.name());
        let body = serde_json::json!({ "config": { "security.protection.delete": value } });
        rig.ask("PATCH", &path, Some(&body)).unwrap();
    };
    let script = "echo up; until [ -e /tmp/go ]; do sleep 0.05; done";
    let run = std::thread::scope(|scope| {
        let running = scope.spawn(|| world.run(vec![guest("job", script)]));
        let instance = at_work(&project);
        protect(&instance, "true");
        project.exec(&instance, "touch /tmp/go").unwrap();
        running.join().unwrap()
    });
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    let [left] = project.instances().unwrap().try_into().unwrap();
    let record = job(&run, "job");
    let expected = format!("instance {left} was not removed: ");
    assert!(record.warnings.iter().any(|line| line.starts_with(&expected)), "{:?}", record.warnings);
    assert!(record.leaked.iter().any(|line| line.contains(&left)), "{:?}", record.leaked);
    assert!(world.host_log(&run, "job").contains(&expected), "{}", world.host_log(&run, "job"));
    // The next one sees to it, when it can.
    protect(&left, "false");
    assert_eq!(world.run(vec![guest("job", "true")]).verdict, Verdict::Passed);
    world.assert_nothing_left();
}

#[test]
fn a_guest_that_did_not_pass_is_kept_until_its_time_and_one_that_did_is_not() {
    let test = "a_guest_that_did_not_pass_is_kept_until_its_time_and_one_that_did_is_not";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let mut request =
        RunRequest::new(vec![guest("good", "true"), guest("bad", "echo x >/tmp/evidence; exit 1")])
            .keep_going(true);
    request.options.keep_on_failure = true;
    let run = world.run_request(&request);
    let record = job(&run, "bad");
    let guest_of = record.remote_linux_vm_execution.as_ref().unwrap();
    let kept = guest_of.kept.clone().unwrap();
    assert_eq!(project.instances().unwrap(), std::slice::from_ref(&kept.instance));
    assert_eq!(
        project.exec(&kept.instance, "cat /tmp/evidence /workspace/snapshot/a.txt").unwrap(),
        "x\none\n"
    );
    let log = world.host_log(&run, "bad");
    assert!(
        log.contains(&kept.instance) && log.contains(&format!("pikaci shell {} bad", run.run_id)),
        "{log}"
    );
    let stored = fs::read_to_string(world.job_dir(&run, "bad").join("status.json")).unwrap();
    assert!(stored.contains(&kept.instance), "{stored}");

    // It still sees its source when other runs have come, and none of them ends it before its time.
    fs::write(world.root.join("a.txt"), "two\n").unwrap();
    assert_eq!(world.run(vec![guest("next", "cat a.txt")]).verdict, Verdict::Passed);
    assert_eq!(project.exec(&kept.instance, "cat /workspace/snapshot/a.txt").unwrap(), "one\n");
    let cancel = CancelToken::new().unwrap();
    let options = ReapOptions::default();
    let listed = world.engine().kept_instances(&options, &cancel).unwrap();
    assert_eq!(listed.kept, std::slice::from_ref(&kept));
    assert_eq!(listed.problems, Vec::<String>::new());

    let later = Engine::with_parts(
        world.config.clone(),
        std::sync::Arc::new(jericho_host::LocalHost::new()),
        std::sync::Arc::new(jericho_host::SystemClock),
        std::sync::Arc::new(jericho_host::SystemIds),
    );
    assert_eq!(later.reap_all(&options, &cancel).unwrap().kept, std::slice::from_ref(&kept));
    let past = DateTime::<Utc>::UNIX_EPOCH.to_rfc3339();
    rig.ask(
        "PATCH",
        &format!("/1.0/instances/{}?project={}", kept.instance, project.name()),
        Some(&serde_json::json!({ "config": { "user.jerichoci.keep_until": past } })),
    )
    .unwrap();
    let reaped = later.reap_all(&options, &cancel).unwrap();
    assert_eq!(reaped.instances.len(), 1, "{reaped:?}");
    world.assert_nothing_left();
}

#[test]
fn a_collection_keeps_the_run_of_a_guest_that_is_kept_until_its_time() {
    let test = "a_collection_keeps_the_run_of_a_guest_that_is_kept_until_its_time";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    collect_around_a_kept_guest(&world, guest("bad", "exit 1"));
}

#[test]
fn a_collection_keeps_the_run_of_a_guest_that_is_kept_on_a_host_until_its_time() {
    let test = "a_collection_keeps_the_run_of_a_guest_that_is_kept_on_a_host_until_its_time";
    let Some(rig) = Rig::up(test) else { return };
    let Some(sshd) = ssh::Rig::start(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    collect_around_a_kept_guest(&world.with_host(&sshd), on_host(guest("bad", "exit 1")));
}

/// Keeps the guest of a job that fails, and collects with each limit, until its time is over.
fn collect_around_a_kept_guest(world: &World<'_>, bad: JobSpec) {
    let mut request = RunRequest::new(vec![bad]);
    request.options.keep_on_failure = true;
    let run = world.run_request(&request);
    let kept = job(&run, "bad").remote_linux_vm_execution.as_ref().unwrap().kept.clone().unwrap();
    fs::write(world.root.join("a.txt"), "two\n").unwrap();
    let nothing = GcPolicy { keep_runs: 0, ..GcPolicy::default() };
    let old = GcPolicy { max_age: Some(Duration::ZERO), ..GcPolicy::default() };
    let small = GcPolicy { max_bytes: Some(0), ..GcPolicy::default() };
    for policy in [&nothing, &old, &small] {
        for dry_run in [true, false] {
            let report = world.engine().gc(&GcPolicy { dry_run, ..policy.clone() }).unwrap();
            assert_eq!(report.removed_runs, Vec::<String>::new(), "{report:?}");
            assert_eq!(report.kept_guests, std::slice::from_ref(&run.run_id), "{report:?}");
        }
    }
    let seen = world.project.exec(&kept.instance, "cat /workspace/snapshot/a.txt").unwrap();
    assert_eq!(seen, "one\n");
    assert!(world.engine().snapshot_tree(&run.run_id.parse().unwrap()).is_ok());

    // Also when nobody has ended it by then.
    let clock = Later(chrono::Duration::hours(3));
    let later = Engine::with_parts(
        world.config.clone(),
        std::sync::Arc::new(jericho_host::LocalHost::new()),
        std::sync::Arc::new(clock),
        std::sync::Arc::new(jericho_host::SystemIds),
    );
    let report = later.gc(&nothing).unwrap();
    assert_eq!((report.removed_runs, report.kept_guests), (vec![run.run_id], Vec::new()));
}

/// A clock that is ahead.
#[derive(Debug)]
struct Later(chrono::Duration);

impl Clock for Later {
    fn now(&self) -> DateTime<Utc> {
        SystemClock.now() + self.0
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }
}

#[test]
fn a_job_that_is_tried_again_gets_a_fresh_guest() {
    let test = "a_job_that_is_tried_again_gets_a_fresh_guest";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let mut flaky = guest("flaky", "ls /tmp/been-here 2>/dev/null && exit 9; touch /tmp/been-here; exit 3");
    flaky.retries = 1;
    let mut request = RunRequest::new(vec![flaky]);
    request.options.keep_on_failure = true;
    let run = world.run_request(&request);
    let record = job(&run, "flaky");
    assert_eq!(record.exit_code, Some(3));
    assert_eq!(record.attempts.len(), 2);
    // Only the last one is kept.
    assert_eq!(project.instances().unwrap().len(), 1);
    assert!(record.remote_linux_vm_execution.as_ref().unwrap().kept.is_some());
    for attempt in ["attempts/1", "."] {
        assert!(world.job_dir(&run, "flaky").join(attempt).join("artifacts/result.json").exists());
    }
}

#[test]
fn after_the_engine_was_killed_the_next_command_collects_the_log_and_ends_the_guest() {
    let test = "after_the_engine_was_killed_the_next_command_collects_the_log_and_ends_the_guest";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let mut child = doomed_engine(&world);
    let runs = world.config.state_root.join("runs");
    crate::rig::await_file(&runs, "guest.log", "begun");
    child.kill().unwrap();
    child.wait().unwrap();
    // What was said after the engine had died is collected too.
    let [orphan] = project.instances().unwrap().try_into().unwrap();
    project.exec(&orphan, "echo more >>/var/lib/pika-cloud/logs/guest.log").unwrap();

    let next = world.run(vec![guest("next", "true")]);
    assert_eq!(next.verdict, Verdict::Passed, "{next:#?}");
    world.assert_nothing_left();
    let ids: Vec<_> = fs::read_dir(&runs).unwrap().flatten().map(|entry| entry.file_name()).collect();
    let killed = ids.iter().find(|id| **id != next.run_id.as_str()).unwrap().to_str().unwrap();
    let record = jerichoci::load_run_record(&world.config.state_root, &killed.parse().unwrap()).unwrap();
    assert_eq!(record.verdict, Verdict::Failed(FailureKind::Interrupted));
    let dir = world.job_dir(&record, "endless");
    assert_eq!(fs::read_to_string(dir.join("artifacts/guest.log")).unwrap(), "begun\nmore\n");
    assert!(dir.join("artifacts/status.json").exists());
    assert!(!dir.join("instance.json").exists());
    assert!(next.warnings.iter().any(|warning| warning.contains(&orphan)), "{:?}", next.warnings);
}

#[test]
fn a_collection_ends_the_guests_that_a_dead_engine_has_left_and_no_other() {
    let test = "a_collection_ends_the_guests_that_a_dead_engine_has_left_and_no_other";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let source = serde_json::json!({ "type": "image", "alias": rig.image_alias() });
    let body = serde_json::json!({ "name": "somebodys", "source": source });
    rig.ask("POST", &format!("/1.0/instances?project={}", project.name()), Some(&body)).unwrap();
    let mut child = doomed_engine(&world);
    crate::rig::await_file(&world.config.state_root.join("runs"), "guest.log", "begun");
    child.kill().unwrap();
    child.wait().unwrap();
    let gc = |dry_run| world.engine().gc(&GcPolicy { dry_run, ..GcPolicy::default() }).unwrap();
    assert_eq!(gc(true).problems, Vec::<String>::new());
    assert_eq!(project.instances().unwrap().len(), 2, "who only looks ends nothing");
    assert_eq!(gc(false).problems, Vec::<String>::new());
    assert_eq!(project.instances().unwrap(), ["somebodys"]);
}

#[test]
fn the_guests_of_another_engine_are_left_alone_until_their_lease_is_over() {
    let test = "the_guests_of_another_engine_are_left_alone_until_their_lease_is_over";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let mut request = RunRequest::new(vec![guest("bad", "exit 1")]);
    request.options.keep_on_failure = true;
    world.run_request(&request);
    let [kept] = project.instances().unwrap().try_into().unwrap();

    let mut other = World::new(&rig, &project, test).unwrap();
    other.config.state_root = project.dir().join("other-state");
    assert_eq!(other.run(vec![guest("own", "true")]).verdict, Verdict::Passed);
    let cancel = CancelToken::new().unwrap();
    for expired in [false, true] {
        let options = ReapOptions { expired, ..ReapOptions::default() };
        let reaped = other.engine().reap_all(&options, &cancel).unwrap();
        assert_eq!((reaped.instances.len(), reaped.kept.len()), (0, 0), "{reaped:?}");
    }
    let past = DateTime::<Utc>::UNIX_EPOCH.to_rfc3339();
    rig.ask(
        "PATCH",
        &format!("/1.0/instances/{kept}?project={}", project.name()),
        Some(&serde_json::json!({ "config": {
            "user.jerichoci.keep_until": past, "user.jerichoci.lease_until": past } })),
    )
    .unwrap();
    assert_eq!(other.engine().reap_all(&ReapOptions::default(), &cancel).unwrap().instances.len(), 0);
    let options = ReapOptions { expired: true, ..ReapOptions::default() };
    assert_eq!(other.engine().reap_all(&options, &cancel).unwrap().instances.len(), 1);
    world.assert_nothing_left();
}
