//! Every call of nix and of ssh fails once, in every way: each run has an end of the right class, and nothing is left.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jericho_testkit::program::guest_programs;
use jericho_testkit::ssh;
use jerichoci::config::HostConfig;
use jerichoci::model::job::{JobPlacement, JobRuntimeKind, JobSpec};
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::model::record::RunRecord;
use jerichoci::{Engine, EngineConfig};

use crate::tree::{Tree, staged};

fn script(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// What a program in the place of another one does at its `at`th call, all else goes to the `real` one.
fn fails_at(dir: &Path, at: usize, how: &str, real: &str) -> String {
    let calls = dir.join("calls");
    format!(
        "n=$(flock {calls} sh -c 'echo >> {calls}; wc -l < {calls}')\nif [ \"$n\" -eq {at} ]; then {how}; fi\n\
         exec {real} \"$@\"",
        calls = calls.display()
    )
}

/// Programs in place of nix that fail at one call.
fn failing_nix(tree: &Tree, dir: &Path, how: &str, at: usize) -> PathBuf {
    fs::create_dir_all(dir).unwrap();
    for name in ["nix", "nix-store"] {
        let real = tree.nix.program().with_file_name(name);
        let how = how.replace("REAL", &real.display().to_string());
        script(&dir.join(name), &fails_at(dir, at, &how, &real.display().to_string()));
    }
    dir.join("nix")
}

/// The stored record of a run has the same end.
fn assert_stored(run_dir: &Path, run: &RunRecord, told: &str) {
    let stored: RunRecord = serde_json::from_slice(&fs::read(run_dir.join("run.json")).unwrap()).unwrap();
    assert_eq!((stored.verdict, stored.finished_at.is_some()), (run.verdict, true), "{told}");
    assert!(!run_dir.join("roots").exists(), "{told}");
}

/// Lets nix fail at each call of a run that has to do everything, and at one more.
fn nix_fails(test: &str, how: &str, kinds: &[FailureKind], may_pass: bool) {
    let Some(mut tree) = Tree::new(test) else { return };
    for at in 1..=7 {
        let told = format!("{how} at {at}");
        let dir = tempfile::tempdir().unwrap();
        let mut config = EngineConfig::new(dir.path().join("state"), &tree.root);
        config.caller_environment = tree.nix.environment().into_iter().collect();
        config.nix_program = failing_nix(&tree, &dir.path().join("bin"), how, at);
        if how.contains("sleep") {
            config.outputs.answer_limit = Duration::from_secs(2);
        }
        tree.engine = Engine::new(config);
        let run = tree.run(vec![staged("a", "run-test")]);
        match run.verdict {
            // A call after the last one; or what nix had done before it failed was enough.
            Verdict::Passed => assert!(at == 7 || may_pass, "{told}"),
            Verdict::Failed(kind) => assert!(kinds.contains(&kind), "{told}: {run:#?}"),
            other => panic!("{told}: {other:?}"),
        }
        assert_stored(&dir.path().join("state/runs").join(&run.run_id), &run, &told);
    }
}

const INFRASTRUCTURE: &[FailureKind] = &[FailureKind::Infrastructure];

#[test]
fn a_nix_that_says_garbage_at_any_call_ends_in_a_terminal_record_and_leaves_nothing() {
    let test = "a_nix_that_says_garbage_at_any_call_ends_in_a_terminal_record_and_leaves_nothing";
    let kinds = [FailureKind::TestFailure, FailureKind::Infrastructure];
    nix_fails(test, "echo garbage; exit 0", &kinds, true);
}

#[test]
fn a_nix_whose_answer_is_cut_off_at_any_call_ends_in_a_terminal_record_and_leaves_nothing() {
    let test = "a_nix_whose_answer_is_cut_off_at_any_call_ends_in_a_terminal_record_and_leaves_nothing";
    let kinds = [FailureKind::TestFailure, FailureKind::Infrastructure];
    nix_fails(test, "REAL \"$@\" | head -c 20; exit 0", &kinds, true);
}

#[test]
fn a_nix_that_exits_with_255_at_any_call_ends_in_a_terminal_record_and_leaves_nothing() {
    let test = "a_nix_that_exits_with_255_at_any_call_ends_in_a_terminal_record_and_leaves_nothing";
    nix_fails(test, "exit 255", INFRASTRUCTURE, false);
}

#[test]
fn a_nix_that_is_killed_at_any_call_ends_in_a_terminal_record_and_leaves_nothing() {
    let test = "a_nix_that_is_killed_at_any_call_ends_in_a_terminal_record_and_leaves_nothing";
    nix_fails(test, "kill -9 $$", INFRASTRUCTURE, false);
}

#[test]
fn a_disk_that_is_full_at_any_call_of_nix_ends_in_a_terminal_record_and_leaves_nothing() {
    let test = "a_disk_that_is_full_at_any_call_of_nix_ends_in_a_terminal_record_and_leaves_nothing";
    nix_fails(test, "echo 'No space left on device' >&2; exit 1", INFRASTRUCTURE, false);
}

#[test]
fn a_nix_that_gives_no_answer_at_any_call_is_given_up_after_the_limit() {
    let test = "a_nix_that_gives_no_answer_at_any_call_is_given_up_after_the_limit";
    // A build may take as long as it does.
    let how = "case \"$*\" in *--realise*) ;; *) exec sleep 1000 ;; esac";
    nix_fails(test, how, INFRASTRUCTURE, true);
}

fn on_host() -> JobSpec {
    let mut job = staged("a", "run-test");
    job.placement = JobPlacement::RemoteSsh { host: "box".to_owned() };
    job
}

/// The ways in which ssh fails. The third one passes some bytes on, and then everything of it dies: it has a session
/// of its own.
const WAYS: [&str; 4] = [
    "exit 255",
    "kill -9 $$",
    "REAL \"$@\" | { dd bs=1 count=45 2>/dev/null; kill -9 0; }; exit 255",
    "exec sleep 1000",
];

/// Lets ssh fail at the calls of a run whose outputs are built on a host that `chosen` has ways for, by their number.
#[expect(clippy::print_stderr, reason = "who waits for minutes sees how far it is")]
fn ssh_fails(test: &str, chosen: impl Fn(usize) -> Vec<&'static str>) {
    let Some(mut tree) = Tree::new(test) else { return };
    let (Some(sshd), Some(runners)) = (ssh::Rig::start(test), guest_programs(test)) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (program, work) = (dir.path().join("ssh"), dir.path().join("work"));
    let mut config = EngineConfig::new(dir.path().join("state"), &tree.root);
    config.caller_environment = tree.nix.environment().into_iter().collect();
    config.hosts.ssh_program = program.clone().into();
    config.hosts.runner_dirs = vec![runners];
    config.hosts.reconnect = Duration::from_secs(10);
    let mut host = HostConfig::new("rig");
    host.work_dir.clone_from(&work);
    host.allow = vec![JobRuntimeKind::HostProcess];
    host.nix_program = tree.nix.program_alone().unwrap().to_string_lossy().into_owned();
    config.hosts.named.insert("box".to_owned(), host);
    let real = format!("ssh -F {}", sshd.config().display());
    let mut run = |at: usize, how: &str| {
        fs::write(dir.path().join("calls"), "").unwrap();
        script(&program, &fails_at(dir.path(), at, &how.replace("REAL", &real), &real));
        let mut config = config.clone();
        if how.contains("sleep") {
            config.hosts.connect = Duration::from_secs(3);
        }
        tree.engine = Engine::new(config);
        let run = tree.run(vec![on_host()]);
        assert_stored(&dir.path().join("state/runs").join(&run.run_id), &run, &format!("{how} at {at}"));
        run
    };
    let good = run(0, ":");
    assert_eq!(good.verdict, Verdict::Passed, "{good:#?}");
    // The second time, as all that follow.
    run(0, ":");
    let all = fs::read_to_string(dir.path().join("calls")).unwrap().lines().count();
    assert!(all > 5, "{all} calls");
    for (at, how) in (1..=all).flat_map(|at| chosen(at).into_iter().map(move |how| (at, how))) {
        let run = run(at, how);
        eprintln!("{how} at {at} of {all}: {:?}", run.verdict);
        // A call that is tried again, and one after the job, change nothing.
        let is_right = matches!(run.verdict, Verdict::Passed | Verdict::Failed(FailureKind::Infrastructure));
        assert!(is_right, "{how} at {at} of {all}: {run:#?}");
    }
    assert_eq!(run(0, ":").verdict, Verdict::Passed);
    let left: Vec<_> = fs::read_dir(work.join("runs")).into_iter().flatten().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The ways of every fourth call; all tests together have each call, and each of them every way.
fn every_fourth(first: usize) -> impl Fn(usize) -> Vec<&'static str> {
    move |at| if at % 4 == first { vec![WAYS[(at / 4 + first) % WAYS.len()]] } else { Vec::new() }
}

#[test]
fn an_ssh_that_fails_at_any_call_ends_in_a_terminal_record_and_the_next_run_leaves_nothing_there_0() {
    let test =
        "an_ssh_that_fails_at_any_call_ends_in_a_terminal_record_and_the_next_run_leaves_nothing_there_0";
    ssh_fails(test, every_fourth(0));
}

#[test]
fn an_ssh_that_fails_at_any_call_ends_in_a_terminal_record_and_the_next_run_leaves_nothing_there_1() {
    let test =
        "an_ssh_that_fails_at_any_call_ends_in_a_terminal_record_and_the_next_run_leaves_nothing_there_1";
    ssh_fails(test, every_fourth(1));
}

#[test]
fn an_ssh_that_fails_at_any_call_ends_in_a_terminal_record_and_the_next_run_leaves_nothing_there_2() {
    let test =
        "an_ssh_that_fails_at_any_call_ends_in_a_terminal_record_and_the_next_run_leaves_nothing_there_2";
    ssh_fails(test, every_fourth(2));
}

#[test]
fn an_ssh_that_fails_at_any_call_ends_in_a_terminal_record_and_the_next_run_leaves_nothing_there_3() {
    let test =
        "an_ssh_that_fails_at_any_call_ends_in_a_terminal_record_and_the_next_run_leaves_nothing_there_3";
    ssh_fails(test, every_fourth(3));
}

#[test]
#[ignore = "minutes: each call in each way, see docs/development.md"]
fn an_ssh_that_fails_at_any_call_in_any_way_ends_in_a_terminal_record() {
    let test = "an_ssh_that_fails_at_any_call_in_any_way_ends_in_a_terminal_record";
    ssh_fails(test, |_| WAYS.to_vec());
}
