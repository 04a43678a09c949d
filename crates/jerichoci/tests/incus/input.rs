//! Bad input: an error that names the thing and the way out, and nothing half-made.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use jericho_testkit::incus::{Project, Rig};
use jerichoci::model::demands::CacheSpec;
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::model::record::RunRecord;

use crate::cluster::at_work;
use crate::rig::{World, guest, incus, job};

#[track_caller]
fn assert_errored(world: &World<'_>, run: &RunRecord, words: &[&str]) {
    let record = job(run, "bad");
    assert_eq!(record.verdict, Verdict::Failed(FailureKind::Infrastructure), "{record:#?}");
    let message = record.message.clone().unwrap();
    for word in words {
        assert!(message.contains(word), "no {word} in: {message}");
    }
    assert!(world.host_log(run, "bad").contains(&message), "the log does not say it");
    assert_eq!(record.leaked, Vec::<String>::new());
    assert_eq!(record.left_behind, Vec::<String>::new());
    world.assert_nothing_left();
}

/// The directories that guests of a project may be given.
fn allowed_paths(rig: &Rig, project: &Project<'_>) -> String {
    let project = rig.ask("GET", &format!("/1.0/projects/{}", project.name()), None).unwrap();
    project["config"]["restricted.devices.disk.paths"].as_str().unwrap().to_owned()
}

#[test]
fn what_is_missing_is_named_with_the_command_that_makes_it() {
    let test = "what_is_missing_is_named_with_the_command_that_makes_it";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(4).unwrap();
    let world = |change: &dyn Fn(&mut jerichoci::EngineConfig)| {
        let mut world = World::new(&rig, &project, test)?;
        change(&mut world.config);
        Some(world)
    };
    let bad = || vec![guest("bad", "true")];
    // A project that sees none of the images of the others.
    let own = format!("{}-own", project.name());
    let features = serde_json::json!({ "features.images": "true" });
    let body = serde_json::json!({ "name": own, "config": features });
    rig.ask("POST", "/1.0/projects", Some(&body)).unwrap();
    let Some(image) = world(&|config| {
        config.incus.image_alias = None;
        config.incus.project.clone_from(&own);
    }) else {
        return;
    };
    let build = format!("scripts/incus-role-image.sh --role jericho-runner build-import --project {own}");
    assert_errored(&image, &image.run(bad()), &["jericho/dev", &build]);
    let mut other = guest("bad", "true");
    incus(&mut other).image_alias = Some("mine".to_owned());
    assert_errored(&image, &image.run(vec![other]), &["mine", "--alias mine"]);
    rig.ask("DELETE", &format!("/1.0/projects/{own}"), None).unwrap();

    let none = world(&|config| config.incus.project = "nowhere".to_owned()).unwrap();
    assert_errored(
        &none,
        &none.run(bad()),
        &["project nowhere", "scripts/setup-build-host --account ", "--project nowhere"],
    );
    let none = world(&|config| config.incus.profile = "nobody".to_owned()).unwrap();
    assert_errored(
        &none,
        &none.run(bad()),
        &["profile nobody", "scripts/setup-build-host --account ", "--profile nobody"],
    );
    let none = world(&|config| config.incus.socket = "/nonexistent/socket".into()).unwrap();
    assert_errored(&none, &none.run(bad()), &["/nonexistent/socket", "systemctl start incus"]);
    let mut cached = guest("bad", "true");
    cached.caches.insert("c".to_owned(), CacheSpec { path: "/c".to_owned(), sharing: Default::default() });
    assert_errored(&none, &none.run(vec![cached]), &["/nonexistent/socket", "systemctl start incus"]);
    // A snapshot where the project does not let guests look.
    let outside = tempfile::tempdir().unwrap();
    let refused = world(&|config| config.state_root = outside.path().join("state")).unwrap();
    // What it lets them see already stays in the list.
    let all_paths = format!(
        "restricted.devices.disk.paths={},{}/state",
        allowed_paths(&rig, &project),
        outside.path().display()
    );
    assert_errored(&refused, &refused.run(bad()), &["does not allow", "incus project set", &all_paths]);
    // No runner at all.
    let none = world(&|config| config.hosts.runner_dirs = Vec::new()).unwrap();
    let run = none.run(bad());
    assert_errored(&none, &run, &["no runner", "just guest"]);
}

#[test]
fn what_a_guest_cannot_be_given_is_refused_before_anything_is_made() {
    let test = "what_a_guest_cannot_be_given_is_refused_before_anything_is_made";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let mut relative = guest("bad", "true");
    relative
        .caches
        .insert("c".to_owned(), CacheSpec { path: "here".to_owned(), sharing: Default::default() });
    assert_errored(&world, &world.run(vec![relative]), &["`c`", "absolute"]);
    let mut git = guest("bad", "true");
    git.git = jerichoci::model::demands::WorkspaceGit::Shallow;
    assert_errored(&world, &world.run(vec![git]), &["no repository"]);
    let mut no_network = guest("bad", "true");
    incus(&mut no_network).network = true;
    let mut world = world;
    world.config.incus.network = Some("nowhere".to_owned());
    assert_errored(
        &world,
        &world.run(vec![no_network]),
        &["there is no network nowhere", "incus network create nowhere --project "],
    );
}

#[test]
fn a_guest_that_stops_under_its_command_is_told_with_its_limit() {
    let test = "a_guest_that_stops_under_its_command_is_told_with_its_limit";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let mut bad = guest("bad", "echo up; sleep 1000");
    incus(&mut bad).memory_mib = Some(64);
    let run = std::thread::scope(|scope| {
        let running = scope.spawn(|| world.run(vec![bad]));
        // As when the kernel ends its first process, which it does where memory is short.
        let path = format!("/1.0/instances/{}/state?project={}", at_work(&project), project.name());
        rig.ask("PUT", &path, Some(&serde_json::json!({ "action": "stop", "force": true }))).unwrap();
        running.join().unwrap()
    });
    assert_errored(&world, &run, &["was stopped", "limited to 64 MiB"]);
}

#[test]
fn a_source_at_a_path_that_is_no_text_is_refused_before_anything_is_made() {
    let test = "a_source_at_a_path_that_is_no_text_is_refused_before_anything_is_made";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(mut world) = World::new(&rig, &project, test) else { return };
    let odd = project.dir().join(OsStr::from_bytes(b"s\xff"));
    world.config.state_root = odd.join("state");
    assert_errored(&world, &world.run(vec![guest("bad", "true")]), &["no UTF-8", "--state-root"]);
    assert_eq!(project.volumes().unwrap(), Vec::<String>::new());
}
