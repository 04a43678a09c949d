//! What is collected by age and by size.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use jericho_host::lock::FileLock;
use jerichoci::model::demands::{CacheSharing, CacheSpec};
use jerichoci::model::job::JobSpec;
use jerichoci::{GcPolicy, GcReport};

use crate::rig::{Rig, sh};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn writes(id: &str, cache: &str, bytes: u32) -> JobSpec {
    let mut job = sh(
        id,
        &format!("head -c {bytes} /dev/urandom > {cache}/data; head -c {bytes} /dev/urandom > $CARGO_HOME/d"),
    );
    job.caches.insert(cache.into(), CacheSpec { path: cache.into(), sharing: CacheSharing::Locked });
    job
}

#[expect(clippy::disallowed_methods, reason = "files get the time of the machine, not of a clock of tests")]
fn last_used(path: &Path, ago: Duration) {
    File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - ago).unwrap();
}

fn gc(rig: &Rig, policy: &GcPolicy) -> GcReport {
    let would = rig.engine().gc(&GcPolicy { dry_run: true, ..policy.clone() }).unwrap();
    let did = rig.engine().gc(policy).unwrap();
    assert_eq!(would.removed_runs, did.removed_runs, "a dry run says what will go");
    assert_eq!(would.removed_caches, did.removed_caches, "a dry run says what will go");
    assert_eq!(did.problems, Vec::<String>::new());
    did
}

#[test]
fn caches_that_nobody_used_for_long_go_and_one_in_use_stays() {
    let rig = Rig::new();
    rig.run(vec![writes("a", "old", 10), writes("b", "new", 10), writes("c", "busy", 10)]);
    let cache = rig.config.state_root.join("cache");
    fs::create_dir_all(cache.join("dev-env/shell")).unwrap();
    fs::write(cache.join("dev-env/shell/lock"), "").unwrap();
    for lock in ["named/old/lock", "named/busy/lock", "cargo-home.lock", "dev-env/shell/lock"] {
        last_used(&cache.join(lock), 20 * DAY);
    }
    let _busy = FileLock::try_exclusive(&cache.join("named/busy/lock")).unwrap().unwrap();
    let report = gc(&rig, &GcPolicy::default());
    assert_eq!(report.removed_caches, ["cache/named/old", "cache/dev-env/shell", "cache/cargo-home"]);
    assert!(cache.join("named/new/data/data").exists() && cache.join("named/busy/data/data").exists());
    assert!(report.removed_runs.is_empty());
    // What went is made anew.
    let run = rig.run(vec![writes("a", "old", 10)]);
    assert_eq!(run.verdict, jerichoci::model::outcome::Verdict::Passed);
}

/// Also what several jobs may use at once: each kind of cache has its own way to be in use.
#[test]
fn what_a_job_uses_while_it_runs_stays_whatever_the_limits_say() {
    let rig = Rig::new();
    let [started, go] = ["started", "go"].map(|name| rig.outside().join(name));
    jericho_testkit::repo::fifo(&started).unwrap();
    jericho_testkit::repo::fifo(&go).unwrap();
    let kept = "shared/kept locked/kept $CARGO_HOME/kept $CARGO_TARGET_DIR/kept a.txt";
    let script = format!(
        "for file in {kept}; do echo kept > $file; done; echo > {}; cat {}; cat {kept}",
        started.display(),
        go.display()
    );
    let mut job = sh("uses", &script);
    for (name, sharing) in [("shared", CacheSharing::Shared), ("locked", CacheSharing::Locked)] {
        job.caches.insert(name.into(), CacheSpec { path: name.into(), sharing });
    }
    let (report, run) = std::thread::scope(|scope| {
        let running = scope.spawn(|| rig.run(vec![job]));
        fs::read(&started).unwrap();
        let nothing = GcPolicy {
            keep_runs: 0,
            max_age: Some(Duration::ZERO),
            max_bytes: Some(0),
            cache_max_age: Duration::ZERO,
            dry_run: false,
        };
        let report = rig.engine().gc(&nothing).unwrap();
        fs::write(&go, "").unwrap();
        (report, running.join().unwrap())
    });
    assert_eq!(rig.log(&run, "uses"), "kept\n".repeat(5), "{report:?}");
    assert_eq!((report.removed_caches, report.removed_runs), (Vec::new(), Vec::new()));
    assert_eq!(report.kept_live, [run.run_id.as_str()]);
    assert!(rig.engine().snapshot_tree(&run.run_id.parse().unwrap()).is_ok());
}

#[test]
fn above_a_total_size_what_was_used_longest_ago_goes_first() {
    let rig = Rig::new();
    fs::write(rig.root.join("big"), vec![7; 3 << 20]).unwrap();
    let first = rig.run(vec![writes("a", "early", 1 << 20)]);
    fs::write(rig.root.join("big"), vec![8; 3 << 20]).unwrap();
    let second = rig.run(vec![writes("b", "late", 1 << 20)]);
    let cache = rig.config.state_root.join("cache");
    last_used(&cache.join("named/early/lock"), 3 * DAY);
    let limit = |bytes| GcPolicy { max_bytes: Some(bytes), ..GcPolicy::default() };
    let all = rig.engine().gc(&limit(u64::MAX)).unwrap();
    let total = all.left_bytes.unwrap();
    assert!(total > 9 << 20, "{all:?}");
    let report = gc(&rig, &limit(total - 1));
    assert_eq!(
        (&*report.removed_caches, report.removed_runs.len()),
        (&["cache/named/early".to_owned()][..], 0)
    );
    assert!(report.left_bytes.unwrap() < total && report.freed_bytes >= 1 << 20, "{report:?}");
    // The older run takes its snapshot with it.
    let store = |rig: &Rig| rig.engine().snapshot_tree(&first.run_id.parse().unwrap()).is_ok();
    assert!(store(&rig));
    let before = report.left_bytes.unwrap();
    let report = gc(&rig, &limit(before - 1));
    assert_eq!(report.removed_runs, [first.run_id.as_str()], "{report:?}");
    assert!(rig.engine().snapshot_tree(&second.run_id.parse().unwrap()).is_ok());
    // Everything but what is in use goes when nothing may stay.
    let report = gc(&rig, &limit(0));
    assert_eq!(report.removed_runs, [second.run_id.as_str()]);
    assert!(!cache.join("named/late").exists());
}
