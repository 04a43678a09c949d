//! What is looked at and what is collected on a cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use jericho_host::CancelToken;
use jericho_testkit::cluster::Cluster;
use jericho_testkit::incus::Project;
use jerichoci::doctor::{Check, Standing};
use jerichoci::{GcPolicy, ReapOptions, RunRequest};
use serde_json::json;

use crate::cluster::{assert_passed, brought, volumes};
use crate::rig::{World, guest, incus, job, monotonic, pause};

/// What a doctor says of where guests go.
fn placed(world: &World<'_>) -> Check {
    let cancel = CancelToken::new().unwrap();
    let seen = world.engine().doctor(None, &cancel, &mut |_| ()).unwrap();
    seen.checks.into_iter().find(|check| check.check == "incus_target").unwrap()
}

/// Has the project say whether anybody may say where guests go.
fn allow_targets(cluster: &Cluster, project: &Project<'_>, allowed: &str) {
    let path = format!("/1.0/projects/{}", project.name());
    let mut known = cluster.rig().ask("GET", &path, None).unwrap();
    known["config"]["restricted.cluster.target"] = allowed.into();
    let body = json!({ "config": known["config"], "description": "" });
    cluster.rig().ask("PUT", &path, Some(&body)).unwrap();
}

#[test]
fn a_doctor_says_to_which_member_of_a_cluster_guests_go_and_why_they_cannot() {
    let test = "a_doctor_says_to_which_member_of_a_cluster_guests_go_and_why_they_cannot";
    let Some(cluster) = Cluster::up(test) else { return };
    let project = cluster.project(4).unwrap();
    let Some(mut world) = World::new(cluster.rig(), &project, test) else { return };
    let found = |check: &Check| (check.standing, check.found.clone());
    world.config.incus.target = Some("n2".to_owned());
    let well = "guests go to the member n2 of the cluster".to_owned();
    assert_eq!(found(&placed(&world)), (Standing::Ok, well));
    world.config.incus.target = Some(format!("@{}", cluster.group()));
    let (standing, told) = found(&placed(&world));
    let expected = ["n2", "n3"].map(|member| {
        format!("a guest for @{} of the cluster would go to its member {member} now", cluster.group())
    });
    assert!(standing == Standing::Ok && expected.contains(&told), "{told}");

    allow_targets(&cluster, &project, "block");
    let check = placed(&world);
    let why = format!("the project {} does not let anybody say where guests go", project.name());
    assert_eq!(found(&check), (Standing::Problem, why));
    let socket = format!("INCUS_SOCKET={}", cluster.rig().socket().display());
    let mend = format!("{socket} incus project set {} restricted.cluster.target=allow", project.name());
    assert_eq!(check.mend, Some(mend));
    allow_targets(&cluster, &project, "allow");

    for (target, why) in [("n9", "there is no cluster member n9"), ("@none", "none")] {
        world.config.incus.target = Some(target.to_owned());
        let check = placed(&world);
        assert!(check.standing == Standing::Problem && check.found.contains(why), "{check:?}");
        let mend = format!("{socket} incus cluster list; then another `target`, or none");
        assert_eq!(check.mend, Some(mend));
        // A job says the same.
        let run = world.run(vec![guest("lost", "true")]);
        let told = job(&run, "lost").message.clone().unwrap();
        assert!(
            told.contains(why)
                && told.ends_with(&format!("; see which there are: {socket} incus cluster list")),
            "{told}"
        );
    }

    // One that is away is told when the others have missed it for long enough.
    world.config.incus.target = Some("n3".to_owned());
    assert_eq!(placed(&world).standing, Standing::Ok);
    cluster.kill_member("n3").unwrap();
    let (never, deadline) = (CancelToken::new().unwrap(), monotonic() + Duration::from_secs(90));
    let away = loop {
        let check = placed(&world);
        if check.standing != Standing::Ok {
            break check;
        }
        assert!(monotonic() < deadline, "{check:?}");
        pause(&never, Duration::from_millis(200));
    };
    assert!(away.standing == Standing::Problem && away.found.contains("it is offline"), "{away:?}");
}

#[test]
fn what_was_brought_to_members_of_a_cluster_is_collected_when_no_guest_needs_it() {
    let test = "what_was_brought_to_members_of_a_cluster_is_collected_when_no_guest_needs_it";
    let Some(cluster) = Cluster::up(test) else { return };
    let project = cluster.project(4).unwrap();
    let Some(mut world) = World::new(cluster.rig(), &project, test) else { return };
    for member in ["n2", "n3"] {
        world.config.incus.target = Some(member.to_owned());
        assert_passed(&world, &world.run(vec![guest("one", "cat a.txt")]));
    }
    // Where guests go now does not matter.
    world.config.incus.target = None;
    let on = |members: &[&str]| -> Vec<(String, String)> {
        let of = |kind: &'static str| members.iter().map(move |at| (kind.to_owned(), (*at).to_owned()));
        ["runner", "snapshot"].into_iter().flat_map(of).collect()
    };
    assert_eq!(brought(&cluster, &project), on(&["n2", "n3"]));
    let gc = |dry_run| {
        let policy = GcPolicy { dry_run, ..GcPolicy::default() };
        let report = world.engine().gc_everywhere(&policy, &[], &CancelToken::new().unwrap()).unwrap();
        assert!(report.problems.is_empty() && report.unreachable.is_empty(), "{report:?}");
        report.removed_volumes
    };
    assert_eq!(gc(false), Vec::<String>::new(), "somebody may be about to use them");
    let mut expected = Vec::new();
    for one in volumes(&cluster, &project) {
        let [name, member] = ["name", "location"].map(|key| one[key].as_str().unwrap().to_owned());
        if member == "n2" {
            let path = format!(
                "/1.0/storage-pools/{}/volumes/custom/{name}?project={}&target={member}",
                cluster.rig().pool(),
                project.name()
            );
            let old = json!({ "config": { "user.jerichoci.used_at": "2026-01-01T00:00:00Z" } });
            cluster.rig().ask("PATCH", &path, Some(&old)).unwrap();
            expected
                .push(format!("volume {name} of member n2 in project {} on this machine", project.name()));
        }
    }
    expected.sort();
    let sorted = |mut all: Vec<String>| {
        all.sort();
        all
    };
    assert_eq!(sorted(gc(true)), expected);
    assert_eq!(brought(&cluster, &project), on(&["n2", "n3"]), "who only looks removes nothing");
    assert_eq!(sorted(gc(false)), expected);
    assert_eq!(brought(&cluster, &project), on(&["n3"]));
    // What has gone is brought again.
    world.config.incus.target = Some("n2".to_owned());
    assert_passed(&world, &world.run(vec![guest("again", "cat a.txt")]));
}

#[test]
fn a_member_of_a_cluster_that_is_away_keeps_no_guest_of_another_one_from_being_ended() {
    let test = "a_member_of_a_cluster_that_is_away_keeps_no_guest_of_another_one_from_being_ended";
    let Some(cluster) = Cluster::up(test) else { return };
    let project = cluster.project(4).unwrap();
    let Some(world) = World::new(cluster.rig(), &project, test) else { return };
    let on = |member: &str| {
        let mut job = guest(member, "exit 1");
        incus(&mut job).target = Some(member.to_owned());
        job
    };
    let mut request = RunRequest::new(vec![on("n2"), on("n3")]);
    request.options.keep_on_failure = true;
    request.options.keep_going = true;
    let run = world.run_request(&request);
    let guests: BTreeMap<String, String> = project
        .instances()
        .unwrap()
        .into_iter()
        .map(|name| (cluster.location(&project, &name).unwrap(), name))
        .collect();
    assert_eq!(guests.keys().collect::<Vec<_>>(), ["n2", "n3"], "{run:#?}");
    for name in guests.values() {
        // Nobody wants to look at them any more.
        let body = json!({ "config": { "user.jerichoci.keep_until": "2026-01-01T00:00:00Z" } });
        let path = format!("/1.0/instances/{name}?project={}", project.name());
        cluster.rig().ask("PATCH", &path, Some(&body)).unwrap();
    }
    cluster.kill_member("n2").unwrap();
    // The fault has hit, and the others have found one who leads them: they no longer know anything of its guest.
    let path = format!("/1.0/instances?recursion=1&project={}", project.name());
    let is_away = || {
        let listed = cluster.rig().ask("GET", &path, None);
        listed.is_ok_and(|all| all.as_array().unwrap().iter().any(|one| one["config"].is_null()))
    };
    let (never, deadline) = (CancelToken::new().unwrap(), monotonic() + Duration::from_secs(90));
    while !is_away() {
        assert!(monotonic() < deadline, "its guest is still known");
        pause(&never, Duration::from_millis(200));
    }
    let reap = || world.engine().reap_all(&ReapOptions::default(), &CancelToken::new().unwrap()).unwrap();
    let reaped = reap();
    let what = |member| format!("instance {} in project {} on this machine", guests[member], project.name());
    assert_eq!(reaped.instances, [what("n3")], "{reaped:?}");
    let [problem] = reaped.problems.try_into().unwrap();
    let expected = format!("{} is on the cluster member n2, which is away", what("n2"));
    assert!(problem.starts_with(&expected), "{problem}");
    assert!(world.job_dir(&run, "n2").join("instance.json").exists(), "it is still there");

    cluster.start_members().unwrap();
    let reaped = reap();
    assert_eq!((reaped.instances, reaped.problems), (vec![what("n2")], vec![]));
    world.assert_nothing_left();
}
