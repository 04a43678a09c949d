//! What a state root that was deleted has left on a host, where nobody knows its engine any more.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use jericho_host::{Clock as _, SystemClock};
use jericho_testkit::incus::Rig;
use jericho_testkit::ssh;
use serde_json::{Value, json};

use crate::place::Place;

const TARGETS: &str = r#"
[targets.fill.jobs.guest]
runtime = "incus"
command = "echo x >/c/x"
caches.kept = { path = "/c", sharing = "shared" }
[targets.left.jobs.guest]
runtime = "incus"
command = "while echo up; do sleep 0.1; done"
caches.kept = { path = "/c", sharing = "shared" }
"#;

/// Dates a file or directory back by fifteen days.
fn age(path: &Path) {
    let long_ago = SystemTime::from(SystemClock.now()) - Duration::from_secs(15 * 24 * 3600);
    fs::File::open(path).unwrap().set_modified(long_ago).unwrap();
}

/// Has Incus keep another value of a label.
fn label(place: &Place<'_>, path: &str, name: &str, value: &str) {
    let path = format!("{path}?project={}", place.project.name());
    let body = json!({ "config": { format!("user.jerichoci.{name}"): value } });
    place.rig.ask("PATCH", &path, Some(&body)).unwrap();
}

const LONG_AGO: &str = "2026-01-01T00:00:00Z";

#[test]
fn what_a_deleted_state_root_has_left_on_a_host_is_removed_or_named_with_the_command_that_removes_it() {
    let name =
        "what_a_deleted_state_root_has_left_on_a_host_is_removed_or_named_with_the_command_that_removes_it";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let Some(place) = Place::real(name, &rig, &sshd, TARGETS) else { return };
    place.pikaci(&["run", "fill", "--on", "box"]).code(0);
    let mut engine = place.command(&["run", "left", "--on", "box", "--output", "jsonl", "--events", "all"]);
    let mut engine = engine.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let events = std::io::BufReader::new(engine.stdout.take().unwrap());
    assert!(std::io::BufRead::lines(events).any(|line| line.unwrap().contains("log_progress")));
    engine.kill().unwrap();
    engine.wait().unwrap();
    let text = fs::read_to_string(place.state_root().join("engine.json")).unwrap();
    let engine: Value = serde_json::from_str(&text).unwrap();
    let engine = engine["engine_id"].as_str().unwrap().to_owned();
    // As prepared outputs are rooted and asked for, and as a process of the host is left.
    let runs = place.work_dir().join("runs");
    let (rooted, ran) = (runs.join("20260101T000000Z-00000001"), runs.join("20260101T000000Z-00000002"));
    let roots = rooted.join("roots").join(&engine);
    let requests = rooted.join("prepared-output-requests");
    let job = ran.join("jobs/build");
    for dir in [&roots, &requests, &job.join("state")] {
        fs::create_dir_all(dir).unwrap();
    }
    std::os::unix::fs::symlink("/nix/store/nothing", roots.join("output")).unwrap();
    fs::write(
        job.join("owner.json"),
        json!({ "engine": engine, "run_id": "r", "job_id": "build" }).to_string(),
    )
    .unwrap();
    fs::write(job.join("state/result.json"), "{}").unwrap();
    fs::remove_dir_all(place.state_root()).unwrap();
    let (guest, volume) = (place.project.instances().unwrap(), place.project.volumes().unwrap());
    let ([guest], [volume]) = (&guest[..], &volume[..]) else { panic!("{guest:?} {volume:?}") };

    // Its owner might come back.
    assert_eq!(place.pikaci(&["reap"]).code(0).stderr, "nothing was left by anybody\n");
    let gc = |args: &[&str]| {
        let ended = place.pikaci(&[&["gc"][..], args].concat()).code(0);
        let lines = ended.stderr.lines().filter(|line| line.contains("box") && !line.contains("directories"));
        let mut lines: Vec<String> = lines.map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(gc(&[]), Vec::<String>::new());
    assert!(roots.exists() && job.exists());
    assert_eq!(place.project.volumes().unwrap(), std::slice::from_ref(volume));

    // Its time is up.
    label(&place, &format!("/1.0/instances/{guest}"), "lease_until", LONG_AGO);
    let volumes = format!("/1.0/storage-pools/{}/volumes/custom", rig.pool());
    label(&place, &format!("{volumes}/{volume}"), "used_at", LONG_AGO);
    let dirs = [&roots, &rooted.join("roots"), &requests, &rooted, &job, &ran.join("jobs"), &ran];
    dirs.into_iter().for_each(|dir| age(dir));
    age(&job.join("state/result.json"));
    let reaped = place.pikaci(&["reap"]).code(0);
    assert_eq!(reaped.stdout, "");
    assert_eq!(reaped.stderr, "1 guest of other state roots whose time is up: pikaci reap --expired\n");
    let json = place.pikaci(&["reap", "--json"]).code(0).json();
    let told = format!("{guest} in project {} on box", place.project.name());
    assert_eq!((&json["ended"], &json["outlived"]), (&json!([]), &json!([told])));
    let expected = [
        format!("box: runs/{} would go", "20260101T000000Z-00000001"),
        format!("box: runs/{}/jobs/build would go", "20260101T000000Z-00000002"),
        format!("volume {volume} in project {} on box would go", place.project.name()),
    ];
    assert_eq!(gc(&["--dry-run"]), expected[..2], "a guest may see the volume");
    let reaped = place.pikaci(&["reap", "--expired"]).code(0);
    assert_eq!(reaped.stdout, format!("instance {told}\n"));
    assert_eq!(gc(&["--dry-run"]), expected);
    assert!(roots.exists() && job.exists(), "who only looks removes nothing");
    gc(&[]);
    assert_eq!(place.project.instances().unwrap(), Vec::<String>::new());
    assert_eq!(place.project.volumes().unwrap(), Vec::<String>::new());
    assert!(fs::read_dir(&runs).unwrap().next().is_none());
}
