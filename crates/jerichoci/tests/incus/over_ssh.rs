//! Guests of a host over SSH.

use std::fs;

use jericho_host::{CancelReason, CancelToken};
use jericho_testkit::incus::Rig;
use jericho_testkit::ssh;
use jerichoci::model::job::JobPlacement;
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::{ReapOptions, RunRequest};

use crate::doomed::doomed_engine;
use crate::rig::{World, await_file, find, guest, job, monotonic, on_host};

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
fn a_host_that_is_given_up_is_told_for_as_long_as_a_guest_may_be_there_and_then_forgotten() {
    let test = "a_host_that_is_given_up_is_told_for_as_long_as_a_guest_may_be_there_and_then_forgotten";
    let Some(rig) = Rig::up(test) else { return };
    let Some(sshd) = ssh::Rig::start(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let mut world = world.with_host(&sshd);
    // The same machine by a second name, of which ssh itself knows nothing.
    let old = "old.invalid";
    let named = &mut world.config.hosts.named;
    named.insert(old.to_owned(), named["box"].clone());
    let on_old = |id: &str, script: &str| {
        let mut job = guest(id, script);
        job.placement = JobPlacement::RemoteSsh { host: old.to_owned() };
        job
    };
    assert_eq!(world.run(vec![on_host(guest("good", "true"))]).verdict, Verdict::Passed);
    let mut request = RunRequest::new(vec![on_old("bad", "exit 1")]);
    request.options.keep_on_failure = true;
    let run = world.run_request(&request);
    let kept = job(&run, "bad").remote_linux_vm_execution.as_ref().unwrap().kept.clone().unwrap();
    let cancel = CancelToken::new().unwrap();
    let look = |world: &World<'_>, options: &ReapOptions| {
        let kept = world.engine().kept_instances(options, &cancel).unwrap();
        (kept, world.engine().reap_all(options, &cancel).unwrap())
    };
    let (everywhere, here) = (ReapOptions::default(), ReapOptions { only: true, ..ReapOptions::default() });
    // It is one guest, whatever its host is called.
    let (listed, reaped) = look(&world, &everywhere);
    for report in [listed, reaped] {
        assert_eq!((report.kept.len(), report.problems.as_slice()), (1, &[][..]), "{report:?}");
    }

    let settings = world.config.hosts.named.remove(old).unwrap();
    let guests = world.config.state_root.join("guests");
    let files = || fs::read_dir(&guests).unwrap().count();
    let (listed, reaped) = look(&world, &everywhere);
    for report in [listed, reaped] {
        let [told] = report.problems.as_slice() else { panic!("{report:?}") };
        let file = told.split_once("given up for good: rm ").unwrap().1;
        assert!(told.contains(old) && file.starts_with(guests.to_str().unwrap()), "{told}");
        assert!(fs::read_to_string(file).unwrap().contains(old), "{told}");
    }
    let (listed, reaped) = look(&world, &here);
    assert_eq!((listed.problems, reaped.problems), (Vec::new(), Vec::new()));
    assert_eq!(files(), 2);

    // By its other name the guest is ended, and then nothing can be where nobody knows the way any more.
    let past = serde_json::json!({ "config": { "user.jerichoci.keep_until": "1970-01-01T00:00:00Z" } });
    let path = format!("/1.0/instances/{}?project={}", kept.instance, project.name());
    rig.ask("PATCH", &path, Some(&past)).unwrap();
    let ended = world.engine().reap_all(&everywhere, &cancel).unwrap();
    assert_eq!(ended.instances.len(), 1, "{ended:?}");
    world.assert_nothing_left();
    let (listed, reaped) = look(&world, &everywhere);
    assert_eq!((listed.problems, reaped.problems), (Vec::new(), Vec::new()));
    assert_eq!(files(), 1);

    // So it is with a project that was never there, which is no host that is away.
    let mut typo = settings;
    typo.incus.project = "nowhere".to_owned();
    world.config.hosts.named.insert(old.to_owned(), typo);
    let run = world.run(vec![on_old("bad", "true")]);
    assert_eq!(run.verdict, Verdict::Failed(FailureKind::Infrastructure));
    assert_eq!(files(), 2);
    let (listed, reaped) = look(&world, &everywhere);
    assert_eq!((listed.problems, reaped.problems), (Vec::new(), Vec::new()));
    assert_eq!(files(), 1);
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
    errored(&world, "ssh rig env INCUS_SOCKET=");
    errored(&world, "bash -s -- --account ");
    errored(&world, "--project nowhere");
    host.incus.project = project.name().to_owned();
    host.incus.image_alias = Some("no such".to_owned());
    world.config.hosts.named.insert("box".to_owned(), host.clone());
    errored(&world, " build-import --remote-host rig --remote-socket ");
    errored(&world, " --alias 'no such'");
    host.incus.socket = "/nonexistent/incus.socket".into();
    world.config.hosts.named.insert("box".to_owned(), host.clone());
    errored(&world, "no Incus answers at /nonexistent/incus.socket on rig");
    errored(&world, "it: ssh rig ");
    errored(&world, "`pikaci doctor box` says more");
    host.ssh = "nowhere.invalid".to_owned();
    world.config.hosts.named.insert("box".to_owned(), host);
    errored(&world, "nowhere.invalid");
}

#[test]
fn a_cancellation_while_the_host_says_nothing_ends_soon_whatever_the_run_is_at() {
    let test = "a_cancellation_while_the_host_says_nothing_ends_soon_whatever_the_run_is_at";
    let Some(rig) = Rig::up(test) else { return };
    let Some(sshd) = ssh::Rig::start(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let world = world.with_host(&sshd);
    let runs = world.config.state_root.join("runs");
    let begun =
        || find(&runs, "guest.log").iter().any(|log| fs::metadata(log).is_ok_and(|log| log.len() > 0));
    for (phase, has_come) in [
        // Written down before it is made.
        ("about to be made", &(|| !find(&runs, "instance.json").is_empty()) as &dyn Fn() -> bool),
        ("made", &|| !project.instances().unwrap().is_empty()),
        ("running", &begun),
    ] {
        let cancel = CancelToken::new().unwrap();
        let (run, spent) = std::thread::scope(|scope| {
            let endless = on_host(guest("endless", "echo begun; sleep 300"));
            let running = scope.spawn(|| world.run_until(&RunRequest::new(vec![endless]), &cancel));
            while !has_come() {
                std::thread::yield_now();
            }
            sshd.stop_sessions();
            let begun = monotonic();
            cancel.cancel(CancelReason::Signal);
            (running.join().unwrap(), monotonic().saturating_sub(begun))
        });
        assert!(spent < std::time::Duration::from_secs(5), "{phase}: {spent:?}");
        let record = job(&run, "endless");
        assert_eq!(run.verdict, Verdict::Failed(FailureKind::Cancelled), "{phase}: {record:#?}");
        for left in project.instances().unwrap() {
            let is_named = |line: &String| line.contains(&left) && line.contains("box");
            assert!(record.left_behind.iter().any(is_named), "{phase}: {record:#?}");
        }
        sshd.continue_sessions();
        let next = world.run(vec![on_host(guest("next", "true"))]);
        assert_eq!(next.verdict, Verdict::Passed, "{phase}: {next:#?}");
        world.assert_nothing_left();
        fs::remove_dir_all(&runs).unwrap();
    }
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
