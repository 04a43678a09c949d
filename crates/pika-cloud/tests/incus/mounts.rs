//! Every kind of mount.

use jericho_testkit::incus::Rig;
use pika_cloud::RuntimeMount;
use pika_cloud::ops::Silence;

use crate::common::{Record, assert_completed, assert_nothing_left, course, incus, spec};

#[test]
fn a_persistent_volume_outlives_its_guest_and_its_next_one() {
    let Some(rig) = Rig::up("a_persistent_volume_outlives_its_guest_and_its_next_one") else { return };
    let project = rig.project(4).unwrap();
    let incus = incus(&rig);
    // An agent that counts its lives; the second one has another name.
    for (name, lives) in [("agent-1", "1\n"), ("agent-1", "2\n"), ("agent-2", "3\n")] {
        let plan = spec(&rig, &project, name)
            .with_mount(RuntimeMount::persistent_volume("agent-state", "/var/lib/agent").require())
            .plan()
            .unwrap();
        let mut record = Record::default();
        let work = "echo life >>/var/lib/agent/lives; wc -l </var/lib/agent/lives";
        assert_completed(&incus.run(&plan, &course(work), &mut record).unwrap());
        assert_eq!(record.text(), lives);
        assert_eq!(project.instances().unwrap(), Vec::<String>::new());
        assert_eq!(project.volumes().unwrap(), ["agent-state"]);
        assert_eq!(incus.volumes(project.name(), rig.pool()).unwrap(), ["agent-state"]);
    }
    incus.delete_volume(project.name(), rig.pool(), "agent-state").unwrap();
    incus.delete_volume(project.name(), rig.pool(), "agent-state").unwrap();
    assert_nothing_left(&project);
}

#[test]
fn two_guests_share_a_cache_at_once_also_as_an_ordinary_user() {
    let Some(rig) = Rig::up("two_guests_share_a_cache_at_once_also_as_an_ordinary_user") else { return };
    let project = rig.project(4).unwrap();
    let plan = |name: &str| {
        spec(&rig, &project, name)
            .with_mount(RuntimeMount::cache("cargo-home", "/cargo").require())
            .plan()
            .unwrap()
    };
    // Each waits for what the other one writes, as the guest's user.
    let work = |own: &str, other: &str| {
        let wait = format!("echo from-{own} >/cargo/{own}; until [ -e /cargo/{other} ]; do sleep 0.05; done");
        format!("su jericho -c '{wait}; cat /cargo/{other}'")
    };
    std::thread::scope(|scope| {
        let guests = [("a", "b"), ("b", "a")].map(|(own, other)| {
            let (plan, work, incus) = (plan(&format!("cache-{own}")), work(own, other), incus(&rig));
            scope.spawn(move || {
                let mut record = Record::default();
                assert_completed(&incus.run(&plan, &course(&work), &mut record).unwrap());
                assert_eq!(record.text(), format!("from-{other}\n"));
            })
        });
        for guest in guests {
            guest.join().unwrap();
        }
    });
    incus(&rig).delete_volume(project.name(), rig.pool(), "cargo-home").unwrap();
    assert_nothing_left(&project);
}

#[test]
fn a_snapshot_can_be_read_and_not_written_and_artifacts_come_out() {
    let Some(rig) = Rig::up("a_snapshot_can_be_read_and_not_written_and_artifacts_come_out") else { return };
    let project = rig.project(4).unwrap();
    let (snapshot, out) = (project.make_dir("snapshot").unwrap(), project.make_dir("out").unwrap());
    std::fs::write(snapshot.join("file"), "source").unwrap();
    let plan = spec(&rig, &project, "mounted")
        .with_mount(
            RuntimeMount::read_only_snapshot(snapshot.to_str().unwrap(), "/workspace/snapshot").require(),
        )
        .with_mount(RuntimeMount::artifact_output(out.to_str().unwrap(), "/out").require())
        .plan()
        .unwrap();
    let work = "cat /workspace/snapshot/file; touch /workspace/snapshot/new 2>/dev/null && exit 1; \
                su jericho -c 'cp /workspace/snapshot/file /out/copy'";
    let mut record = Record::default();
    assert_completed(&incus(&rig).run(&plan, &course(work), &mut record).unwrap());
    assert_eq!(record.text(), "source");
    assert_eq!(std::fs::read_to_string(out.join("copy")).unwrap(), "source");
    assert!(!snapshot.join("new").exists());
    assert_nothing_left(&project);
}

#[test]
fn a_mount_that_is_not_required_may_be_missing() {
    let Some(rig) = Rig::up("a_mount_that_is_not_required_may_be_missing") else { return };
    let project = rig.project(4).unwrap();
    let source = project.dir().join("nowhere");
    let plan = spec(&rig, &project, "optional")
        .with_mount(RuntimeMount::read_only_snapshot(source.to_str().unwrap(), "/optional"))
        .plan()
        .unwrap();
    assert_completed(&incus(&rig).run(&plan, &course("! [ -e /optional/x ]"), &mut Silence).unwrap());
    assert_nothing_left(&project);
}
