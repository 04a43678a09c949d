//! Guests of a cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use jericho_host::CancelToken;
use jericho_testkit::cluster::Cluster;
use jericho_testkit::incus::Project;
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::model::record::RunRecord;
use serde_json::Value;

use crate::rig::{World, guest, job, monotonic, pause};

/// What it was brought for, and the member that it is on, of each volume that engines have brought.
pub(crate) fn brought(cluster: &Cluster, project: &Project<'_>) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let of = |one: &Value| (text(&one["config"]["user.jerichoci.brought"]), text(&one["location"]));
    let mut all: Vec<_> = volumes(cluster, project).iter().map(of).collect();
    all.sort();
    all
}

/// All volumes of the project, on all members.
pub(crate) fn volumes(cluster: &Cluster, project: &Project<'_>) -> Vec<Value> {
    let path = format!(
        "/1.0/storage-pools/{}/volumes/custom?recursion=1&project={}",
        cluster.rig().pool(),
        project.name()
    );
    let found = cluster.rig().ask("GET", &path, None).unwrap();
    found.as_array().unwrap().clone()
}

/// No directory of any machine may be given to guests of the project, as if members did not have it.
fn without_paths(cluster: &Cluster, project: &Project<'_>) {
    let path = format!("/1.0/projects/{}", project.name());
    let mut known = cluster.rig().ask("GET", &path, None).unwrap();
    known["config"]["restricted.devices.disk.paths"] = "/nonexistent".into();
    let body = serde_json::json!({ "config": known["config"], "description": "" });
    cluster.rig().ask("PUT", &path, Some(&body)).unwrap();
}

pub(crate) fn assert_passed(world: &World<'_>, run: &RunRecord) {
    for job in &run.jobs {
        let host_log = world.host_log(run, &job.id);
        assert_eq!(job.verdict, Verdict::Passed, "{}: {:?}\n{host_log}", job.id, job.message);
    }
    assert_eq!(run.verdict, Verdict::Passed);
}

#[test]
fn a_job_sees_the_volume_of_the_cluster_member_that_was_asked_for() {
    let test = "a_job_sees_the_volume_of_the_cluster_member_that_was_asked_for";
    let Some(cluster) = Cluster::up(test) else { return };
    let project = cluster.project(4).unwrap();
    let Some(mut world) = World::new(cluster.rig(), &project, test) else { return };
    without_paths(&cluster, &project);
    world.config.incus.target = Some("n2".to_owned());
    let script = "cat a.txt src/b.txt; id -u; stat -c %u a.txt; touch x 2>/dev/null || echo read-only; \
                  grep -o 'custom/[^ ]*' /proc/mounts | sed 's/.*_//; s/-.*//' | sort";
    let run = world.run(vec![guest("hello", script)]);
    assert_passed(&world, &run);
    let (log, host_log) = (world.guest_log(&run, "hello"), world.host_log(&run, "hello"));
    let seen = "one\ntwo\n1000\n1000\nread-only\nrunner\nsnapshot\n";
    assert_eq!(log, seen, "{host_log}\n{:?}", volumes(&cluster, &project));
    assert!(host_log.contains("snapshot on the cluster member n2: sent, volume snapshot-"), "{host_log}");
    let expected = ["runner", "snapshot"].map(|kind| (kind.to_owned(), "n2".to_owned()));
    let listed = volumes(&cluster, &project);
    assert_eq!(brought(&cluster, &project), expected, "{host_log}\n{listed:?}");
    world.assert_nothing_left();

    // The same source again is not sent again; the job gets a copy that it may write.
    let mut copy = guest("copy", "echo more >>a.txt; cat a.txt");
    copy.writable_workspace = true;
    let run = world.run(vec![copy]);
    assert_passed(&world, &run);
    let host_log = world.host_log(&run, "copy");
    assert_eq!(world.guest_log(&run, "copy"), "one\nmore\n", "{host_log}");
    assert!(host_log.contains("snapshot on the cluster member n2: is there"), "{host_log}");
    let listed = volumes(&cluster, &project);
    assert_eq!(brought(&cluster, &project), expected, "{host_log}\n{listed:?}");
}

#[test]
fn jobs_of_a_cluster_group_are_spread_and_each_member_gets_the_source_once() {
    let test = "jobs_of_a_cluster_group_are_spread_and_each_member_gets_the_source_once";
    let Some(cluster) = Cluster::up(test) else { return };
    let project = cluster.project(8).unwrap();
    let Some(mut world) = World::new(cluster.rig(), &project, test) else { return };
    world.config.incus.target = Some(format!("@{}", cluster.group()));
    let jobs: Vec<_> = (0..6).map(|n| guest(&format!("job-{n}"), "cat a.txt")).collect();
    let run = world.run(jobs);
    assert_passed(&world, &run);
    let volumes = brought(&cluster, &project);
    let members: BTreeSet<&str> = volumes.iter().map(|(_, member)| member.as_str()).collect();
    assert!(members.is_subset(&["n2", "n3"].into()), "{volumes:?}");
    // One of a kind on each: no second one, no half of one.
    assert_eq!(volumes.len(), 2 * members.len(), "{volumes:?}");
    assert_eq!(volumes.iter().collect::<BTreeSet<_>>().len(), volumes.len());
    world.assert_nothing_left();
}

#[test]
fn a_cluster_member_that_is_not_there_is_an_error_that_names_it() {
    let test = "a_cluster_member_that_is_not_there_is_an_error_that_names_it";
    let Some(cluster) = Cluster::up(test) else { return };
    let project = cluster.project(4).unwrap();
    let Some(mut world) = World::new(cluster.rig(), &project, test) else { return };
    world.config.incus.target = Some("n9".to_owned());
    let run = world.run(vec![guest("hello", "true")]);
    assert_eq!(run.verdict, Verdict::Failed(FailureKind::Infrastructure));
    let message = job(&run, "hello").message.clone().unwrap();
    assert!(message.contains("there is no cluster member n9"), "{message}");
    assert!(brought(&cluster, &project).is_empty());
    world.assert_nothing_left();
}

#[test]
fn a_job_passes_although_its_cluster_member_was_killed_in_between() {
    let test = "a_job_passes_although_its_cluster_member_was_killed_in_between";
    let Some(cluster) = Cluster::up(test) else { return };
    let project = cluster.project(4).unwrap();
    let Some(mut world) = World::new(cluster.rig(), &project, test) else { return };
    world.config.incus.target = Some("n2".to_owned());
    let before = cluster.daemon("n2").unwrap();
    let script = "echo up; until [ -e /tmp/go ]; do sleep 0.05; done; cat a.txt";
    let run = std::thread::scope(|scope| {
        let running = scope.spawn(|| world.run(vec![guest("long", script)]));
        let instance = at_work(&project);
        cluster.kill_member("n2").unwrap();
        let path = format!("/1.0/instances/{instance}/state?project={}", project.name());
        assert!(cluster.rig().ask("GET", &path, None).is_err(), "the fault must have hit");
        cluster.start_members().unwrap();
        project.exec(&instance, "touch /tmp/go").unwrap();
        running.join().unwrap()
    });
    assert_ne!(cluster.daemon("n2").unwrap(), before);
    assert_passed(&world, &run);
    assert_eq!(world.guest_log(&run, "long"), "up\none\n");
    world.assert_nothing_left();
}

/// The instance of the one job, once its command has printed something.
pub(crate) fn at_work(project: &Project<'_>) -> String {
    let (never, deadline) = (CancelToken::new().unwrap(), monotonic() + Duration::from_secs(60));
    loop {
        if let [instance] = project.instances().unwrap_or_default().as_slice()
            && project.exec(instance, "grep -q up /run/pika-cloud/logs/guest.log").is_ok()
        {
            return instance.clone();
        }
        assert!(monotonic() < deadline, "the job does not begin");
        pause(&never, Duration::from_millis(100));
    }
}

#[test]
fn a_source_that_no_job_of_the_cluster_has_used_for_a_day_goes_when_another_is_brought() {
    let test = "a_source_that_no_job_of_the_cluster_has_used_for_a_day_goes_when_another_is_brought";
    let Some(cluster) = Cluster::up(test) else { return };
    let project = cluster.project(4).unwrap();
    let Some(mut world) = World::new(cluster.rig(), &project, test) else { return };
    world.config.incus.target = Some("n3".to_owned());
    assert_passed(&world, &world.run(vec![guest("one", "cat a.txt")]));
    let first = project.volumes().unwrap();
    for name in &first {
        let path = format!(
            "/1.0/storage-pools/{}/volumes/custom/{name}?project={}&target=n3",
            cluster.rig().pool(),
            project.name()
        );
        let old = serde_json::json!({ "config": { "user.jerichoci.used_at": "2026-01-01T00:00:00Z" } });
        cluster.rig().ask("PATCH", &path, Some(&old)).unwrap();
    }
    std::fs::write(world.root.join("a.txt"), "another\n").unwrap();
    let run = world.run(vec![guest("two", "cat a.txt")]);
    assert_passed(&world, &run);
    assert_eq!(world.guest_log(&run, "two"), "another\n");
    // The old source is gone, the new one is there, and so is the runner, which the job has used.
    let now = project.volumes().unwrap();
    let is_snapshot = |name: &&String| name.starts_with("snapshot-");
    assert_eq!(now.len(), 2, "{now:?}");
    assert_ne!(now.iter().find(is_snapshot), first.iter().find(is_snapshot));
    assert_eq!(now.iter().find(|name| !is_snapshot(name)), first.iter().find(|name| !is_snapshot(name)));
}
