//! What a job asks of its guest: a workspace to write, caches, secrets, artifacts, limits.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jericho_host::lock::FileLock;
use jericho_host::{CancelReason, CancelToken};
use jericho_testkit::incus::Rig;
use jerichoci::executor::process::ArtifactLimits;
use jerichoci::model::demands::{ArtifactsWhen, CacheSharing, CacheSpec, SecretDelivery, SecretSpec};
use jerichoci::model::job::GuestCommand;
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::{GcPolicy, RunRequest};

use crate::doomed::doomed_engine_with;
use crate::rig::{World, await_file, await_file_or, guest, incus, job};

#[test]
fn a_snapshot_cannot_be_written_and_a_writable_workspace_does_not_leak_into_the_next() {
    let test = "a_snapshot_cannot_be_written_and_a_writable_workspace_does_not_leak_into_the_next";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let write = "pwd; ls; echo changed >a.txt; mkdir new; cat a.txt";
    let mut writable = guest("writable", write);
    writable.writable_workspace = true;
    let mut again = guest("again", write);
    again.writable_workspace = true;
    again.needs = vec!["writable".to_owned()];
    let run = world.run(vec![writable, again]);
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    for id in ["writable", "again"] {
        assert_eq!(world.guest_log(&run, id), "/workspace/snapshot\na.txt\nsrc\nchanged\n");
    }
    let run = world.run(vec![guest("read-only", "cat a.txt; ! echo x >a.txt && ! touch new")]);
    assert_eq!(run.verdict, Verdict::Passed, "{}", world.guest_log(&run, "read-only"));
    assert!(world.guest_log(&run, "read-only").starts_with("one\n"));
    assert_eq!(fs::read_to_string(world.root.join("a.txt")).unwrap(), "one\n");
    world.assert_nothing_left();
}

#[test]
fn a_cache_is_kept_from_run_to_run_and_is_the_user_s() {
    let test = "a_cache_is_kept_from_run_to_run_and_is_the_user_s";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let mut counting =
        guest("count", "echo life >>\"$JERICHO_CACHE_CARGO_HOME/lives\"; wc -l <$CARGO_HOME/lives");
    let home = CacheSpec { path: "/cargo-home".to_owned(), sharing: CacheSharing::Locked };
    counting.caches.insert("cargo-home".to_owned(), home);
    for lives in ["1\n", "2\n"] {
        let run = world.run(vec![counting.clone()]);
        assert_eq!(run.verdict, Verdict::Passed, "{}", world.host_log(&run, "count"));
        assert_eq!(world.guest_log(&run, "count"), lives);
    }
    assert_eq!(project.volumes().unwrap().len(), 1);
    // Of another state root it is another one.
    let mut other = World::new(&rig, &project, test).unwrap();
    other.config.state_root = project.dir().join("other-state");
    let run = other.run(vec![counting]);
    assert_eq!(other.guest_log(&run, "count"), "1\n");
    world.assert_nothing_left();
}

#[test]
fn a_locked_cache_belongs_to_one_guest_at_a_time() {
    let test = "a_locked_cache_belongs_to_one_guest_at_a_time";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let with_cache = |id: &str, script: &str| {
        let mut job = guest(id, script);
        let cache = CacheSpec { path: "/mine".to_owned(), sharing: CacheSharing::Locked };
        job.caches.insert("mine".to_owned(), cache);
        job
    };
    let cancel = CancelToken::new().unwrap();
    let holds = RunRequest::new(vec![with_cache("holds", "mkdir /mine/busy; echo begun; sleep 300")]);
    let runs = world.config.state_root.join("runs");
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| world.run_until(&holds, &cancel));
        await_file(&runs, "guest.log", "begun");
        let second = scope.spawn(|| world.run(vec![with_cache("waits", "rmdir /mine/busy && echo mine")]));
        await_file_or(&runs, "host.log", "waiting for the cache `mine`", || second.is_finished());
        cancel.cancel(CancelReason::Signal);
        (first.join().unwrap(), second.join().unwrap())
    });
    assert_eq!(first.verdict, Verdict::Failed(FailureKind::Cancelled));
    assert_eq!((second.verdict, world.guest_log(&second, "waits").as_str()), (Verdict::Passed, "mine\n"));
    let log = world.host_log(&second, "waits");
    let told = format!("waiting for the cache `mine`, which job `holds` of run {} has", first.run_id);
    assert!(log.contains(&told), "{log}");
    world.assert_nothing_left();
}

#[test]
fn a_locked_cache_is_nobody_elses_while_a_guest_of_a_dead_engine_has_it() {
    let test = "a_locked_cache_is_nobody_elses_while_a_guest_of_a_dead_engine_has_it";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let script = "echo begun; while :; do cat /proc/uptime >/held/beat; sleep 0.05; done";
    let mut engine = doomed_engine_with(&world, script, "held");
    await_file(&world.config.state_root, "guest.log", "begun");
    engine.kill().unwrap();
    engine.wait().unwrap();
    let orphan = project.instances().unwrap();
    assert_eq!(orphan.len(), 1);
    let look = "cat /held/beat >/tmp/beat && sleep 0.5 && cmp /tmp/beat /held/beat && echo still";
    let mut job = guest("next", look);
    let held = CacheSpec { path: "/held".to_owned(), sharing: CacheSharing::Locked };
    job.caches.insert("held".to_owned(), held);
    let run = world.run(vec![job]);
    assert_eq!(run.verdict, Verdict::Passed, "{}", world.host_log(&run, "next"));
    assert_eq!(world.guest_log(&run, "next"), "still\n");
    world.assert_nothing_left();
}

#[test]
fn a_cache_of_guests_that_nobody_uses_is_collected_and_a_dry_run_only_tells() {
    let test = "a_cache_of_guests_that_nobody_uses_is_collected_and_a_dry_run_only_tells";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let mut job = guest("fill", "echo x >/c/x");
    let cache = CacheSpec { path: "/c".to_owned(), sharing: CacheSharing::Shared };
    job.caches.insert("c".to_owned(), cache);
    let run = world.run(vec![job]);
    assert_eq!(run.verdict, Verdict::Passed, "{}", world.host_log(&run, "fill"));
    let [volume] = project.volumes().unwrap().try_into().unwrap();
    let gc = |cache_max_age, dry_run| {
        let policy = GcPolicy { cache_max_age, dry_run, ..GcPolicy::default() };
        let report = world.engine().gc_everywhere(&policy, &[], &CancelToken::new().unwrap()).unwrap();
        assert!(report.problems.is_empty() && report.unreachable.is_empty(), "{report:?}");
        report.removed_volumes
    };
    assert_eq!(gc(Duration::from_secs(3600), false), Vec::<String>::new());
    let told = [format!("volume {volume} in project {} on this machine", project.name())];
    assert_eq!(gc(Duration::ZERO, true), told);
    assert_eq!(project.volumes().unwrap(), [volume]);
    assert_eq!(gc(Duration::ZERO, false), told);
    assert_eq!(project.volumes().unwrap(), Vec::<String>::new());
}

#[test]
fn what_a_cache_of_a_guest_holds_of_another_source_is_older_than_every_file() {
    let test = "what_a_cache_of_a_guest_holds_of_another_source_is_older_than_every_file";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    // As cargo does: what was built before the source changed is built again.
    let build = "cd /workspace/snapshot; built=$CARGO_TARGET_DIR/built; ! echo x 2>/dev/null >a.txt || exit 1; \
                 test -e $built -a ! a.txt -nt $built && echo fresh || cp a.txt $built; cat $built";
    let mut job = guest("build", build);
    for (name, sharing) in [("cargo-target", CacheSharing::Locked), ("cargo-home", CacheSharing::Shared)] {
        let cache = CacheSpec { path: format!("/{name}"), sharing };
        job.caches.insert(name.to_owned(), cache);
    }
    let run = |content: &str| {
        fs::write(world.root.join("a.txt"), content).unwrap();
        let run = world.run(vec![job.clone()]);
        assert_eq!(run.verdict, Verdict::Passed, "{}", world.host_log(&run, "build"));
        world.guest_log(&run, "build")
    };
    assert_eq!(run("one\n"), "one\n");
    // Another run has the tree of the first source, so that its times stay.
    let trees = world.config.state_root.join("cache/trees");
    let in_use = FileLock::try_exclusive(&trees.join("0/lock")).unwrap().unwrap();
    assert_eq!(run("two\n"), "two\n");
    assert!(trees.join("1").exists());
    drop(in_use);
    assert_eq!(run("one\n"), "one\n");
    assert_eq!(run("one\n"), "fresh\none\n");
    job.writable_workspace = true;
    job.command = GuestCommand::ShellCommand { command: "echo x >>a.txt; tail -n 1 a.txt".to_owned() };
    let run = world.run(vec![job]);
    assert_eq!(world.guest_log(&run, "build"), "x\n");
    world.assert_nothing_left();
}

#[test]
fn of_the_caches_of_a_guest_the_one_that_met_another_source_last_decides() {
    let test = "of_the_caches_of_a_guest_the_one_that_met_another_source_last_decides";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    // As make does, in each cache that is there.
    let build = "cd /workspace/snapshot; for c in first second; do [ -d /$c ] || continue; \
                 if [ -e /$c/built ] && [ ! a.txt -nt /$c/built ]; then echo $c is fresh; \
                 else cp a.txt /$c/built; echo $c is built; fi; cat /$c/built; done; cat a.txt";
    let (first, second) = (&["first"][..], &["second"][..]);
    let both = &["first", "second"][..];
    // Source, caches, and what becomes of each.
    let runs: [(&str, &[&str], &[&str]); 10] = [
        ("one", &[], &[]),
        ("one", first, &["first is built"]),
        ("one", first, &["first is fresh"]),
        ("two", second, &["second is built"]),
        // The first one knows this source, and the second another one.
        ("one", both, &["first is built", "second is built"]),
        ("one", both, &["first is fresh", "second is fresh"]),
        ("two", first, &["first is built"]),
        // The same the other way round.
        ("one", both, &["first is built", "second is built"]),
        ("one", second, &["second is fresh"]),
        ("two", &[], &[]),
    ];
    for (number, (source, caches, expected)) in runs.into_iter().enumerate() {
        fs::write(world.root.join("a.txt"), format!("{source}\n")).unwrap();
        let mut job = guest("build", build);
        for name in caches {
            let cache = CacheSpec { path: format!("/{name}"), sharing: CacheSharing::Locked };
            job.caches.insert((*name).to_owned(), cache);
        }
        let run = world.run(vec![job]);
        let built = expected.iter().map(|line| format!("{line}\n{source}\n")).collect::<String>();
        let told = (number, world.guest_log(&run, "build"));
        assert_eq!(told, (number, format!("{built}{source}\n")), "{}", world.host_log(&run, "build"));
    }
    world.assert_nothing_left();
}

#[test]
fn a_cache_in_the_workspace_of_a_guest_has_its_own_times_and_nothing_of_the_source() {
    let test = "a_cache_in_the_workspace_of_a_guest_has_its_own_times_and_nothing_of_the_source";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let build =
        "test -e out/built -a ! a.txt -nt out/built && echo fresh || cp a.txt out/built; cat out/built";
    let mut job = guest("build", build);
    let out = CacheSpec { path: "/workspace/snapshot/out".to_owned(), sharing: CacheSharing::Locked };
    job.caches.insert("out".to_owned(), out);
    for (content, log) in
        [("one\n", "one\n"), ("two\n", "two\n"), ("two\n", "fresh\ntwo\n"), ("one\n", "one\n")]
    {
        fs::write(world.root.join("a.txt"), content).unwrap();
        let run = world.run(vec![job.clone()]);
        assert_eq!(run.verdict, Verdict::Passed, "{}", world.host_log(&run, "build"));
        assert_eq!(world.guest_log(&run, "build"), log);
    }
    // What would be copied into the cache, and be there when the source has it no more.
    let refused = |found: &str| {
        let run = world.run(vec![job.clone()]);
        assert_eq!(run.verdict, Verdict::Failed(FailureKind::Infrastructure), "{run:#?}");
        let place = "the cache `out` cannot be at /workspace/snapshot/out";
        let why = format!("{place}: the source tree has {found} there");
        assert_eq!(run.jobs[0].message.as_ref(), Some(&why));
    };
    fs::create_dir(world.root.join("out")).unwrap();
    fs::write(world.root.join("out/file"), "of the source").unwrap();
    refused("out/file");
    fs::remove_dir_all(world.root.join("out")).unwrap();
    std::os::unix::fs::symlink("src", world.root.join("out")).unwrap();
    refused("out");
    world.assert_nothing_left();
}

const SECRET: &str = "hunter22-is-no-good";

/// Everything that Incus tells of the project's instances and operations, again and again until told to end.
fn watch(rig: &Rig, project: &str, over: &AtomicBool) -> String {
    let mut seen = String::new();
    while !over.load(Ordering::Acquire) {
        for path in ["instances?recursion=2&project=", "operations?recursion=1&project="] {
            if let Ok(answer) = rig.ask("GET", &format!("/1.0/{path}{project}"), None) {
                seen.push_str(&answer.to_string());
            }
        }
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            seen.push_str(&String::from_utf8_lossy(&command));
        }
    }
    seen
}

fn has(dir: &Path, needle: &[u8], found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            has(&entry.path(), needle, found);
        } else if kind.is_file() {
            let content = fs::read(entry.path()).unwrap_or_default();
            if content.windows(needle.len()).any(|window| window == needle) {
                found.push(String::from_utf8_lossy(entry.path().as_os_str().as_bytes()).into_owned());
            }
        }
    }
}

#[test]
fn a_secret_reaches_the_command_and_nothing_on_the_host_shows_it() {
    let test = "a_secret_reaches_the_command_and_nothing_on_the_host_shows_it";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(mut world) = World::new(&rig, &project, test) else { return };
    world.config.secrets.insert("TOKEN", SECRET).insert("KEY", format!("{SECRET}-as-a-file"));
    let script = "printf '%s' \"$TOKEN\" | wc -c; printf '%s' \"$TOKEN\" | base64; echo \"$TOKEN\"; \
                  stat -c '%a' \"$KEY_FILE\"; wc -c <\"$KEY_FILE\"; stat -f -c %T \"$KEY_FILE\"; \
                  [ -z \"${KEY:-}\" ] && ls /dev/jericho-environment.json 2>&1; sleep 0.3; true";
    let mut secretive = guest("secretive", script);
    secretive.secrets = vec![
        SecretSpec { name: "TOKEN".to_owned(), delivery: SecretDelivery::Env },
        SecretSpec { name: "KEY".to_owned(), delivery: SecretDelivery::File },
    ];
    let over = Arc::new(AtomicBool::new(false));
    let (run, seen) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&rig, project.name(), &over));
        let run = world.run(vec![secretive]);
        over.store(true, Ordering::Release);
        (run, watching.join().unwrap())
    });
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    let log = world.guest_log(&run, "secretive");
    let mut lines = log.lines();
    assert_eq!(lines.next(), Some(SECRET.len().to_string().as_str()), "{log}");
    assert_eq!([lines.next(), lines.next()], [Some("***"); 2], "{log}");
    assert_eq!(lines.next(), Some("400"), "{log}");
    assert_eq!(lines.next(), Some((SECRET.len() + 10).to_string().as_str()), "{log}");
    assert_eq!(lines.next(), Some("tmpfs"), "{log}");
    assert!(lines.next().unwrap().contains("No such file"), "{log}");
    assert!(seen.contains("jerichoci-incus-run"), "nothing was watched");
    assert!(!seen.contains(SECRET), "Incus or a process showed it");
    let mut found = Vec::new();
    has(project.dir(), SECRET.as_bytes(), &mut found);
    assert_eq!(found, Vec::<String>::new());
    world.assert_nothing_left();
}

#[test]
fn a_thousand_files_come_back_bit_equal_and_what_is_too_much_is_told() {
    let test = "a_thousand_files_come_back_bit_equal_and_what_is_too_much_is_told";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(mut world) = World::new(&rig, &project, test) else { return };
    let script = "cd \"$ARTIFACTS\"; for i in $(seq 1 1000); do mkdir -p d$((i % 10)); \
                  seq $i $((i + 50)) >d$((i % 10))/f$i; done; head -c 20000000 /dev/urandom >large; \
                  chmod 755 d1/f1; echo kept >result.json; sha256sum large | cut -c 1-64";
    let run = world.run(vec![guest("many", script)]);
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    let artifacts = world.job_dir(&run, "many").join("artifacts");
    for i in [1, 500, 1000] {
        let expected: String = (i..=i + 50).map(|line| format!("{line}\n")).collect();
        assert_eq!(fs::read_to_string(artifacts.join(format!("d{}/f{i}", i % 10))).unwrap(), expected);
    }
    let record = job(&run, "many");
    assert_eq!(record.artifacts.len(), 1001);
    assert_eq!(fs::metadata(artifacts.join("large")).unwrap().len(), 20_000_000);
    // All came at once, as the runner tells them; one by one they have no modes.
    assert_eq!(fs::metadata(artifacts.join("d1/f1")).unwrap().permissions().mode() & 0o777, 0o755);
    // The name of the engine's own file is not the job's.
    assert!(record.warnings.iter().any(|warning| warning.contains("result.json")), "{:?}", record.warnings);
    assert!(fs::read_to_string(artifacts.join("result.json")).unwrap().contains("exit_code"));
    let events = fs::read_to_string(artifacts.join("events.jsonl")).unwrap();
    assert_eq!(events.lines().count(), 4, "{events}");

    world.config.artifact_limits = ArtifactLimits { files: 3, bytes: 1 << 20 };
    let run = world.run(vec![guest("few", "cd \"$ARTIFACTS\"; touch 1 2 3 4 5")]);
    let record = job(&run, "few");
    assert_eq!(run.verdict, Verdict::Passed);
    assert_eq!(record.artifacts.len(), 3);
    assert!(record.warnings.iter().any(|warning| warning.contains("more than 3 files")), "{record:?}");
    world.assert_nothing_left();
}

#[test]
fn globs_choose_files_of_the_workspace_when_the_job_says() {
    let test = "globs_choose_files_of_the_workspace_when_the_job_says";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let names = |when, script: &str| {
        let mut globbed = guest(
            "globbed",
            &format!(
                "mkdir -p out/deep; echo 1 >out/deep/x; echo 2 >y.log; echo 3 >$ARTIFACTS/own; \
                 echo 4 >$ARTIFACTS/z.log; echo copy >z.log; {script}"
            ),
        );
        globbed.writable_workspace = true;
        globbed.artifacts = vec!["out".to_owned(), "*.log".to_owned()];
        globbed.artifacts_when = when;
        let run = world.run(vec![globbed]);
        let record = job(&run, "globbed");
        // What a job puts there itself is never replaced, nor left out with the copies.
        let artifacts = world.config.state_root.join("runs").join(run.run_id.as_str());
        let z = artifacts.join("jobs/globbed/artifacts/z.log");
        assert_eq!(std::fs::read_to_string(z).unwrap(), "4\n");
        record.artifacts.iter().map(|artifact| artifact.path.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(ArtifactsWhen::Always, "true"), ["out/deep/x", "own", "y.log", "z.log"]);
    assert_eq!(names(ArtifactsWhen::Failure, "true"), ["own", "z.log"]);
    assert_eq!(names(ArtifactsWhen::Failure, "false"), ["out/deep/x", "own", "y.log", "z.log"]);
    assert_eq!(names(ArtifactsWhen::Never, "false"), ["own", "z.log"]);
    world.assert_nothing_left();
}

#[test]
fn limits_variables_and_root_are_those_that_the_job_asks_for() {
    let test = "limits_variables_and_root_are_those_that_the_job_asks_for";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let script = "cat /sys/fs/cgroup/memory.max; echo \"$OWN $PASSED $CARGO_INCREMENTAL $JERICHOCI_JOB\"; \
                  ls /sys/class/net; touch $CARGO_HOME/x $CARGO_TARGET_DIR/x $XDG_STATE_HOME/x /dev/shm/x";
    let mut limited = guest("limited", script);
    limited.env.insert("OWN".to_owned(), "its own".to_owned());
    limited.pass_env = vec!["PASSED".to_owned(), "UNSET".to_owned()];
    incus(&mut limited).memory_mib = Some(256);
    incus(&mut limited).vcpu_count = Some(1);
    incus(&mut limited).root_disk_gib = Some(2);
    // As many processors as nobody has, and as little memory as a guest can be asked to live in.
    let (mut greedy, mut modest) = (guest("greedy", "true"), guest("modest", "echo lives"));
    incus(&mut greedy).vcpu_count = Some(255);
    incus(&mut modest).memory_mib = Some(16);
    let run = world.run(vec![limited, greedy, modest]);
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}\n{}", world.guest_log(&run, "limited"));
    assert!(job(&run, "greedy").warnings[0].starts_with("255 processors are asked for"), "{run:#?}");
    assert!(world.host_log(&run, "greedy").contains("warning: 255 processors are asked for"));
    let log = world.guest_log(&run, "limited");
    let tag = format!("its own by the caller 0 {}/limited/", run.run_id);
    assert!(log.contains(&tag), "{log}");
    // No network but the loopback.
    assert!(log.ends_with("\nlo\n"), "{log}");
    world.assert_nothing_left();
}
