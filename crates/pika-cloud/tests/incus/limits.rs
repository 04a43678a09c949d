//! Limits of a guest and of a project.

use jericho_testkit::incus::{Project, Rig};
use pika_cloud::ops::{Note, Observer, OpsError, Patience, Silence};
use std::time::Duration;

use crate::common::{Record, assert_completed, assert_nothing_left, course, incus, spec};

#[test]
fn a_guest_has_the_processors_memory_and_disk_that_were_asked_for() {
    // A pool of its own: where others remove guests, btrfs may come to call its quotas inconsistent, and holds no limit any more.
    let Some(rig) = Rig::own("a_guest_has_the_processors_memory_and_disk_that_were_asked_for") else {
        return;
    };
    let project = rig.project(4).unwrap();
    let mut spec = spec(&rig, &project, "small").with_cpus(1).with_memory_mib(128);
    spec.resources.root_disk_gib = Some(1);
    // More memory than there is is not given, and more disk neither.
    let work = "nproc; tail -c 300m /dev/zero | wc -c >/dev/null 2>&1; \
                (head -c 400m /dev/zero | tail -c 400m >/dev/null) 2>/dev/null && exit 1; \
                dd if=/dev/zero of=/root/big bs=1M count=1200 2>/dev/null && exit 2; rm -f /root/big; sync; exit 0";
    let mut record = Record::default();
    let outcome = incus(&rig).run(&spec.plan().unwrap(), &course(work), &mut record).unwrap();
    assert_completed(&outcome);
    assert!(record.text().starts_with("1\n"), "{record:?}");
    assert_nothing_left(&project);
}

/// A storage pool of one test, in which disks have no limits. It goes when it is dropped.
struct DirPool<'r> {
    rig: &'r Rig,
    name: String,
}

impl<'r> DirPool<'r> {
    fn new(rig: &'r Rig) -> Self {
        let name = format!("dir-{}", std::process::id());
        let pool = serde_json::json!({ "name": name, "driver": "dir", "config": {} });
        rig.ask("POST", "/1.0/storage-pools", Some(&pool)).unwrap();
        Self { rig, name }
    }

    /// A profile of the project with the root disk there.
    fn profile(&self, project: &Project<'_>) -> &'static str {
        let devices = serde_json::json!({ "root": { "type": "disk", "path": "/", "pool": self.name } });
        let profile = serde_json::json!({ "name": "on-dir", "config": {}, "devices": devices });
        let path = format!("/1.0/profiles?project={}", project.name());
        self.rig.ask("POST", &path, Some(&profile)).unwrap();
        "on-dir"
    }
}

impl Drop for DirPool<'_> {
    fn drop(&mut self) {
        // It goes with the rig at the latest.
        let _ = self.rig.ask("DELETE", &format!("/1.0/storage-pools/{}", self.name), None);
    }
}

#[test]
fn a_limit_of_the_disk_that_the_pool_cannot_keep_is_an_error_and_no_guest() {
    let Some(rig) = Rig::up("a_limit_of_the_disk_that_the_pool_cannot_keep_is_an_error_and_no_guest") else {
        return;
    };
    let pool = DirPool::new(&rig);
    let project = rig.project(4).unwrap();
    let mut spec = spec(&rig, &project, "boundless");
    spec.incus.profile = pool.profile(&project).to_owned();
    let incus = incus(&rig);
    let mut limited = spec.clone();
    limited.resources.root_disk_gib = Some(1);
    let error = incus.ensure(&limited.plan().unwrap(), &mut Silence).unwrap_err();
    insta::assert_snapshot!(
        error.to_string(),
        @"Incus could not create instance boundless: its root disk is not limited to 1 GiB: its pool has no quotas, as one on btrfs or zfs has; move the pool, or ask for no size"
    );
    assert_nothing_left(&project);
    // One that asks for none is made.
    let ensured = incus.ensure(&spec.plan().unwrap(), &mut Silence).unwrap();
    incus.destroy(&ensured.instance).unwrap();
}

#[test]
fn processors_that_the_machine_does_not_have_are_a_warning() {
    let Some(rig) = Rig::up("processors_that_the_machine_does_not_have_are_a_warning") else { return };
    let project = rig.project(4).unwrap();
    let warnings = |name: &str, cpus| {
        let mut record = Record::default();
        let plan = spec(&rig, &project, name).with_cpus(cpus).plan().unwrap();
        let ensured = incus(&rig).ensure(&plan, &mut record).unwrap();
        incus(&rig).destroy(&ensured.instance).unwrap();
        record.notes
    };
    let there = std::thread::available_parallelism().unwrap();
    assert_eq!(
        warnings("too-many", 255),
        [Note::Warning(format!("255 processors are asked for, and the machine has {there}"))]
    );
    assert_eq!(warnings("all", u8::try_from(there.get()).unwrap_or(u8::MAX)), []);
}

/// Says when a place in the project is waited for.
struct Waiting(std::sync::mpsc::Sender<()>);

impl Observer for Waiting {
    fn note(&mut self, note: Note) {
        if matches!(note, Note::Waiting { .. }) {
            self.0.send(()).unwrap();
        }
    }
}

#[test]
fn a_full_project_is_waited_for_and_all_get_their_turn() {
    let Some(rig) = Rig::up("a_full_project_is_waited_for_and_all_get_their_turn") else { return };
    let project = rig.project(3).unwrap();
    let incus = incus(&rig);
    let first = ["first-1", "first-2", "first-3"].map(|name| {
        incus.ensure(&spec(&rig, &project, name).plan().unwrap(), &mut Silence).unwrap().instance
    });
    let (told, waits) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..5)
            .map(|number| {
                let plan = spec(&rig, &project, &format!("job-{number}")).plan().unwrap();
                let (incus, mut waiting) = (incus.clone(), Waiting(told.clone()));
                scope.spawn(move || {
                    let work = format!("exit {number}");
                    let outcome = incus.run(&plan, &course(&work), &mut waiting).unwrap();
                    assert_eq!(crate::common::exit_code(&outcome.ended), number);
                })
            })
            .collect();
        for _ in &jobs {
            waits.recv().unwrap();
        }
        for instance in &first {
            incus.destroy(instance).unwrap();
        }
        for job in jobs {
            job.join().unwrap();
        }
    });
    drop(told);
    assert_eq!(waits.try_iter().count(), 0, "each is told once that it waits");
    assert_nothing_left(&project);
}

#[test]
fn eight_guests_at_once_are_eight_guests() {
    let Some(rig) = Rig::up("eight_guests_at_once_are_eight_guests") else { return };
    let project = rig.project(8).unwrap();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let plan = spec(&rig, &project, &format!("one-of-eight-{number}")).plan().unwrap();
            let incus = incus(&rig);
            scope.spawn(move || {
                let mut record = Record::default();
                let work = format!("seq 1 1000; exit {number}");
                let outcome = incus.run(&plan, &course(&work), &mut record).unwrap();
                assert_eq!(crate::common::exit_code(&outcome.ended), number);
                assert_eq!(record.text().lines().count(), 1000);
            });
        }
    });
    assert_nothing_left(&project);
}

#[test]
fn a_project_that_stays_full_is_an_error_in_the_end() {
    let Some(rig) = Rig::up("a_project_that_stays_full_is_an_error_in_the_end") else { return };
    let project = rig.project(1).unwrap();
    let incus = incus(&rig);
    let first = spec(&rig, &project, "first").plan().unwrap();
    let ensured = incus.ensure(&first, &mut Silence).unwrap();
    let patience = Patience { full: Duration::from_millis(300), ..incus.patience() };
    let second = spec(&rig, &project, "second").plan().unwrap();
    let error = incus.with_patience(patience).ensure(&second, &mut Silence).unwrap_err();
    assert!(matches!(&error, OpsError::Full { .. }), "{error:?}");
    assert_eq!(project.instances().unwrap(), ["first"]);
    incus.destroy(&ensured.instance).unwrap();
    assert_nothing_left(&project);
}

#[test]
fn a_command_that_wants_too_much_memory_does_not_get_it() {
    let Some(rig) = Rig::up("a_command_that_wants_too_much_memory_does_not_get_it") else {
        return;
    };
    let project = rig.project(4).unwrap();
    let plan = spec(&rig, &project, "greedy").with_memory_mib(64).plan().unwrap();
    // The shell of the command keeps what it reads, and grows.
    let work = "all=$(head -c 300m /dev/zero | tr '\\0' x); echo ${#all}";
    let outcome = incus(&rig).run(&plan, &course(work), &mut Silence).unwrap();
    assert!(!outcome.ended.is_success(), "{outcome:?}");
    assert_nothing_left(&project);
}
