//! What is collected on a host, and what is only told.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use jericho_host::lock::FileLock;
use jerichoci::config::DiskBudget;
use jerichoci::model::demands::{CacheSharing, CacheSpec};
use jerichoci::model::job::{JobRuntimeKind, JobSpec};
use jerichoci::{GcPolicy, GcReport, ReapOptions};

use crate::rig::{Rig, sh, token, wait_until};

/// Says that something was last used a month ago.
fn age(path: &Path) {
    let long_ago = fs::metadata(path).unwrap().modified().unwrap() - Duration::from_secs(30 * 24 * 3600);
    File::open(path).unwrap().set_modified(long_ago).unwrap();
}

fn gc(rig: &Rig, dry_run: bool) -> GcReport {
    let policy = GcPolicy { dry_run, ..GcPolicy::default() };
    rig.engine().gc_everywhere(&policy, &["box".to_owned()], &token()).unwrap()
}

fn with_cache(mut job: JobSpec, name: &str) -> JobSpec {
    let cache = CacheSpec { path: name.to_owned(), sharing: CacheSharing::Locked };
    job.caches.insert(name.to_owned(), cache);
    job
}

#[test]
fn what_nobody_uses_on_a_host_goes_and_a_dry_run_only_tells() {
    let Some(mut rig) = Rig::start("what_nobody_uses_on_a_host_goes_and_a_dry_run_only_tells") else {
        return;
    };
    rig.host().disk_budget = DiskBudget::Bytes(1 << 40);
    let build = |name: &str| with_cache(sh("build", "echo built >\"$(ls -d */ | head -1)\"x"), name);
    for cache in ["old", "held", "young"] {
        rig.run(vec![build(cache)]);
    }
    let work = rig.work_dir();
    let own_runner = fs::read_dir(work.join("bin")).unwrap().next().unwrap().unwrap().path();
    let own = fs::read_dir(work.join("cache/named")).unwrap().next().unwrap().unwrap().path();
    let engine = own.file_name().unwrap().to_str().unwrap();
    let old_runner = format!("bin/{}", "a".repeat(64));
    fs::create_dir(work.join(&old_runner)).unwrap();
    fs::write(work.join(&old_runner).join("jerichoci-incus-run"), "old").unwrap();
    // An engine that never came back for its jobs, and one that may.
    for run in ["r1", "r2"] {
        let job = work.join("runs").join(run).join("jobs/j");
        fs::create_dir_all(job.join("state")).unwrap();
        fs::write(job.join("owner.json"), r#"{"engine":"another","run_id":"r1","job_id":"j"}"#).unwrap();
        fs::write(job.join("state/result.json"), "{}").unwrap();
        fs::write(job.join("state/.runner.lock"), "").unwrap();
    }
    age(&work.join("runs/r1/jobs/j/state/result.json"));
    for dir in [&own_runner, &work.join(&old_runner), &own.join("old/lock"), &own.join("held/lock")] {
        age(dir);
    }
    let held = FileLock::try_exclusive(&own.join("held/lock")).unwrap().unwrap();

    let told = gc(&rig, true);
    let expected = ["runs/r1/jobs/j", &old_runner, &format!("cache/named/{engine}/old/data")];
    assert_eq!(told.hosts[0].removed, expected, "{told:?}");
    assert!(
        told.hosts[0].freed_bytes > 0 && told.problems.is_empty() && told.unreachable.is_empty(),
        "{told:?}"
    );
    for path in expected {
        assert!(work.join(path).exists(), "{path}");
    }
    age(&own_runner);
    let done = gc(&rig, false);
    assert_eq!(done.hosts[0].removed, expected);
    for path in expected {
        assert!(!work.join(path).exists(), "{path}");
    }
    for path in [own_runner, own.join("held/data"), own.join("young/data"), work.join("runs/r2/jobs/j")] {
        assert!(path.exists(), "{}", path.display());
    }
    drop(held);

    // What all jobs share goes only while no job may be at work.
    let (home, spaces) = (work.join("cache/cargo-home"), work.join("cache/workspace"));
    age(&home);
    assert_eq!(gc(&rig, true).hosts[0].removed, [format!("cache/named/{engine}/held/data")]);
    fs::remove_dir_all(work.join("runs/r2")).unwrap();
    let done = gc(&rig, false).hosts.remove(0).removed;
    assert!(done.contains(&"cache/cargo-home".to_owned()), "{done:?}");
    assert!(!home.exists());
    let space = spaces.join(engine).join("run/build/workspace");
    if space.exists() {
        age(&space);
        gc(&rig, false);
        assert!(!spaces.join(engine).exists());
    }
    // And everything is made again.
    assert_eq!(rig.run(vec![build("old")]).verdict, jerichoci::model::outcome::Verdict::Passed);
}

#[test]
fn snapshots_beyond_the_disk_budget_of_a_host_go_and_a_host_that_is_away_is_a_warning() {
    let name = "snapshots_beyond_the_disk_budget_of_a_host_go_and_a_host_that_is_away_is_a_warning";
    let Some(mut rig) = Rig::start(name) else { return };
    rig.run(vec![sh("one", "true")]);
    let listed = || fs::read_dir(rig.work_dir().join("snapshots")).unwrap().flatten();
    let hash = listed().map(|entry| entry.file_name().into_string().unwrap()).find(|name| name.len() == 64);
    let hash = hash.unwrap();
    rig.host().disk_budget = DiskBudget::Bytes(0);
    // Also where there is no room for a run.
    rig.host().min_free = u64::MAX;
    let dir = rig.work_dir().join("snapshots").join(&hash);
    assert_eq!(gc(&rig, true).hosts[0].removed, [format!("snapshots/{hash}")]);
    assert!(dir.exists());
    assert_eq!(gc(&rig, false).hosts[0].removed, [format!("snapshots/{hash}")]);
    assert!(!dir.exists());
    "rig-refused".clone_into(&mut rig.host().ssh);
    let report = gc(&rig, false);
    assert!(report.hosts.is_empty() && report.problems.is_empty(), "{report:?}");
    let [why] = report.unreachable.as_slice() else { panic!("{report:?}") };
    assert!(why.starts_with("host box: "), "{why}");
}

#[test]
fn a_reaper_that_only_tells_ends_nothing() {
    let Some(mut rig) = Rig::start("a_reaper_that_only_tells_ends_nothing") else { return };
    // There is no Incus to look for guests in.
    rig.host().allow = vec![JobRuntimeKind::HostProcess];
    let mut engine = rig.engine_process("echo up; sleep 4141");
    wait_until(|| rig.commands("sleep 4141").len() == 1);
    let options = ReapOptions { hosts: vec!["box".to_owned()], dry_run: true, ..ReapOptions::default() };
    let live = rig.engine().reap_all(&options, &token()).unwrap();
    assert!(live.jobs.is_empty() && live.runs.is_empty(), "{live:?}");
    rig.kill(engine.id());
    engine.wait().unwrap();
    let told = rig.engine().reap_all(&options, &token()).unwrap();
    let [run] = told.runs.as_slice() else { panic!("{told:?}") };
    assert_eq!(told.jobs, [format!("{run}/job on box")], "{told:?}");
    assert_eq!(rig.commands("sleep 4141").len(), 1);
    let again = rig.engine().reap_all(&options, &token()).unwrap();
    assert_eq!(again, told);
    let done = rig.engine().reap_all(&ReapOptions { dry_run: false, ..options }, &token()).unwrap();
    assert_eq!((done.runs, done.jobs), (told.runs, told.jobs));
    assert!(rig.commands("sleep 4141").is_empty());
}
