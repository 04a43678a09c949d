//! What a collection removes, and what it does not.

use std::fs;

use jericho_host::sys::{ProcessIdentity, own_identity};
use jerichoci::config::DiskBudget;
use jerichoci::remote::sync::{Holder, Instances, Lease, Report, collect, hold};
use jerichoci::snapshot::Snapshot;

use crate::rig::{Rig, engine_lease};

fn run(rig: &Rig, budget: DiskBudget, instances: &[Instances], dry_run: bool) -> Report {
    collect(&rig.client.remote(), budget, instances, dry_run, &rig.cancel).unwrap()
}

/// Three snapshots, leased under their numbers, used in this order.
fn three(rig: &Rig) -> [Snapshot; 3] {
    [1, 2, 3].map(|number| {
        rig.write("large", &format!("{number}").repeat(1_000_000));
        rig.write("same", &"x".repeat(1_000_000));
        let snapshot = rig.take();
        rig.deliver(&snapshot, &format!("j{number}")).unwrap();
        snapshot
    })
}

#[test]
fn the_least_recently_used_go_until_the_rest_is_within_the_budget() {
    let Some(rig) = Rig::start() else { return };
    let [first, second, third] = three(&rig);
    // All are leased.
    let report = run(&rig, DiskBudget::Bytes(0), &[], false);
    assert_eq!((report.removed.len(), report.kept, report.leased), (0, 3, 3));
    assert!(report.free > 0 && report.total > report.free);
    for (snapshot, lease) in [(&first, "j1"), (&second, "j2"), (&third, "j3")] {
        rig.release(snapshot, lease);
    }
    // The first one again: the second has not been used for the longest time now.
    rig.deliver(&first, "j1").unwrap();
    rig.release(&first, "j1");
    // They share a file: each needs 1 MB of its own.
    let budget = DiskBudget::Bytes(3_200_000);
    let told = run(&rig, budget, &[], true);
    assert_eq!(told.removed, [second.hash]);
    assert!((1_000_000..1_100_000).contains(&told.freed), "{told:?}");
    assert_eq!(rig.shelf().len(), 3);
    let done = run(&rig, budget, &[], false);
    assert_eq!((&done.removed, done.freed, done.kept, done.leftovers), (&told.removed, told.freed, 2, 0));
    let mut left = [first.hash.to_string(), third.hash.to_string()];
    left.sort();
    assert_eq!(rig.shelf(), left);
    rig.assert_has(&first);
    rig.assert_has(&third);
    rig.deliver(&third, "j3").unwrap();
    let done = run(&rig, DiskBudget::Percent(0), &[], false);
    assert_eq!((done.removed, done.leased), (vec![first.hash], 1));
    rig.assert_has(&third);
}

#[test]
fn a_lease_ends_with_its_holder() {
    let Some(rig) = Rig::start() else { return };
    let [first, second, third] = three(&rig);
    let own = own_identity().unwrap();
    let namesake = ProcessIdentity { start_time_ticks: own.start_time_ticks + 1, ..own.clone() };
    let set = |snapshot: &Snapshot, id: &str, holder: Holder| {
        let lease = Lease { id: id.to_owned(), holder };
        hold(&rig.client.remote(), &snapshot.hash, &lease, &rig.cancel).unwrap();
    };
    set(&first, "j1", Holder::Process(namesake));
    set(&second, "j2", Holder::Process(own));
    let instance = |name: &str| Holder::Instance { project: "p".to_owned(), name: name.to_owned() };
    set(&third, "j3", instance("gone"));
    set(&third, "other", Holder::Instance { project: "q".to_owned(), name: "gone".to_owned() });
    // While the connection that wrote it is alive, an instance may still be on its way.
    let known = [Instances { project: "p".to_owned(), names: vec!["another".to_owned()] }];
    let report = run(&rig, DiskBudget::Bytes(0), &known, false);
    assert_eq!((report.removed, report.dead_leases), (vec![first.hash], 1));
    rig.disconnect();
    // And for a while after it, on another connection.
    let report = run(&rig, DiskBudget::Bytes(0), &known, false);
    assert_eq!((report.removed.len(), report.dead_leases), (0, 0));
    for id in ["j3", "other"] {
        rig.age_lease(&third.hash, id);
    }
    // Nobody asks about the other project: its instance lives.
    let report = run(&rig, DiskBudget::Bytes(0), &known, false);
    assert_eq!((report.removed.len(), report.dead_leases, report.leased), (0, 1, 2));
    assert_eq!(report.projects, ["q"]);
    let all = [&known[..], &[Instances { project: "q".to_owned(), names: vec!["gone".to_owned()] }]].concat();
    assert_eq!(run(&rig, DiskBudget::Bytes(0), &all, false).removed.len(), 0);
    let none = [Instances { project: "q".to_owned(), names: Vec::new() }];
    let report = run(&rig, DiskBudget::Bytes(0), &none, false);
    assert_eq!((report.removed, report.dead_leases, report.kept), (vec![third.hash], 1, 1));
    rig.assert_has(&second);
}

#[test]
fn what_a_killed_receiver_left_goes_and_what_is_in_use_stays() {
    let Some(rig) = Rig::start() else { return };
    rig.write("a", "one\n");
    let snapshot = rig.take();
    rig.deliver(&snapshot, "j").unwrap();
    let shelf = rig.work_dir().join("snapshots");
    fs::create_dir_all(shelf.join("tmp-1-0/snapshot/d")).unwrap();
    fs::write(shelf.join("tmp-1-0/snapshot/d/f"), "half").unwrap();
    // Of a receiver that lives: it holds the lock.
    fs::create_dir(shelf.join("tmp-2-0")).unwrap();
    let held = fs::File::open(shelf.join("tmp-2-0")).unwrap();
    held.lock().unwrap();
    // A tree that was set aside while a guest still sees it.
    fs::create_dir(shelf.join(format!("old-{}-1-0", snapshot.hash))).unwrap();
    let leases = rig.work_dir().join("leases");
    fs::create_dir_all(leases.join("0".repeat(64))).unwrap();
    let told = run(&rig, DiskBudget::Percent(100), &[], true);
    assert_eq!((told.leftovers, rig.shelf().len()), (1, 4));
    let done = run(&rig, DiskBudget::Percent(100), &[], false);
    assert_eq!((done.leftovers, done.kept), (1, 1));
    assert_eq!(rig.shelf().len(), 3);
    drop(held);
    rig.release(&snapshot, "j");
    // The next delivery that sends something does it too.
    rig.write("a", "two\n");
    let next = rig.take();
    rig.deliver_as(&rig.client, &next, &engine_lease("j")).0.unwrap();
    assert_eq!(rig.shelf(), [next.hash.to_string()]);
    assert_eq!(fs::read_dir(&leases).unwrap().count(), 1);
}
