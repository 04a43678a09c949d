//! Logs that are read while they grow.

use std::io::Read as _;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use jericho_host::{CancelReason, CancelToken};
use jerichoci::model::event::RunLifecycleEvent;
use jerichoci::model::outcome::Verdict;
use jerichoci::{LogFile, RunRequest, follow_log};

use crate::rig::{Rig, job, needs, sh};

#[test]
fn a_log_is_followed_from_before_its_job_starts_through_its_attempts_to_its_end() {
    let rig = Rig::new();
    let go = rig.outside().join("go");
    let count = rig.outside().join("count");
    // The job goes on only when the follower has heard what it said.
    let script = format!(
        "echo x >> '{count}'; echo \"attempt $(wc -l < '{count}')\"
         until [ -e '{go}' ]; do :; done; echo heard; [ $(wc -l < '{count}') = 2 ]",
        count = count.display(),
        go = go.display()
    );
    let mut late = needs(sh("late", &script), &["first"]);
    late.retries = 1;
    let (started, run_id) = channel();
    let run_id = Mutex::new(run_id);
    let mut reporter = |entry: &jerichoci::model::event::JournalEntry| {
        if let RunLifecycleEvent::JobStarted { run_id, job } = &entry.event
            && job.id == "first"
        {
            started.send(run_id.clone()).unwrap();
        }
        Ok(())
    };
    let hold = rig.outside().join("hold");
    let first = sh("first", &format!("until [ -e '{}' ]; do :; done", hold.display()));
    let request = RunRequest::new(vec![first, late]);
    let (run, log) = std::thread::scope(|scope| {
        let follower = scope.spawn(|| {
            let id = run_id.lock().unwrap().recv().unwrap().parse().unwrap();
            let mut log = follow_log(&rig.config.state_root, &id, Some("late"), LogFile::Host).unwrap();
            std::fs::write(&hold, "").unwrap();
            let (mut all, mut buffer) = (Vec::new(), [0; 7]);
            loop {
                let count = log.read(&mut buffer).unwrap();
                all.extend_from_slice(&buffer[..count]);
                if all.ends_with(b"attempt 1\n") {
                    std::fs::write(&go, "").unwrap();
                }
                if count == 0 {
                    return String::from_utf8(all).unwrap();
                }
            }
        });
        let cancel = CancelToken::new().unwrap();
        let run = rig.engine().run(&request, &mut reporter, &cancel).unwrap();
        (run, follower.join().unwrap())
    });
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    assert!(job(&run, "late").flaky);
    assert_eq!(log, "attempt 1\nheard\nattempt 2\nheard\n");
    // A log that is over ends at once.
    let id = run.run_id.parse().unwrap();
    let log = follow_log(&rig.config.state_root, &id, Some("late"), LogFile::Host).unwrap();
    assert_eq!(std::io::read_to_string(log).unwrap(), "attempt 2\nheard\n");
    let guest = follow_log(&rig.config.state_root, &id, Some("late"), LogFile::Guest).unwrap();
    assert_eq!(std::io::read_to_string(guest).unwrap(), "");
    assert!(follow_log(&rig.config.state_root, &id, Some("none"), LogFile::Host).is_err());
}

#[test]
fn following_ends_with_the_run_for_a_job_that_never_starts_and_when_it_is_cancelled() {
    let rig = Rig::new();
    let hold = rig.outside().join("hold");
    let (started, run_id) = channel();
    let run_id = Mutex::new(run_id);
    let mut reporter = |entry: &jerichoci::model::event::JournalEntry| {
        if let RunLifecycleEvent::JobStarted { run_id, .. } = &entry.event {
            started.send(run_id.clone()).unwrap();
        }
        Ok(())
    };
    let first = sh("first", &format!("until [ -e '{}' ]; do :; done; exit 1", hold.display()));
    let request = RunRequest::new(vec![first, needs(sh("never", "true"), &["first"])]);
    std::thread::scope(|scope| {
        let followers = scope.spawn(|| {
            let id = run_id.lock().unwrap().recv().unwrap().parse().unwrap();
            let follow = |job| follow_log(&rig.config.state_root, &id, Some(job), LogFile::Host).unwrap();
            let cancel = CancelToken::new().unwrap();
            let (mut cancelled, mut never) = (follow("first").until(cancel.clone()), follow("never"));
            std::thread::scope(|scope| {
                let cancelled = scope.spawn(move || cancelled.read(&mut [0; 9]).unwrap());
                cancel.cancel(CancelReason::Requested);
                assert_eq!(cancelled.join().unwrap(), 0);
            });
            std::fs::write(&hold, "").unwrap();
            never.read(&mut [0; 9]).unwrap()
        });
        rig.engine().run(&request, &mut reporter, &CancelToken::new().unwrap()).unwrap();
        assert_eq!(followers.join().unwrap(), 0);
    });
}
