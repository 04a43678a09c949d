//! Several who use one work dir: jobs, engines, and those that died.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use jericho_host::CancelReason;
use jericho_host::sys::own_identity;
use jerichoci::remote::sync::{Holder, How, Lease, SyncError, Told, deliver, hold, release};
use jerichoci::snapshot::{Snapshot, SnapshotMetadata};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use crate::rig::{Client, Rig, engine_lease, token, wait_for_end};

#[test]
fn no_engine_sees_another_ones_tree_change_while_it_has_leased_it() {
    let Some(rig) = Rig::start() else { return };
    let take = |what: &str| {
        for number in 0..40 {
            rig.write(&format!("d{}/f{number}", number % 5), &format!("{what} {number}\n"));
        }
        rig.write("same", "in both\n");
        rig.take()
    };
    let (a, b) = (take("a"), take("b"));
    let other = rig.another_client("engine-2");
    let rounds = |client: &Client, mine: [&Snapshot; 2], lease: &str| {
        for round in 0..12 {
            let snapshot = mine[round % 2];
            let (delivered, lines) = rig.deliver_as(client, snapshot, &engine_lease(lease));
            let path = delivered.unwrap_or_else(|error| panic!("{error:?} {lines:?}")).path;
            for _ in 0..3 {
                rig.assert_has(snapshot);
            }
            assert_eq!(path, rig.tree_of(&snapshot.hash));
            release(&client.remote(), &snapshot.hash, lease, &token()).unwrap();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| rounds(&rig.client, [&a, &b], "j1"));
        scope.spawn(|| rounds(&other, [&b, &a], "j2"));
    });
}

#[test]
fn a_tree_that_another_engine_used_last_is_not_taken_from_it() {
    let Some(rig) = Rig::start() else { return };
    rig.write("a", "one\n");
    rig.write("b", "two\n");
    let first = rig.take();
    rig.deliver(&first, "j").unwrap();
    rig.release(&first, "j");
    rig.write("a", "changed\n");
    let second = rig.take();
    let other = rig.another_client("engine-2");
    let delivered = rig.deliver_as(&other, &second, &engine_lease("j")).0.unwrap();
    assert_eq!((delivered.how, delivered.sent_files), (How::Linked, 1));
    rig.assert_has(&first);
    rig.assert_has(&second);
}

#[test]
fn jobs_that_want_one_snapshot_at_once_have_it_sent_once() {
    let Some(rig) = Rig::start() else { return };
    rig.write("a", &"a".repeat(3_000_000));
    let snapshot = rig.take();
    let mut ways: Vec<How> = std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..6)
            .map(|job| {
                let (rig, snapshot) = (&rig, &snapshot);
                scope.spawn(move || rig.deliver(snapshot, &format!("j{job}")).unwrap().how)
            })
            .collect();
        jobs.into_iter().map(|job| job.join().unwrap()).collect()
    });
    ways.retain(|how| *how != How::AlreadyThere);
    assert_eq!(ways, [How::Full]);
    assert_eq!(
        fs::read_dir(rig.work_dir().join("leases").join(snapshot.hash.to_string())).unwrap().count(),
        6
    );
}

/// Process ids of receivers below the sshd.
fn receivers(rig: &Rig) -> Vec<u32> {
    let is_receiver = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        words.next().is_some_and(|program| program.ends_with(b"jerichoci-incus-run"))
            && words.next() == Some(b"store")
    };
    rig.sshd.everything().into_iter().filter(is_receiver).collect()
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_killed_receiver_costs_an_attempt_and_leaves_nothing() {
    let Some(rig) = Rig::start() else { return };
    rig.write("a", &"0123456789".repeat(3_000_000));
    rig.write("b", "two\n");
    let snapshot = rig.take();
    let mut lines = Vec::new();
    let killed = AtomicBool::new(false);
    let delivered = deliver(
        &rig.client.remote(),
        &rig.store,
        &snapshot.manifest,
        &SnapshotMetadata::new(&snapshot, std::path::Path::new("")),
        &engine_lease("j"),
        &mut |told| match told {
            // More than there is room for on the way: the receiver is at work.
            Told::Progress(progress) if progress.bytes > 20_000_000 => {
                if !killed.swap(true, Ordering::Relaxed) {
                    let receivers = receivers(&rig);
                    assert_eq!(receivers.len(), 1);
                    kill(receivers[0]);
                }
            }
            Told::Progress(_) => {}
            Told::Line(line) => {
                // While it waits: what was left is there, and nothing has the name.
                let shelf = rig.shelf();
                assert!(shelf.len() == 1 && shelf[0].starts_with("tmp-"), "{shelf:?}");
                lines.push(line.to_owned());
            }
        },
        &rig.cancel,
    );
    assert_eq!(delivered.unwrap().how, How::Full);
    let label = &snapshot.hash.to_string()[..12];
    assert_eq!(lines.len(), 1, "{lines:?}");
    let start = format!("sync snapshot {label} attempt 1/3 failed for rig: ");
    assert!(lines[0].starts_with(&start) && lines[0].ends_with("; retrying after 2s"), "{lines:?}");
    rig.assert_has(&snapshot);
    assert_eq!(rig.shelf(), [snapshot.hash.to_string()]);
}

#[test]
fn a_kept_conversation_that_is_gone_is_replaced_without_an_attempt() {
    let Some(rig) = Rig::start() else { return };
    rig.write("a", "one\n");
    let snapshot = rig.take();
    rig.deliver(&snapshot, "j").unwrap();
    for pid in receivers(&rig) {
        kill(pid);
    }
    let (delivered, lines) = rig.deliver_as(&rig.client, &snapshot, &engine_lease("j"));
    assert_eq!((delivered.unwrap().how, lines.len()), (How::AlreadyThere, 0));
    rig.sshd.kill_sessions();
    let (delivered, lines) = rig.deliver_as(&rig.client, &snapshot, &engine_lease("j"));
    assert_eq!((delivered.unwrap().how, lines.len()), (How::AlreadyThere, 0));
}

#[test]
fn a_cancelled_delivery_leaves_nothing_on_the_host() {
    let Some(rig) = Rig::start() else { return };
    rig.write("a", &"0123456789".repeat(3_000_000));
    rig.write("0", "first\n");
    let snapshot = rig.take();
    let cancel = token();
    let delivered = deliver(
        &rig.client.remote(),
        &rig.store,
        &snapshot.manifest,
        &SnapshotMetadata::new(&snapshot, std::path::Path::new("")),
        &engine_lease("j"),
        &mut |told| {
            if let Told::Progress(progress) = told
                && progress.bytes > 2_000_000
            {
                cancel.cancel(CancelReason::Signal);
            }
        },
        &cancel,
    );
    assert!(matches!(delivered, Err(SyncError::Cancelled(CancelReason::Signal))), "{delivered:?}");
    // The receiver ends with its input, and takes with it what it has begun.
    receivers(&rig).into_iter().for_each(wait_for_end);
    assert_eq!(rig.shelf(), Vec::<String>::new());
    let again = rig.deliver(&snapshot, "j").unwrap();
    assert_eq!(again.how, How::Full);
}

#[test]
fn the_pause_between_attempts_hears_the_token() {
    let Some(mut rig) = Rig::start() else { return };
    rig.write("a", "one\n");
    let snapshot = rig.take();
    rig.sshd.stop();
    let cancel = token();
    let mut lines = 0;
    let delivered = deliver(
        &rig.client.remote(),
        &rig.store,
        &snapshot.manifest,
        &SnapshotMetadata::new(&snapshot, std::path::Path::new("")),
        &engine_lease("j"),
        &mut |told| {
            if let Told::Line(_) = told {
                lines += 1;
                cancel.cancel(CancelReason::Requested);
            }
        },
        &cancel,
    );
    assert!(matches!(delivered, Err(SyncError::Cancelled(CancelReason::Requested))), "{delivered:?}");
    assert_eq!(lines, 1);
}

#[test]
fn a_lease_that_became_that_of_a_process_outlives_the_conversation() {
    let Some(rig) = Rig::start() else { return };
    rig.write("a", "one\n");
    let first = rig.take();
    rig.deliver(&first, "j").unwrap();
    let process = Lease { id: "j".to_owned(), holder: Holder::Process(own_identity().unwrap()) };
    hold(&rig.client.remote(), &first.hash, &process, &rig.cancel).unwrap();
    rig.client.line.hang_up();
    rig.write("a", "changed\n");
    let second = rig.take();
    assert_eq!(rig.deliver(&second, "k").unwrap().how, How::Linked);
    rig.assert_has(&first);
    rig.release(&first, "j");
    // That of an engine outlives its connection for a while only.
    for (content, how) in [("again\n", How::Linked), ("and again\n", How::Patched)] {
        rig.disconnect();
        rig.write("a", content);
        let next = rig.take();
        assert_eq!(rig.deliver(&next, "l").unwrap().how, how);
        rig.assert_has(&next);
        rig.age_lease(&next.hash, "l");
    }
}

/// Files, links and directories that take each other's places.
fn tree() -> impl Strategy<Value = Vec<(String, u8, u8)>> {
    let path = proptest::collection::vec(proptest::sample::select(vec!["a", "b", "a.b", "c-"]), 1..4);
    let path = path.prop_map(|parts| parts.join("/"));
    proptest::collection::vec((path, 0u8..4, 0u8..6), 0..14)
}

#[test]
fn whatever_trees_follow_one_another_each_arrives_as_it_is() {
    let Some(rig) = Rig::start() else { return };
    let mut runner = TestRunner::default();
    let mut leased: Vec<(String, Snapshot)> = Vec::new();
    let mut ways = Vec::new();
    for round in 0..40u32 {
        let wanted = tree().new_tree(&mut runner).unwrap().current();
        fs::remove_dir_all(&rig.root).unwrap();
        fs::create_dir(&rig.root).unwrap();
        for (path, kind, number) in &wanted {
            let full = rig.root.join(path);
            let Some(parent) = full.parent() else { continue };
            if fs::create_dir_all(parent).is_err() || fs::symlink_metadata(&full).is_ok() {
                continue;
            }
            let content = format!("content {number}").repeat(usize::from(*number));
            match kind {
                0 => rig.write_executable(path, &content),
                1 => std::os::unix::fs::symlink(format!("../c-/{number}"), &full).unwrap(),
                _ => rig.write(path, &content),
            }
        }
        let snapshot = rig.take();
        let lease = format!("j{round}");
        let delivered = rig.deliver(&snapshot, &lease);
        ways.push(delivered.unwrap_or_else(|error| panic!("{error:?} {wanted:?}")).how);
        leased.push((lease, snapshot));
        for (_, snapshot) in &leased {
            rig.assert_has(snapshot);
        }
        if round % 3 != 0 {
            for (lease, snapshot) in leased.drain(..) {
                rig.release(&snapshot, &lease);
            }
        }
    }
    let count = |way| ways.iter().filter(|found| **found == way).count();
    assert!(count(How::Patched) > 5 && count(How::Linked) > 5, "{ways:?}");
}
