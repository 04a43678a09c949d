//! Guests of a host over SSH.

use std::fs;

use jericho_host::{CancelReason, CancelToken};
use jericho_testkit::incus::Rig;
use jericho_testkit::ssh;
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::{ReapOptions, RunRequest};

use crate::doomed::doomed_engine;
use crate::rig::{World, await_file, guest, job, monotonic, on_host};

#[test]
fn a_guest_of_a_host_sees_the_snapshot_that_was_sent_there() {
    let test = "a_guest_of_a_host_sees_the_snapshot_that_was_sent_there";
    let Some(rig) = Rig::up(test) else { return };
    let Some(sshd) = ssh::Rig::start(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let world = world.with_host(&sshd);
    let run = world.run(vec![on_host(guest("hello", "pwd; cat a.txt src/b.txt; id -u"))]);
    assert_eq!(run.verdict, Verdict::Passed, "{}", world.host_log(&run, "hello"));
    assert_eq!(world.guest_log(&run, "hello"), "/workspace/snapshot\none\ntwo\n1000\n");
    assert_eq!(job(&run, "hello").warnings, Vec::<String>::new());
    world.assert_nothing_left();
}

#[test]
fn each_run_sees_its_own_source_and_a_cancelled_one_leaves_nothing_on_the_host() {
    let test = "each_run_sees_its_own_source_and_a_cancelled_one_leaves_nothing_on_the_host";
    let Some(rig) = Rig::up(test) else { return };
    let Some(sshd) = ssh::Rig::start(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let world = world.with_host(&sshd);
    for text in ["one\n", "two\n", "one\n"] {
        fs::write(world.root.join("a.txt"), text).unwrap();
        let mut writable = on_host(guest("writable", "cat a.txt; echo changed >a.txt"));
        writable.writable_workspace = true;
        let run = world.run(vec![on_host(guest("show", "cat a.txt")), writable]);
        assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
        for id in ["show", "writable"] {
            assert_eq!(world.guest_log(&run, id), text);
            assert_eq!(job(&run, id).warnings, Vec::<String>::new());
        }
    }
    let cancel = CancelToken::new().unwrap();
    let before: Vec<_> = fs::read_dir(world.config.state_root.join("runs")).unwrap().flatten().collect();
    let run = std::thread::scope(|scope| {
        let endless = on_host(guest("endless", "echo begun; sleep 300"));
        let running = scope.spawn(|| world.run_until(&RunRequest::new(vec![endless]), &cancel));
        await_file(&world.config.state_root.join("runs"), "guest.log", "begun");
        cancel.cancel(CancelReason::Signal);
        running.join().unwrap()
    });
    assert_eq!(before.len(), 3);
    assert_eq!(run.verdict, Verdict::Failed(FailureKind::Cancelled));
    assert_eq!(world.guest_log(&run, "endless"), "begun\n");
    world.assert_nothing_left();
    // No snapshot is leased any more.
    let leases = project.dir().join("work/leases");
    let of_snapshots = fs::read_dir(&leases).unwrap().flatten().map(|entry| entry.path());
    let left: Vec<_> =
        of_snapshots.flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_guest_that_is_kept_on_a_host_is_listed_and_ended_when_its_time_has_come() {
    let test = "a_guest_that_is_kept_on_a_host_is_listed_and_ended_when_its_time_has_come";
    let Some(rig) = Rig::up(test) else { return };
    let Some(sshd) = ssh::Rig::start(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let world = world.with_host(&sshd);
    let mut request = RunRequest::new(vec![on_host(guest("bad", "exit 1"))]);
    request.options.keep_on_failure = true;
    let run = world.run_request(&request);
    let kept = job(&run, "bad").remote_linux_vm_execution.as_ref().unwrap().kept.clone().unwrap();
    assert_eq!(kept.host.as_deref(), Some("box"));
    let cancel = CancelToken::new().unwrap();
    let listed = world.engine().kept_instances(&ReapOptions::default(), &cancel).unwrap();
    assert_eq!(
        (listed.kept.as_slice(), listed.problems.len()),
        (std::slice::from_ref(&kept), 0),
        "{listed:?}"
    );
    assert_eq!(project.exec(&kept.instance, "cat /workspace/snapshot/a.txt").unwrap(), "one\n");
    let past = serde_json::json!({ "config": { "user.jerichoci.keep_until": "1970-01-01T00:00:00Z" } });
    let path = format!("/1.0/instances/{}?project={}", kept.instance, project.name());
    rig.ask("PATCH", &path, Some(&past)).unwrap();
    // The next run that meets that host sees to it.
    let next = world.run(vec![on_host(guest("next", "true"))]);
    assert_eq!(next.verdict, Verdict::Passed, "{next:#?}");
    assert!(next.warnings.iter().any(|warning| warning.contains(&kept.instance)), "{:?}", next.warnings);
    world.assert_nothing_left();
}

#[test]
fn what_a_killed_engine_left_on_a_host_is_collected_and_ended_by_the_next_run_there() {
    let test = "what_a_killed_engine_left_on_a_host_is_collected_and_ended_by_the_next_run_there";
    let Some(rig) = Rig::up(test) else { return };
    let Some(sshd) = ssh::Rig::start(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let world = world.with_host(&sshd);
    let mut child = doomed_engine(&world);
    let runs = world.config.state_root.join("runs");
    await_file(&runs, "guest.log", "begun");
    child.kill().unwrap();
    child.wait().unwrap();
    let [orphan] = project.instances().unwrap().try_into().unwrap();
    project.exec(&orphan, "echo more >>/var/lib/pika-cloud/logs/guest.log").unwrap();
    let next = world.run(vec![on_host(guest("next", "true"))]);
    assert_eq!(next.verdict, Verdict::Passed, "{next:#?}");
    world.assert_nothing_left();
    let logs: Vec<_> = fs::read_dir(&runs)
        .unwrap()
        .flatten()
        .map(|run| {
            fs::read_to_string(run.path().join("jobs/endless/artifacts/guest.log")).unwrap_or_default()
        })
        .collect();
    assert!(logs.iter().any(|log| log == "begun\nmore\n"), "{logs:?}");
}

#[test]
fn a_host_that_does_not_let_guests_be_made_or_cannot_be_reached_says_so() {
    let test = "a_host_that_does_not_let_guests_be_made_or_cannot_be_reached_says_so";
    let Some(rig) = Rig::up(test) else { return };
    let Some(sshd) = ssh::Rig::start(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let mut world = world.with_host(&sshd);
    let errored = |world: &World<'_>, words: &str| {
        let run = world.run(vec![on_host(guest("bad", "true"))]);
        let record = job(&run, "bad").clone();
        assert_eq!(record.verdict, Verdict::Failed(FailureKind::Infrastructure), "{record:#?}");
        assert!(record.message.as_ref().unwrap().contains(words), "{:?}", record.message);
        world.assert_nothing_left();
    };
    let mut host = world.config.hosts.named["box"].clone();
    host.allow.clear();
    world.config.hosts.named.insert("box".to_owned(), host.clone());
    errored(&world, "box");
    host.allow.push(jerichoci::model::job::JobRuntimeKind::Incus);
    host.incus.project = "nowhere".to_owned();
    world.config.hosts.named.insert("box".to_owned(), host.clone());
    errored(&world, "incus project create nowhere");
    host.incus.socket = "/nonexistent/incus.socket".into();
    world.config.hosts.named.insert("box".to_owned(), host.clone());
    world.config.hosts.reconnect = std::time::Duration::from_secs(3);
    errored(&world, "Incus");
    host.ssh = "nowhere.invalid".to_owned();
    world.config.hosts.named.insert("box".to_owned(), host);
    errored(&world, "nowhere.invalid");
}

#[test]
fn a_cancellation_while_the_host_is_away_names_what_is_left_and_the_next_run_there_ends_it() {
    let test = "a_cancellation_while_the_host_is_away_names_what_is_left_and_the_next_run_there_ends_it";
    let Some(rig) = Rig::up(test) else { return };
    let Some(mut sshd) = ssh::Rig::start(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let world = world.with_host(&sshd);
    let cancel = CancelToken::new().unwrap();
    let (run, spent) = std::thread::scope(|scope| {
        let endless = on_host(guest("endless", "echo begun; sleep 300"));
        let running = scope.spawn(|| world.run_until(&RunRequest::new(vec![endless]), &cancel));
        await_file(&world.config.state_root.join("runs"), "guest.log", "begun");
        sshd.stop();
        let begun = monotonic();
        cancel.cancel(CancelReason::Signal);
        (running.join().unwrap(), monotonic().saturating_sub(begun))
    });
    assert!(spent < std::time::Duration::from_secs(6), "{spent:?}");
    let record = job(&run, "endless");
    assert_eq!(record.verdict, Verdict::Failed(FailureKind::Cancelled));
    let [left] = project.instances().unwrap().try_into().unwrap();
    // It was not ended, so nobody says so; the job was told before that was known.
    let [told] = record.left_behind.as_slice() else { panic!("{record:#?}") };
    let place = format!("instance {left} in the Incus project {} on box is still there", project.name());
    assert!(told.starts_with(&place) && told.ends_with("`pikaci reap`, ends it"), "{told}");
    assert_eq!(record.leaked, Vec::<String>::new());
    let log = world.host_log(&run, "endless");
    assert!(log.contains(&format!("left behind: {told}")), "{log}");
    let events = world.job_dir(&run, "endless").join("../../events.jsonl");
    let events = fs::read_to_string(events).unwrap();
    let warned =
        |line: &&str| line.contains("\"warning\"") && line.contains(&format!("left behind: {place}"));
    assert_eq!(events.lines().filter(warned).count(), 1, "{events}");
    sshd.restart();
    let next = world.run(vec![on_host(guest("next", "true"))]);
    assert_eq!(next.verdict, Verdict::Passed, "{next:#?}");
    world.assert_nothing_left();
}
