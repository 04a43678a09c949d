//! Jobs that are tried again.

use std::fs;

use jericho_host::{CancelReason, CancelToken};
use jerichoci::model::event::RunLifecycleEvent;
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::run::logs::open_log;
use jerichoci::run::logs::read::LogFile;
use jerichoci::{RunRequest, load_run_record};

use crate::rig::{Rig, job, needs, sh};

/// Passes at its attempt number `passes`, and keeps count in a file outside.
fn counted(rig: &Rig, id: &str, passes: u32, retries: u32) -> jerichoci::model::job::JobSpec {
    let count = rig.outside().join(format!("count-{id}"));
    let script = format!(
        "echo x >> '{count}'; n=$(wc -l < '{count}'); echo \"attempt $n\"; ls; touch left-$n
         echo $n > $ARTIFACTS/number; [ $n -ge {passes} ]",
        count = count.display()
    );
    let mut job = sh(id, &script);
    job.retries = retries;
    job
}

#[test]
fn a_job_that_passes_after_a_failure_is_flaky_and_keeps_every_attempt() {
    let rig = Rig::new();
    let run = rig.run(vec![counted(&rig, "test", 3, 4), needs(sh("after", "true"), &["test"])]);
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    let record = job(&run, "test");
    assert!(record.flaky && !job(&run, "after").flaky);
    let failed = Verdict::Failed(FailureKind::TestFailure);
    let attempts: Vec<_> = record.attempts.iter().map(|attempt| (attempt.attempt, attempt.verdict)).collect();
    assert_eq!(attempts, [(1, failed), (2, failed), (3, Verdict::Passed)]);
    assert!(record.attempts.iter().all(|attempt| attempt.finished_at.unwrap() >= attempt.started_at));
    for (attempt, n) in record.attempts.iter().zip(1..) {
        // What an earlier attempt left in its workspace is not there.
        let log = fs::read_to_string(rig.run_dir(&run).join(&attempt.host_log_path)).unwrap();
        assert_eq!(log, format!("attempt {n}\na.txt\n"));
        let dir = rig.job_dir(&run, "test").join(format!("attempts/{n}"));
        assert_eq!(fs::read_to_string(dir.join("artifacts/number")).unwrap(), format!("{n}\n"));
    }
    assert_eq!(rig.log(&run, "test"), "attempt 3\na.txt\n");
    let own = rig.job_dir(&run, "test").join("artifacts/number");
    assert_eq!(fs::read_to_string(own).unwrap(), "3\n");
    let id = run.run_id.parse().unwrap();
    let log = open_log(&rig.config.state_root, &id, Some("test"), LogFile::Host).unwrap();
    assert_eq!(std::io::read_to_string(log).unwrap(), "attempt 3\na.txt\n");
    assert_eq!(load_run_record(&rig.config.state_root, &id).unwrap(), run);

    let told: Vec<(u32, u32, u32)> = rig
        .events()
        .into_iter()
        .filter_map(|event| match event {
            RunLifecycleEvent::JobRetry { failed, next, of, .. } => Some((failed.attempt, next, of)),
            _ => None,
        })
        .collect();
    assert_eq!(told, [(1, 2, 5), (2, 3, 5)]);
    assert!(!RunLifecycleEvent::is_classic(
        rig.events().iter().find(|event| matches!(event, RunLifecycleEvent::JobRetry { .. })).unwrap()
    ));
}

#[test]
fn a_job_that_never_passes_has_failed_at_its_last_attempt_and_one_that_passes_at_once_has_one() {
    let rig = Rig::new();
    let run = rig.run(vec![counted(&rig, "test", 9, 1)]);
    assert_eq!(run.verdict, Verdict::Failed(FailureKind::TestFailure));
    assert_eq!((job(&run, "test").attempts.len(), job(&run, "test").flaky), (2, false));
    let run = rig.run(vec![counted(&rig, "steady", 1, 3)]);
    assert_eq!((job(&run, "steady").attempts.len(), job(&run, "steady").flaky), (0, false));
    assert!(!rig.job_dir(&run, "steady").join("attempts").exists());
}

#[test]
fn a_time_out_is_tried_again_and_a_job_that_was_cancelled_is_not() {
    let rig = Rig::new();
    let once = rig.outside().join("once");
    let mut slow = sh("slow", &format!("mkdir '{}' || exit 0; exec sleep 100", once.display()));
    (slow.timeout_secs, slow.retries) = (1, 1);
    let run = rig.run(vec![slow]);
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    assert_eq!(job(&run, "slow").attempts[0].verdict, Verdict::Failed(FailureKind::Timeout));

    let mut endless = sh("endless", "echo started; exec sleep 100");
    endless.retries = 3;
    let cancel = CancelToken::new().unwrap();
    let mut reporter = |entry: &jerichoci::model::event::JournalEntry| {
        if matches!(entry.event, RunLifecycleEvent::JobStarted { .. }) {
            cancel.cancel(CancelReason::Requested);
        }
        Ok(())
    };
    let run = rig.engine().run(&RunRequest::new(vec![endless]), &mut reporter, &cancel).unwrap();
    assert_eq!(run.verdict, Verdict::Failed(FailureKind::Cancelled));
    assert!(job(&run, "endless").attempts.is_empty());
}

#[test]
fn under_fail_fast_nothing_is_tried_again_after_another_job_has_failed() {
    let mut rig = Rig::new();
    rig.config.max_concurrent_executes = std::num::NonZeroUsize::new(2);
    let gone = rig.outside().join("gone");
    // The other one is tried again only after this one has failed, and the engine knows it.
    let fails = sh("fails", "exit 1");
    let journal = rig.config.state_root.join("runs");
    let mut waits = sh(
        "waits",
        &format!(
            "echo x >> '{}'; until grep -q '\"job_finished\"' '{}'/*/events.jsonl; do :; done; exit 1",
            gone.display(),
            journal.display()
        ),
    );
    waits.retries = 5;
    let run = rig.run(vec![waits, fails]);
    assert_eq!(run.verdict, Verdict::Failed(FailureKind::TestFailure));
    assert_eq!(fs::read_to_string(gone).unwrap(), "x\n");
}
