//! What is told where nothing is redrawn, how little with --quiet, and to readers that do not read.

use std::process::Stdio;
use std::time::Duration;

use jericho_host::{Clock as _, SystemClock};

use crate::common::{Tree, command};

const TARGETS: &str = r#"
[targets.mixed]
paths = ["src/**"]
[targets.mixed.jobs.good]
command = "true"
[targets.mixed.jobs.bad]
command = "echo why; exit 3"
needs = ["good"]
[targets.mixed.jobs.after]
command = "true"
needs = ["bad"]
[targets.good.jobs.good]
command = "true"
[targets.args.jobs.script]
command = "printf '<%s>' one \"$@\""
[targets.args.jobs.program]
command = ["printf", "<%s>", "one"]
needs = ["script"]
"#;

fn tree() -> Tree {
    Tree::with_targets(TARGETS)
}

#[test]
fn without_a_terminal_each_line_has_its_time_and_no_colour() {
    let tree = tree();
    let ended = tree.run(&["run", "mixed"]).code(1);
    insta::assert_snapshot!(ended.told(&tree), @r"
    mixed runs whatever its path filters say: no change list: the repository has no remote
    AT run RUN: mixed
    AT good: started
    AT good: passed (TIME)
    AT bad: started
    AT bad: failed: the command exited with code 3 (TIME)
      | why
      all of it: pikaci logs RUN --job bad
    AT after: skipped: not run: bad did not pass
    AT mixed failed: 1 failed, 1 passed, 1 skipped in TIME
      bad failed: pikaci logs RUN --job bad
      repeat it: pikaci rerun RUN --failed
    ");
    assert!(!ended.stderr.contains('\x1b') && !ended.stderr.contains('\r'), "{ended:#?}");
}

#[test]
fn quiet_tells_failures_and_how_it_ended_and_of_a_success_nothing() {
    let tree = tree();
    let ended = tree.run(&["run", "mixed", "--quiet"]).code(1);
    let id = &tree.run_ids()[0];
    assert_eq!(ended.stdout, format!("{id} bad failed\n"));
    insta::assert_snapshot!(ended.told(&tree), @r"
    AT bad: failed: the command exited with code 3 (TIME)
      | why
      all of it: pikaci logs RUN --job bad
    AT mixed failed: 1 failed, 1 passed, 1 skipped in TIME
      bad failed: pikaci logs RUN --job bad
      repeat it: pikaci rerun RUN --failed
    ");
    let ended = tree.run(&["run", "good", "-q"]).code(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
    let ended = tree.run(&["run", "good", "-q", "--output", "json"]).code(0);
    assert_eq!((ended.json()["status"].as_str(), ended.stderr.as_str()), (Some("passed"), ""));
}

#[test]
fn only_the_jobs_that_are_asked_for_run_and_what_they_need() {
    let tree = tree();
    let record = tree.run(&["run", "mixed", "--only", "bad", "--output", "json"]).code(1).json();
    let ids: Vec<&str> =
        record["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["good", "bad"]);
    insta::assert_snapshot!(tree.run(&["run", "mixed", "--only", "god"]).code(5).told(&tree), @r"
    error: the target `mixed` has no job `god`
      hint: did you mean `pikaci run mixed --only good`?
    ");
    insta::assert_snapshot!(tree.run(&["run", "mixed", "--only", "zzzzzz"]).code(5).told(&tree), @r"
    error: the target `mixed` has no job `zzzzzz`
      hint: its jobs are: good, bad, after
    ");
}

#[test]
fn arguments_after_two_dashes_reach_the_job_that_was_asked_for_and_no_other() {
    let tree = tree();
    insta::assert_snapshot!(tree.run(&["run", "args", "--", "two words", "-x"]).code(2).told(&tree), @r"
    error: arguments after -- are for one job, and the target `args` has 2
      hint: pikaci run args --only script -- 'two words' -x
    ");
    for (job, other) in [("script", None), ("program", Some("script"))] {
        tree.run(&["run", "args", "--only", job, "--", "two words", "-x", "$HOME"]).code(0);
        let id = &tree.run_ids()[0];
        let log = |job| tree.run(&["logs", id, "--job", job]).code(0).stdout;
        assert_eq!(log(job), "== host ==\n<one><two words><-x><$HOME>");
        if let Some(other) = other {
            assert_eq!(log(other), "== host ==\n<one>");
        }
    }
}

#[test]
fn a_second_signal_ends_the_process_also_when_nobody_reads_what_it_says() {
    let many: String = (0..400)
        .map(|n| {
            format!("[targets.many.jobs.job-with-a-long-name-{n:0>150}]\ncommand = \"true\"\nneeds = []\n")
        })
        .collect();
    let tree = Tree::with_targets(&many);
    // Far more than a pipe holds, and nobody takes it.
    let mut child =
        tree.pikaci(&["run", "many"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id().to_string();
    let signal = |name: &str| {
        let mut kill = command("sh".as_ref());
        assert!(kill.args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &pid]).status().unwrap().success());
    };
    let full = || rustix::io::ioctl_fionread(child.stderr.as_ref().unwrap()).unwrap() > 60_000;
    while !full() {
        std::thread::park_timeout(Duration::from_millis(10));
    }
    signal("INT");
    let started = SystemClock.monotonic();
    // Another one: of two that are the same the second may be taken for the first.
    signal("TERM");
    assert_eq!(child.wait().unwrap().code(), Some(4));
    let took = SystemClock.monotonic() - started;
    println!("from the second signal to the end: {took:?}");
    assert!(took < Duration::from_secs(15), "{took:?}");
    let record = tree.run(&["status", &tree.run_ids()[0], "--json"]).code(0).json();
    assert_ne!(record["status"], "running");
}
