//! What happens to networks and engines while a job runs on a host.

use std::fs;
use std::time::Duration;

use jericho_host::{CancelReason, CancelToken};
use jerichoci::RunRequest;
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::model::record::RunRecord;

use crate::rig::{Rig, job, sh, token, wait_until};

/// Prints numbered lines until a file is there, and as many after that as before.
fn counting(go: &std::path::Path) -> String {
    format!(
        "i=0; while [ ! -e {go} ]; do i=$((i+1)); echo \"line $i\"; sleep 0.01; done; \
         n=$i; while [ $i -lt $((2*n)) ]; do i=$((i+1)); echo \"line $i\"; done; echo last $i",
        go = go.display()
    )
}

/// The lines of the command, which are numbered from 1 without a gap.
#[track_caller]
fn assert_whole(log: &str) {
    let own: Vec<&str> = log.lines().filter(|line| !line.starts_with("[jerichoci] ")).collect();
    let (last, lines) = own.split_last().unwrap();
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(*line, format!("line {}", index + 1), "{log}");
    }
    assert_eq!(*last, format!("last {}", lines.len()));
    assert!(lines.len() > 20);
}

/// Runs one job, and does something to the connection once it prints.
fn disturbed(rig: &mut Rig, script: &str, cancel: &CancelToken, disturb: impl FnOnce(&mut Rig)) -> RunRecord {
    let request = RunRequest::new(vec![sh("job", script)]);
    let engine = rig.engine();
    std::thread::scope(|scope| {
        let run = scope.spawn(|| engine.run(&request, &mut jerichoci::NoReporter, cancel).unwrap());
        rig.wait_for_log("job", "line 20\n");
        disturb(rig);
        run.join().unwrap()
    })
}

/// A job goes on while its connection is lost by `fault`, and its log is whole.
#[track_caller]
fn survives(test: &str, fault: impl FnOnce(&mut Rig)) {
    let Some(mut rig) = Rig::start(test) else { return };
    let go = rig.outside().join("go");
    let run = disturbed(&mut rig, &counting(&go), &token(), |rig| {
        let master = rig.masters();
        fault(rig);
        // The fault has hit when there is another master.
        wait_until(|| !rig.masters().is_empty() && rig.masters() != master);
        rig.wait_for_log("job", "going on at byte");
        fs::write(&go, "").unwrap();
    });
    let log = rig.log(&run, "job", "host.log");
    assert_eq!(run.verdict, Verdict::Passed, "{log}");
    assert_whole(&log);
    assert!(log.contains("lost the connection to box at byte "), "{log}");
    assert!(log.contains("connected to box again, going on at byte "), "{log}");
    assert_eq!(rig.left(), Vec::<String>::new());
}

#[test]
fn when_the_master_is_killed_no_byte_is_lost_or_doubled() {
    survives("when_the_master_is_killed_no_byte_is_lost_or_doubled", |rig| {
        rig.masters().into_iter().for_each(|master| rig.kill(master));
    });
}

#[test]
fn when_the_sessions_of_sshd_are_killed_no_byte_is_lost_or_doubled() {
    survives("when_the_sessions_of_sshd_are_killed_no_byte_is_lost_or_doubled", |rig| {
        rig.sshd.kill_sessions();
    });
}

#[test]
fn when_sshd_is_restarted_no_byte_is_lost_or_doubled() {
    survives("when_sshd_is_restarted_no_byte_is_lost_or_doubled", |rig| rig.sshd.restart());
}

#[test]
fn a_host_that_does_not_come_back_is_an_error_and_what_was_left_is_ended_by_the_next_run() {
    let name = "a_host_that_does_not_come_back_is_an_error_and_what_was_left_is_ended_by_the_next_run";
    let Some(mut rig) = Rig::start(name) else { return };
    rig.config.hosts.reconnect = Duration::from_secs(1);
    let marker = "sleep 3017";
    let script = format!("i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo \"line $i\"; done; {marker}");
    let run = disturbed(&mut rig, &script, &token(), |rig| rig.sshd.stop());
    let record = job(&run, "job");
    assert_eq!(record.verdict, Verdict::Failed(FailureKind::Infrastructure), "{record:?}");
    assert!(record.message.as_deref().unwrap().contains("the command runs"), "{record:?}");
    assert!(record.left_behind.iter().any(|line| line.contains("box")), "{record:?}");
    assert_eq!(record.leaked, Vec::<String>::new());
    assert_eq!(rig.commands(marker).len(), 1);
    rig.sshd.restart();
    let next = rig.run(vec![sh("next", "true")]);
    assert_eq!(next.verdict, Verdict::Passed);
    assert_eq!(rig.commands(marker), Vec::<u32>::new());
    let expected = format!("left on box by a dead engine and ended: job {}/job", run.run_id);
    assert!(next.warnings.contains(&expected), "{:?}", next.warnings);
    assert_eq!(rig.left(), Vec::<String>::new());
}

#[test]
fn cancelled_while_the_host_is_away_a_run_ends_soon_and_names_what_is_left() {
    let name = "cancelled_while_the_host_is_away_a_run_ends_soon_and_names_what_is_left";
    let Some(mut rig) = Rig::start(name) else { return };
    let cancel = token();
    let marker = "sleep 3018";
    let script = format!("i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo \"line $i\"; done; {marker}");
    let mut cancelled_at = None;
    let run = disturbed(&mut rig, &script, &cancel, |rig| {
        rig.sshd.stop();
        rig.wait_for_log("job", "lost the connection");
        cancelled_at = Some(rig.now());
        cancel.cancel(CancelReason::Signal);
    });
    let took = rig.now() - cancelled_at.unwrap();
    assert!(took < Duration::from_secs(5), "{took:?}");
    let record = job(&run, "job");
    assert_eq!(record.verdict, Verdict::Failed(FailureKind::Cancelled), "{record:?}");
    let [left] = record.left_behind.as_slice() else { panic!("{record:?}") };
    assert!(left.contains("the next run that uses the host ends it"), "{left}");
    assert_eq!(record.leaked, Vec::<String>::new());
    rig.sshd.restart();
    rig.run(vec![sh("next", "true")]);
    assert_eq!(rig.commands(marker), Vec::<u32>::new());
    assert_eq!(rig.left(), Vec::<String>::new());
}

#[test]
fn cancelled_while_the_host_says_nothing_a_run_ends_soon_whatever_it_is_at() {
    let name = "cancelled_while_the_host_says_nothing_a_run_ends_soon_whatever_it_is_at";
    let is_there = |rig: &Rig, name: &str| rig.work_dir().join(name).exists();
    let marker = "sleep 3021";
    for (phase, has_come) in [
        ("connecting", &(|rig: &Rig| !rig.sshd.sessions().is_empty()) as &dyn Fn(&Rig) -> bool),
        ("looking", &|rig| is_there(rig, "")),
        ("sending", &|rig| is_there(rig, "snapshots")),
        ("handing over", &|rig| is_there(rig, "runs")),
        ("running", &|rig| !rig.commands(marker).is_empty()),
    ] {
        let Some(rig) = Rig::start(name) else { return };
        let cancel = token();
        let request = RunRequest::new(vec![sh("job", marker)]);
        let (run, took) = std::thread::scope(|scope| {
            let run = scope.spawn(|| rig.run_until(&request, &cancel));
            while !has_come(&rig) {
                std::thread::yield_now();
            }
            rig.sshd.stop_sessions();
            let cancelled_at = rig.now();
            cancel.cancel(CancelReason::Signal);
            (run.join().unwrap(), rig.now() - cancelled_at)
        });
        assert!(took < Duration::from_secs(5), "{phase}: {took:?}");
        let record = job(&run, "job");
        assert_eq!(run.verdict, Verdict::Failed(FailureKind::Cancelled), "{phase}: {record:?}");
        if phase == "running" {
            let is_named = |line: &String| line.contains("the next run that uses the host ends it");
            assert!(record.left_behind.iter().any(is_named), "{record:?}");
        }
        rig.sshd.continue_sessions();
        rig.run(vec![sh("next", "true")]);
        assert_eq!(rig.commands(marker), Vec::<u32>::new(), "{phase}");
        assert_eq!(rig.left(), Vec::<String>::new(), "{phase}");
    }
}

#[test]
fn a_runner_that_is_killed_is_no_verdict_of_the_command() {
    let name = "a_runner_that_is_killed_is_no_verdict_of_the_command";
    let Some(mut rig) = Rig::start(name) else { return };
    let run = disturbed(
        &mut rig,
        "i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo \"line $i\"; done; sleep 3019",
        &token(),
        |rig| {
            for runner in rig.runners() {
                rig.kill(runner);
            }
        },
    );
    let record = job(&run, "job");
    assert_eq!(record.verdict, Verdict::Failed(FailureKind::Infrastructure), "{record:?}");
    assert!(record.message.as_deref().unwrap().contains("the runner was killed"), "{record:?}");
    assert_eq!(rig.commands("sleep 3019"), Vec::<u32>::new());
    assert_eq!(rig.left(), Vec::<String>::new());
}

/// The engine that is killed: this test in a process of its own.
#[test]
fn the_engine_of_another_process() {
    if let Some((engine, job)) = Rig::of_another_process() {
        let run = engine.run(&RunRequest::new(vec![job]), &mut jerichoci::NoReporter, &token());
        panic!("it was to be killed: {run:?}");
    }
}

#[test]
fn a_job_whose_engine_was_killed_is_ended_by_the_next_and_those_of_other_engines_are_left_alone() {
    let name = "a_job_whose_engine_was_killed_is_ended_by_the_next_and_those_of_other_engines_are_left_alone";
    let Some(rig) = Rig::start(name) else { return };
    let other = rig.work_dir().join("runs/20260101T000000Z-00000000/jobs/theirs");
    fs::create_dir_all(&other).unwrap();
    let owner =
        r#"{"schema_version":1,"engine":"ffff","run_id":"20260101T000000Z-00000000","job_id":"theirs"}"#;
    fs::write(other.join("owner.json"), owner).unwrap();
    fs::set_permissions(rig.work_dir(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let mut child = rig.engine_process("echo line 20; sleep 3020");
    rig.wait_for_log("job", "line 20\n");
    let runners = rig.runners();
    assert_eq!(runners.len(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(rig.runners(), runners, "it outlives its engine");
    let next = rig.run(vec![sh("next", "true")]);
    assert_eq!(next.verdict, Verdict::Passed);
    assert_eq!(rig.runners(), Vec::<u32>::new());
    assert_eq!(rig.commands("sleep 3020"), Vec::<u32>::new());
    assert!(other.join("owner.json").exists());
    let told = "left on box by a dead engine and ended: job ";
    assert!(next.warnings.iter().any(|line| line.starts_with(told)), "{:?}", next.warnings);
    // What it had said until then has come home.
    let killed = next.warnings.iter().find_map(|line| line.strip_prefix(told)?.split('/').next());
    let dir = rig.config.state_root.join("runs").join(killed.unwrap()).join("jobs/job");
    assert_eq!(fs::read_to_string(dir.join("artifacts/guest.log")).unwrap(), "line 20\n");
    assert!(dir.join("artifacts/result.json").exists());
    let log = fs::read_to_string(dir.join("host.log")).unwrap();
    assert!(log.contains("after the engine had died: result.json, guest.log"), "{log}");
}

#[test]
fn a_job_does_not_wait_for_the_reaping_of_what_was_left_on_its_host() {
    let name = "a_job_does_not_wait_for_the_reaping_of_what_was_left_on_its_host";
    let Some(rig) = Rig::start(name) else { return };
    // What a job has on its host, to be left by another one.
    let copied = rig.outside().join("copied");
    let copy = format!("mkdir {0}; cp \"$ARTIFACTS\"/../*.json {0}", copied.display());
    let first = rig.run(vec![sh("job", &copy)]);
    assert_eq!(first.verdict, Verdict::Passed, "{first:#?}");
    let left = "20260101T000000Z-00000000";
    let dir = rig.work_dir().join("runs").join(left).join("jobs/job");
    fs::create_dir_all(dir.join("state/logs")).unwrap();
    for file in ["owner.json", "request.json"] {
        let text = fs::read_to_string(copied.join(file)).unwrap();
        fs::write(dir.join(file), text.replace(&first.run_id, left)).unwrap();
    }
    fs::create_dir_all(rig.config.state_root.join("runs").join(left).join("jobs/job/artifacts")).unwrap();
    // Its log cannot be read to the end.
    let log = dir.join("state/logs/guest.log");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &log, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    // The result is written before the log is read.
    let script = format!("until [ -e {} ]; do sleep 0.05; done", dir.join("state/result.json").display());
    let next = rig.run(vec![sh("next", &script)]);
    assert_eq!(next.verdict, Verdict::Passed, "{next:#?}");
    assert!(dir.exists(), "its reaping was still going on");
}

#[test]
fn the_result_of_a_job_whose_engine_was_killed_comes_home_without_a_log_too() {
    let name = "the_result_of_a_job_whose_engine_was_killed_comes_home_without_a_log_too";
    let Some(rig) = Rig::start(name) else { return };
    let mut child = rig.engine_process("echo line 20; sleep 3022");
    rig.wait_for_log("job", "line 20\n");
    child.kill().unwrap();
    child.wait().unwrap();
    let run = fs::read_dir(rig.work_dir().join("runs")).unwrap().next().unwrap().unwrap();
    fs::remove_file(run.path().join("jobs/job/state/logs/guest.log")).unwrap();
    let next = rig.run(vec![sh("next", "true")]);
    assert!(!next.warnings.iter().any(|line| line.contains("was not collected")), "{:?}", next.warnings);
    let kept = rig.config.state_root.join("runs").join(run.file_name()).join("jobs/job/artifacts");
    assert!(kept.join("result.json").exists());
    let names: Vec<_> = fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["result.json"]);
    assert_eq!(rig.left(), Vec::<String>::new());
}

#[test]
fn a_run_leaves_the_jobs_of_another_run_that_works_alone() {
    let Some(mut rig) = Rig::start("a_run_leaves_the_jobs_of_another_run_that_works_alone") else { return };
    let go = rig.outside().join("go");
    let run = disturbed(&mut rig, &counting(&go), &token(), |rig| {
        let runners = rig.runners();
        let other = rig.run(vec![sh("other", "true")]);
        assert_eq!((other.verdict, other.warnings), (Verdict::Passed, Vec::new()));
        assert_eq!(rig.runners(), runners);
        fs::write(&go, "").unwrap();
    });
    let log = rig.log(&run, "job", "host.log");
    assert_eq!(run.verdict, Verdict::Passed, "{log}");
    assert_whole(&log);
    assert_eq!(rig.left(), Vec::<String>::new());
}

#[test]
fn what_is_collected_after_an_engine_was_killed_shows_no_secret() {
    let name = "what_is_collected_after_an_engine_was_killed_shows_no_secret";
    let Some(mut rig) = Rig::start(name) else { return };
    rig.config.secrets.insert("TOKEN", "hunter22-value");
    let mut child = rig.engine_process("echo \"is $TOKEN\"; echo line 20; sleep 3023");
    rig.wait_for_log("job", "line 20\n");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(rig.run(vec![sh("next", "true")]).verdict, Verdict::Passed);
    assert_eq!(rig.commands("sleep 3023"), Vec::<u32>::new());
    let runs: Vec<_> = fs::read_dir(rig.config.state_root.join("runs")).unwrap().flatten().collect();
    let killed = runs.iter().map(|entry| entry.path().join("jobs/job")).find(|dir| dir.exists()).unwrap();
    assert_eq!(fs::read_to_string(killed.join("artifacts/guest.log")).unwrap(), "is ***\nline 20\n");
    for name in ["host.log", "artifacts/result.json", "status.json"] {
        let text = fs::read_to_string(killed.join(name)).unwrap();
        assert!(!text.contains("hunter22"), "{name}: {text}");
    }
}

#[test]
fn a_source_tree_is_released_after_the_job_that_stands_on_it_was_removed() {
    use std::mem::MaybeUninit;

    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

    let name = "a_source_tree_is_released_after_the_job_that_stands_on_it_was_removed";
    let Some(mut rig) = Rig::start(name) else { return };
    let gone = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
    let go = rig.outside().join("go");
    let run = disturbed(&mut rig, &counting(&go), &token(), |rig| {
        let only =
            |dir: &str| fs::read_dir(rig.work_dir().join(dir)).unwrap().next().unwrap().unwrap().path();
        for dir in [only("runs").join("jobs"), only("leases")] {
            inotify::add_watch(&gone, dir, WatchFlags::DELETE).unwrap();
        }
        fs::write(&go, "").unwrap();
    });
    assert_eq!(run.verdict, Verdict::Passed);
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(&gone, &mut buffer);
    let mut order = Vec::new();
    while let Ok(event) = events.next() {
        if event.events().contains(ReadFlags::DELETE) {
            order.push(if event.file_name() == Some(c"job") { "job" } else { "lease" });
        }
    }
    assert_eq!(order, ["job", "lease"]);
}

#[test]
fn a_second_signal_spares_the_grace() {
    let Some(mut rig) = Rig::start("a_second_signal_spares_the_grace") else { return };
    rig.config.grace = Duration::from_secs(120);
    let cancel = token();
    let mut first_at = None;
    let script = "trap '' TERM; i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo \"line $i\"; done; \
                  sleep 3021 & while :; do wait; done";
    let run = disturbed(&mut rig, script, &cancel, |rig| {
        first_at = Some(rig.now());
        cancel.cancel(CancelReason::Signal);
        // It is told to end, and does not.
        wait_until(|| rig.is_cancelling());
        cancel.cancel(CancelReason::Forced);
    });
    let took = rig.now() - first_at.unwrap();
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert_eq!(job(&run, "job").verdict, Verdict::Failed(FailureKind::Cancelled));
    assert_eq!(rig.runners(), Vec::<u32>::new());
}
