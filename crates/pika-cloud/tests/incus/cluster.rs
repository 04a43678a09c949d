//! Guests on a cluster: where they go, and how what they are to see gets there.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jericho_testkit::cluster::Cluster;
use jericho_testkit::incus::{Project, Rig};
use pika_cloud::ops::{
    Ended, Incus, Labels, Limits, OpsError, Patience, Progress, Silence, TreeWriter, VolumeRef,
};
use pika_cloud::{IncusRuntimePlan, RuntimeIdentity, RuntimeIncus, RuntimeMount, RuntimeSpec};

use crate::common::{Record, exit_code, incus, script};

/// What a guest runs as its entry program; the minimal image has nothing of the kind.
const ENTRY: &str = include_str!("entry.sh");

fn labels() -> Labels {
    [("test.kind".to_owned(), "snapshot".to_owned())].into()
}

fn volume(cluster: &Cluster, project: &Project<'_>, member: &str, name: &str) -> VolumeRef {
    VolumeRef {
        project: project.name().to_owned(),
        pool: cluster.rig().pool().to_owned(),
        member: Some(member.to_owned()),
        name: name.to_owned(),
    }
}

/// A snapshot: the entry program, and a file in a directory. No path of any machine has it.
fn fill(tree: &mut TreeWriter<'_>) -> io::Result<()> {
    tree.file("run", true, ENTRY.len() as u64, |out| out.write_all(ENTRY.as_bytes()))?;
    tree.file("src/deep/main.rs", false, 13, |out| out.write_all(b"fn main() {}\n"))?;
    tree.link("link", b"src/deep")
}

fn bring(incus: &Incus, volume: &VolumeRef) -> bool {
    incus.ensure_filled_volume(volume, &labels(), &mut fill).unwrap()
}

/// A guest that sees the volume of that name.
fn plan(cluster: &Cluster, project: &Project<'_>, target: Option<&str>, volume: &str) -> IncusRuntimePlan {
    let mut place = RuntimeIncus::new(project.name(), "default", cluster.rig().image_alias());
    place.target = target.map(str::to_owned);
    RuntimeSpec::new(RuntimeIdentity::named("guest"), place)
        .with_mount(RuntimeMount::read_only_snapshot(volume, "/workspace/snapshot").require())
        .with_entry_command("/workspace/snapshot/run")
        .plan()
        .unwrap()
}

fn volume_names(incus: &Incus, cluster: &Cluster, project: &Project<'_>) -> Vec<(String, String)> {
    let listed = incus.list_volumes(project.name(), cluster.rig().pool(), &labels()).unwrap();
    listed.into_iter().map(|one| (one.volume.name, one.volume.member.unwrap())).collect()
}

#[test]
fn a_job_on_a_cluster_runs_on_the_member_that_was_chosen_from_a_volume_there() {
    let name = "a_job_on_a_cluster_runs_on_the_member_that_was_chosen_from_a_volume_there";
    let Some(cluster) = Cluster::up(name) else { return };
    let project = cluster.project(4).unwrap();
    let incus = incus(cluster.rig());
    for (target, expected) in [("n3", &["n3"][..]), ("@others", &["n2", "n3"])] {
        let member = incus.member(Some(target), "guest").unwrap().unwrap();
        assert!(expected.contains(&member.as_str()), "{target}: {member}");
        bring(&incus, &volume(&cluster, &project, &member, "snapshot-1"));
        let plan = plan(&cluster, &project, Some(target), "snapshot-1");
        let ensured = incus.ensure(&plan, &mut Silence).unwrap();
        let location = cluster.location(&project, "guest").unwrap();
        assert!(expected.contains(&location.as_str()), "{target}: {location}");
        // The mount is the volume of that member, read-only, and not a path of this machine.
        let seen = project.exec(
            "guest",
            "cd /workspace/snapshot; stat -c '%u %a %n' . run src/deep/main.rs; cat link/main.rs; \
             touch x 2>/dev/null || echo read-only; grep -o 'custom/[^ ]*' /proc/mounts",
        );
        let mount = format!("custom/{}_snapshot-1", project.name());
        assert_eq!(
            seen.unwrap(),
            format!(
                "1000 755 .\n1000 755 run\n1000 644 src/deep/main.rs\nfn main() {{}}\nread-only\n{mount}\n"
            )
        );
        let started = incus.start_detached(&plan, &script("echo from $(hostname); exit 3")).unwrap();
        let (mut progress, mut record) = (Progress::default(), Record::default());
        let ended =
            incus.follow(&started, &plan.paths, &Limits::default(), &mut progress, &mut record).unwrap();
        assert_eq!((exit_code(&ended), record.text().as_str()), (3, "from guest\n"));
        incus.destroy(&ensured.instance).unwrap();
    }
}

#[test]
fn a_snapshot_is_brought_to_a_member_of_a_cluster_once() {
    let Some(cluster) = Cluster::up("a_snapshot_is_brought_to_a_member_of_a_cluster_once") else { return };
    let project = cluster.project(4).unwrap();
    let incus = incus(cluster.rig());
    let on_two = volume(&cluster, &project, "n2", "snapshot-2");
    assert!(bring(&incus, &on_two));
    assert!(!bring(&incus, &on_two), "it is there");
    // Another member has it only when it was brought there; of many at once, one does that.
    let on_three = volume(&cluster, &project, "n3", "snapshot-2");
    let sent = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| bring(&incus, &on_three))).collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap().then_some(())).count()
    });
    assert_eq!(sent, 1);
    let expected = ["n2", "n3"].map(|member| ("snapshot-2".to_owned(), member.to_owned()));
    assert_eq!(volume_names(&incus, &cluster, &project), expected);

    let used = [("test.used_at".to_owned(), "now".to_owned())].into();
    incus.label_volume(&on_two, &used).unwrap();
    let found = incus.list_volumes(project.name(), cluster.rig().pool(), &used).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0].volume, found[0].users), (&on_two, 0));
    assert_eq!(found[0].labels.get("user.test.kind").map(String::as_str), Some("snapshot"));
    incus.delete_volume_at(&on_two).unwrap();
    incus.delete_volume_at(&on_two).unwrap();
    assert_eq!(volume_names(&incus, &cluster, &project), expected[1..]);
}

#[test]
fn a_snapshot_that_cannot_be_read_to_its_end_is_no_volume_of_the_cluster() {
    let name = "a_snapshot_that_cannot_be_read_to_its_end_is_no_volume_of_the_cluster";
    let Some(cluster) = Cluster::up(name) else { return };
    let project = cluster.project(4).unwrap();
    let incus = incus(cluster.rig());
    let half = volume(&cluster, &project, "n2", "snapshot-3");
    let calls = AtomicUsize::new(0);
    let error = incus
        .ensure_filled_volume(&half, &labels(), &mut |tree| {
            calls.fetch_add(1, Ordering::Relaxed);
            // More than any buffer on the way holds.
            tree.file("large", false, 8 << 20, |out| out.write_all(&vec![7; 8 << 20]))?;
            Err(io::Error::other("the object is damaged"))
        })
        .unwrap_err();
    assert!(matches!(&error, OpsError::Failed { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("snapshot-3 to member n2") && text.contains("the object is damaged"), "{text}");
    assert_eq!(calls.into_inner(), 1, "trying again would not help");
    assert_eq!(project.volumes().unwrap(), Vec::<String>::new());

    // A volume can be refused before anything of it was read.
    let nowhere = VolumeRef { pool: "no-such-pool".to_owned(), ..half };
    let error = incus.ensure_filled_volume(&nowhere, &labels(), &mut fill).unwrap_err();
    assert!(error.to_string().contains("no-such-pool") || error.to_string().contains("not found"), "{error}");
}

#[test]
fn a_guest_of_a_cluster_follows_its_persistent_volume() {
    let Some(cluster) = Cluster::up("a_guest_of_a_cluster_follows_its_persistent_volume") else { return };
    let project = cluster.project(4).unwrap();
    let incus = incus(cluster.rig());
    let plan = |target: Option<&str>| {
        let mut place = RuntimeIncus::new(project.name(), "default", cluster.rig().image_alias());
        place.target = target.map(str::to_owned);
        let spec = RuntimeSpec::new(RuntimeIdentity::named("agent"), place);
        spec.with_mount(RuntimeMount::persistent_volume("state", "/state")).plan().unwrap()
    };
    let first = incus.ensure(&plan(Some("n3")), &mut Silence).unwrap();
    project.exec("agent", "echo kept >/state/file").unwrap();
    incus.destroy(&first.instance).unwrap();
    // Nobody says where to: only one member has what it needs.
    let second = incus.ensure(&plan(None), &mut Silence).unwrap();
    assert_eq!(cluster.location(&project, "agent").unwrap(), "n3");
    assert_eq!(project.exec("agent", "cat /state/file").unwrap(), "kept\n");
    incus.destroy(&second.instance).unwrap();
    let error = incus.ensure(&plan(Some("n1")), &mut Silence).unwrap_err();
    assert!(error.to_string().contains("its volume state is on n3"), "{error}");
    assert_eq!(project.instances().unwrap(), Vec::<String>::new());
}

#[test]
fn a_target_that_is_not_there_is_told_on_a_cluster_and_without_one() {
    let name = "a_target_that_is_not_there_is_told_on_a_cluster_and_without_one";
    let Some(cluster) = Cluster::up(name) else { return };
    let on_cluster = incus(cluster.rig());
    let error = on_cluster.member(Some("n9"), "guest").unwrap_err();
    assert_eq!(error.to_string(), "there is no cluster member n9");
    let error = on_cluster.member(Some("@nobody"), "guest").unwrap_err();
    assert_eq!(error.to_string(), "there is no cluster group with members nobody");
    assert!(on_cluster.member(None, "guest").unwrap().is_some());

    let Some(rig) = Rig::up(name) else { return };
    let alone = incus(&rig);
    assert_eq!(alone.member(None, "guest").unwrap(), None);
    let error = alone.member(Some("n1"), "guest").unwrap_err();
    assert!(error.to_string().contains("is no cluster"), "{error}");
}

/// Starts a guest on the second member that ends when `/tmp/go` is there.
fn start_on_two(
    cluster: &Cluster,
    project: &Project<'_>,
    incus: &Incus,
) -> (IncusRuntimePlan, pika_cloud::ops::Started) {
    bring(incus, &volume(cluster, project, "n2", "snapshot-4"));
    let plan = plan(cluster, project, Some("n2"), "snapshot-4");
    incus.ensure(&plan, &mut Silence).unwrap();
    let work = "echo up; until [ -e /tmp/go ]; do sleep 0.05; done; echo done; exit 4";
    let started = incus.start_detached(&plan, &script(work)).unwrap();
    // A daemon that is killed now might not have started it yet.
    project.exec("guest", "until [ -e /run/pika-cloud/status.json ]; do sleep 0.05; done").unwrap();
    (plan, started)
}

#[test]
fn a_job_goes_on_while_the_daemon_of_its_cluster_member_is_gone() {
    let name = "a_job_goes_on_while_the_daemon_of_its_cluster_member_is_gone";
    let Some(cluster) = Cluster::up(name) else { return };
    let project = cluster.project(4).unwrap();
    let incus = incus(cluster.rig());
    let (plan, started) = start_on_two(&cluster, &project, &incus);
    let before = cluster.daemon("n2").unwrap();
    let (ended, record) = std::thread::scope(|scope| {
        let (told, printed) = std::sync::mpsc::channel();
        let followed = scope.spawn(|| {
            let mut record = Record::once_printed("up\n", move || told.send(()).unwrap());
            let (mut progress, limits) = (Progress::default(), Limits::default());
            let ended = incus.follow(&started, &plan.paths, &limits, &mut progress, &mut record).unwrap();
            (ended, record)
        });
        printed.recv().unwrap();
        cluster.kill_member("n2").unwrap();
        // The first member cannot ask the second for the guest: the fault has hit.
        let path = format!("/1.0/instances/guest/state?project={}", project.name());
        assert!(cluster.rig().ask("GET", &path, None).is_err());
        cluster.start_members().unwrap();
        project.exec("guest", "touch /tmp/go").unwrap();
        followed.join().unwrap()
    });
    assert_ne!(cluster.daemon("n2").unwrap(), before);
    assert_eq!(exit_code(&ended), 4);
    assert_eq!(record.text(), "up\ndone\n");
    incus.destroy(&started.instance).unwrap();
}

#[test]
fn a_cluster_member_that_does_not_come_back_is_no_verdict() {
    let name = "a_cluster_member_that_does_not_come_back_is_no_verdict";
    let Some(cluster) = Cluster::up(name) else { return };
    let project = cluster.project(4).unwrap();
    let incus = incus(cluster.rig());
    let (plan, started) = start_on_two(&cluster, &project, &incus);
    cluster.kill_member("n2").unwrap();
    let impatient = incus.with_patience(Patience { reconnect: Duration::from_secs(3), ..incus.patience() });
    let mut progress = Progress::default();
    let ended = impatient.follow(&started, &plan.paths, &Limits::default(), &mut progress, &mut Silence);
    assert!(matches!(ended, Err(OpsError::Lost { .. })), "{ended:?}");
    // It is still at work, and can be had when the member is there again.
    cluster.start_members().unwrap();
    project.exec("guest", "touch /tmp/go").unwrap();
    let ended = incus.follow(&started, &plan.paths, &Limits::default(), &mut progress, &mut Silence).unwrap();
    assert!(matches!(ended, Ended::Result(_)), "{ended:?}");
    incus.destroy(&started.instance).unwrap();
    assert_eq!(incus.list(project.name(), &BTreeMap::new()).unwrap(), []);
}
