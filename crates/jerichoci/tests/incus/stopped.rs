//! An Incus of this machine that takes connections and answers nothing.

use std::fs;
use std::time::Duration;

use jericho_host::{CancelReason, CancelToken};
use jericho_testkit::incus::Rig;
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::{ReapOptions, RunRequest};

use crate::rig::{World, find, guest, monotonic};

#[test]
fn a_cancellation_while_incus_of_this_machine_answers_nothing_ends_soon_whatever_the_run_is_at() {
    let test = "a_cancellation_while_incus_of_this_machine_answers_nothing_ends_soon_whatever_the_run_is_at";
    // It is stopped, for all who use it.
    let Some(rig) = Rig::own(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let runs = world.config.state_root.join("runs");
    let logged =
        || find(&runs, "guest.log").iter().any(|log| fs::metadata(log).is_ok_and(|log| log.len() > 0));
    let phase = |word: &'static str| {
        let runs = runs.clone();
        move || {
            let events = find(&runs, "events.jsonl");
            events.iter().any(|file| fs::read_to_string(file).is_ok_and(|text| text.contains(word)))
        }
    };
    for (at, has_come, script) in [
        ("the start", &phase("run_started") as &dyn Fn() -> bool, "echo begun; sleep 300"),
        // Written down before it is made.
        ("about to be made", &|| !find(&runs, "instance.json").is_empty(), "echo begun; sleep 300"),
        ("made", &|| !project.instances().unwrap().is_empty(), "echo begun; sleep 300"),
        ("running", &logged, "echo begun; sleep 300"),
        (
            "artifacts",
            &|| !find(&runs, "result.json").is_empty(),
            "echo begun; head -c 200M /dev/zero >$ARTIFACTS/large",
        ),
    ] {
        let cancel = CancelToken::new().unwrap();
        let (run, spent, paused) = std::thread::scope(|scope| {
            let mut cancelled = guest("cancelled", script);
            cancelled.artifacts = vec!["*".to_owned()];
            let running = scope.spawn(|| world.run_until(&RunRequest::new(vec![cancelled]), &cancel));
            while !has_come() {
                std::thread::yield_now();
            }
            let paused = rig.pause_daemon().unwrap();
            let begun = monotonic();
            cancel.cancel(CancelReason::Signal);
            (running.join().unwrap(), monotonic().saturating_sub(begun), paused)
        });
        assert!(spent < Duration::from_secs(5), "{at}: {spent:?}");
        // Whose result was there has passed.
        let ended = [Verdict::Failed(FailureKind::Cancelled), Verdict::Passed];
        assert!(ended[..if at == "artifacts" { 2 } else { 1 }].contains(&run.verdict), "{at}: {run:#?}");
        drop(paused);
        for left in project.instances().unwrap() {
            let mut named = run.jobs.iter().flat_map(|job| &job.left_behind);
            assert!(named.any(|line| line.contains(&left)), "{at}: {run:#?}");
        }
        let reap = || world.engine().reap_all(&ReapOptions::default(), &CancelToken::new().unwrap()).unwrap();
        let reaped = reap();
        assert_eq!(reaped.problems, Vec::<String>::new(), "{at}");
        let next = world.run(vec![guest("next", "true")]);
        assert_eq!(next.verdict, Verdict::Passed, "{at}: {next:#?}");
        world.assert_nothing_left();
        fs::remove_dir_all(&runs).unwrap();
    }
}
