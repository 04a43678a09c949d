//! Named caches.

use std::fs;

use jericho_host::{CancelReason, CancelToken};
use jerichoci::model::demands::{CacheSharing, CacheSpec};
use jerichoci::model::job::{IncusRuntimeConfig, JobRuntimeConfig, JobSpec};
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::{EngineError, NoReporter, RunRequest};

use crate::rig::{Rig, job, sh};

fn with_cache(mut job: JobSpec, name: &str, path: &str, sharing: CacheSharing) -> JobSpec {
    job.caches.insert(name.to_owned(), CacheSpec { path: path.to_owned(), sharing });
    job
}

#[test]
fn what_lies_in_a_cache_is_there_in_the_next_run_and_in_no_snapshot() {
    let rig = Rig::new();
    let script =
        "echo \"$JERICHO_CACHE_MY_DEPS\"; cat deps/x/kept 2>/dev/null; echo kept > deps/x/kept; ls deps/x";
    let job = with_cache(sh("one", script), "my-deps", "deps/x", CacheSharing::Locked);
    let first = rig.run(vec![job.clone()]);
    assert_eq!(first.verdict, Verdict::Passed, "{first:#?}");
    let log = rig.log(&first, "one");
    assert!(log.lines().next().unwrap().ends_with("/deps/x"), "{log}");
    assert!(log.ends_with("/deps/x\nkept\n"), "{log}");
    let again = rig.run(vec![job]);
    assert!(rig.log(&again, "one").ends_with("/deps/x\nkept\nkept\n"));
    assert_eq!(first.snapshot_hash, again.snapshot_hash);
    assert!(!rig.root.join("deps").exists());
    // Another job, another target: the same cache, at another place.
    let other = with_cache(sh("two", "cat else/kept"), "my-deps", "else", CacheSharing::Shared);
    assert_eq!(rig.run(vec![other]).verdict, Verdict::Passed);
}

#[test]
fn a_cache_covers_a_directory_of_the_tree_and_never_a_file_or_a_link() {
    let rig = Rig::new();
    fs::create_dir(rig.root.join("deps")).unwrap();
    fs::write(rig.root.join("deps/tracked"), "x").unwrap();
    std::os::unix::fs::symlink(rig.outside(), rig.root.join("out")).unwrap();
    let covered = with_cache(sh("covered", "ls deps; echo x > deps/new"), "c", "deps", CacheSharing::Locked);
    let run = rig.run(vec![covered]);
    assert_eq!((run.verdict, rig.log(&run, "covered").as_str()), (Verdict::Passed, ""));
    let run = rig.run(vec![sh("covered", "ls deps")]);
    assert_eq!(rig.log(&run, "covered"), "tracked\n", "the tree is as it was");
    for path in ["a.txt", "a.txt/x", "out", "out/x"] {
        let run = rig.run(vec![with_cache(sh("bad", "true"), "c", path, CacheSharing::Locked)]);
        assert_eq!(run.verdict, Verdict::Failed(FailureKind::Infrastructure), "{path}");
        let message = job(&run, "bad").message.clone().unwrap();
        assert!(message.contains("the cache `c` cannot be at"), "{message}");
    }
    assert!(!rig.outside().join("x").exists());
    for path in ["/abs", "../up", "a/../b", "", "."] {
        let request = RunRequest::new(vec![with_cache(sh("bad", "true"), "c", path, CacheSharing::Locked)]);
        let cancel = CancelToken::new().unwrap();
        let error = rig.engine().run(&request, &mut NoReporter, &cancel).unwrap_err();
        assert!(matches!(error, EngineError::Request(_)), "{path}: {error}");
    }
}

#[test]
fn a_locked_cache_belongs_to_one_job_of_one_run_and_waiting_for_it_costs_no_slot_and_no_time_limit() {
    let rig = Rig::new();
    let script = "mkdir c/busy || exit 1; sleep 0.3; rmdir c/busy";
    let jobs = |ids: [&str; 2]| {
        ids.map(|id| with_cache(sh(id, script), "c", "c", CacheSharing::Locked))
            .into_iter()
            .collect::<Vec<_>>()
    };
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| rig.run(jobs(["a", "b"])));
        let second = scope.spawn(|| rig.run(jobs(["c", "d"])));
        (first.join().unwrap(), second.join().unwrap())
    });
    assert_eq!((first.verdict, second.verdict), (Verdict::Passed, Verdict::Passed), "{first:#?} {second:#?}");

    let lock = rig.config.state_root.join("cache/named/c/lock");
    let held = jericho_host::lock::FileLock::try_exclusive(&lock).unwrap().unwrap();
    let mut waits = with_cache(sh("waits", "true"), "c", "c", CacheSharing::Locked);
    waits.timeout_secs = 1;
    let (told, heard) = std::sync::mpsc::channel();
    let run = std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let mut reporter = Watching(told);
            let cancel = CancelToken::new().unwrap();
            rig.engine().run(&RunRequest::new(vec![waits]), &mut reporter, &cancel).unwrap()
        });
        // Longer than its time limit; the wait itself is what is tested.
        assert!(heard.recv().unwrap().contains("waiting for the cache `c`"));
        let (_never, pause) = std::sync::mpsc::channel::<()>();
        let _ = pause.recv_timeout(std::time::Duration::from_millis(1200));
        drop(held);
        running.join().unwrap()
    });
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    let phase = job(&run, "waits").phases.iter().find(|phase| phase.phase == "wait_for_cache").unwrap();
    assert!(phase.duration_ms >= 1000);
    assert!(rig.log(&run, "waits").starts_with("[jerichoci] waiting for the cache `c`"));
}

#[test]
fn who_waits_for_a_cache_is_told_whose_it_is_and_waits_no_longer_than_it_may() {
    let mut rig = Rig::new();
    rig.config.cache_wait = std::time::Duration::from_secs(1);
    let script = "echo have; until [ -e c/go ]; do sleep 0.02; done";
    let has = with_cache(sh("has", script), "c", "c", CacheSharing::Locked);
    let wants = with_cache(sh("wants", "true"), "c", "c", CacheSharing::Locked);
    let (told, heard) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let has = scope.spawn(|| {
            let cancel = CancelToken::new().unwrap();
            rig.engine().run(&RunRequest::new(vec![has]), &mut Watching(told), &cancel).unwrap()
        });
        assert!(heard.recv().unwrap().contains("have"));
        let run = rig.run(vec![wants.clone()]);
        fs::write(rig.config.state_root.join("cache/named/c/data/go"), "").unwrap();
        let has = has.join().unwrap();
        assert_eq!(run.verdict, Verdict::Failed(FailureKind::Infrastructure), "{run:#?}");
        let message = job(&run, "wants").message.clone().unwrap();
        assert_eq!(message, "the cache `c`: it was not free within 1 s");
        let line = format!("waiting for the cache `c`, which job `has` of run {} has", has.run_id);
        assert!(rig.log(&run, "wants").contains(&line), "{}", rig.log(&run, "wants"));
    });
    assert_eq!(rig.run(vec![wants]).verdict, Verdict::Passed);
}

#[derive(Debug)]
struct Watching(std::sync::mpsc::Sender<String>);

impl jerichoci::Reporter for Watching {
    fn report(&mut self, _: &jerichoci::model::event::JournalEntry) -> std::io::Result<()> {
        Ok(())
    }

    fn watch(&self) -> Option<std::sync::Arc<dyn jerichoci::OutputWatch>> {
        Some(std::sync::Arc::new(Self(self.0.clone())))
    }
}

impl jerichoci::OutputWatch for Watching {
    fn output(&self, _: &str, bytes: &[u8]) {
        let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
    }

    fn ended(&self, _: &str) {}
}

#[test]
fn waiting_for_a_cache_is_given_up_on_cancel() {
    let rig = Rig::new();
    fs::create_dir_all(rig.config.state_root.join("cache/named/c/data")).unwrap();
    rig.run(vec![with_cache(sh("make", "true"), "c", "c", CacheSharing::Locked)]);
    let lock = rig.config.state_root.join("cache/named/c/lock");
    let _held = jericho_host::lock::FileLock::try_exclusive(&lock).unwrap().unwrap();
    let cancel = CancelToken::new().unwrap();
    let (told, heard) = std::sync::mpsc::channel();
    let run = std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let request =
                RunRequest::new(vec![with_cache(sh("waits", "true"), "c", "c", CacheSharing::Locked)]);
            rig.engine().run(&request, &mut Watching(told), &cancel).unwrap()
        });
        heard.recv().unwrap();
        cancel.cancel(CancelReason::Requested);
        running.join().unwrap()
    });
    assert_eq!(run.verdict, Verdict::Failed(FailureKind::Cancelled));
    assert!(!rig.config.state_root.join("cache/named/c/data/busy").exists());
}

#[test]
fn a_shared_cache_is_had_by_several_jobs_at_once() {
    let mut rig = Rig::new();
    rig.config.max_concurrent_executes = std::num::NonZeroUsize::new(2);
    // Each waits for the other to come.
    let script = |own: &str, other: &str| format!("touch c/{own}; until [ -e c/{other} ]; do :; done");
    let mut jobs = vec![sh("a", &script("a", "b")), sh("b", &script("b", "a"))];
    for job in &mut jobs {
        job.timeout_secs = 60;
        *job = with_cache(job.clone(), "c", "c", CacheSharing::Shared);
    }
    assert_eq!(rig.run(jobs).verdict, Verdict::Passed);
}

#[test]
fn a_cache_where_a_guest_has_its_source_is_refused_before_anything_runs() {
    let rig = Rig::new();
    for path in ["/workspace/snapshot", "/workspace", "/", "/proc/x"] {
        let mut job = with_cache(sh("job", "true"), "c", path, CacheSharing::Locked);
        job.runtime = JobRuntimeConfig::Incus(IncusRuntimeConfig::default());
        let cancel = CancelToken::new().unwrap();
        let error = rig.engine().run(&RunRequest::new(vec![job]), &mut NoReporter, &cancel).unwrap_err();
        assert!(error.to_string().contains(&format!("it cannot be at {path}: ")), "{error}");
    }
}
