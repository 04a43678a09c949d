//! Ends that come early, and exit codes.

use std::time::Duration;

use jericho_host::{Clock as _, SystemClock};
use jericho_testkit::built_program;

use crate::common::{Tree, command, each_way, verdicts};

/// A job with everything that is hard to end, and one that waits for it.
const LONG: &str = r#"
[targets.long.jobs.tree]
command = """
setsid sleep 600 &
(setsid sh -c 'trap "" TERM INT; : > @OUT@/deaf; while :; do sleep 600; done' </dev/null >/dev/null 2>&1 &)
until [ -e @OUT@/deaf ]; do sleep 0.02; done
echo running
: > @OUT@/running
sleep 600
"""
[targets.long.jobs.after]
command = "true"
needs = ["tree"]
"#;

/// Holds what is true of every run that was cancelled in good order.
#[track_caller]
fn cancelled(tree: &Tree, id: &str) {
    tree.nothing_is_left();
    let record = tree.stored(id);
    assert_eq!(record["failure_kind"], "cancelled", "{record:#}");
    assert_eq!(
        verdicts(&record),
        [("tree".into(), "cancelled".into()), ("after".into(), "skipped".into())],
        "{record:#}"
    );
    let journal = tree.journal(id);
    assert!(journal.last().unwrap().contains("\"run_finished\""), "{journal:#?}");
    assert!(tree.host_log(id, "tree").starts_with(b"running\n"));
}

#[track_caller]
fn a_first_signal_cancels(name: &str) {
    each_way(|way| {
        let tree = Tree::new(way, LONG);
        let live = tree.start(&["run", "long"]);
        let id = live.id.clone();
        tree.wait_for_file("running");
        live.signal(name);
        let ended = live.end().code(4).says("once more ends it at once");
        assert!(ended.text().lines().last().unwrap().contains("\"run_finished\""), "{ended:?}");
        cancelled(&tree, &id);
    });
}

#[test]
fn sigint_cancels_ends_and_collects_everything() {
    a_first_signal_cancels("INT");
}

#[test]
fn sigterm_cancels_ends_and_collects_everything() {
    a_first_signal_cancels("TERM");
}

#[test]
fn a_second_signal_forces_the_end_without_grace() {
    each_way(|way| {
        let tree = Tree::new(way, LONG);
        let live = tree.start(&["run", "long"]);
        let id = live.id.clone();
        tree.wait_for_file("running");
        let asked = SystemClock.monotonic();
        live.signal("INT");
        live.signal("TERM");
        live.end().code(4);
        let took = SystemClock.monotonic() - asked;
        cancelled(&tree, &id);
        // The deaf child alone would have used up the 5 s of grace.
        assert!(took < Duration::from_secs(5), "{took:?}");
    });
}

#[test]
fn cancel_from_another_terminal_ends_a_run_and_waits_for_its_record() {
    each_way(|way| {
        let tree = Tree::new(way, LONG);
        let live = tree.start(&["run", "long"]);
        let id = live.id.clone();
        tree.wait_for_file("running");
        assert_eq!(tree.run(&["cancel", &id]).code(0).text(), format!("{id} cancelled\n"));
        cancelled(&tree, &id);
        live.end().code(4);
        assert_eq!(tree.run(&["cancel", &id]).code(0).text(), format!("{id} had ended before\n"));
    });
}

/// The second job ends only after the reader has gone, so its line finds nobody; the third
/// would pass after 20 s.
const STEPS: &str = r#"
[targets.steps.jobs.one]
command = "true"
[targets.steps.jobs.two]
command = "until [ -e @OUT@/closed ]; do sleep 0.02; done"
needs = ["one"]
[targets.steps.jobs.three]
command = "if [ -e @OUT@/short ]; then exit 0; fi; sleep 20"
needs = ["two"]
"#;

/// `pikaci run steps --output FORM | head -n 1`: what head printed and how pikaci ended.
fn into_head(tree: &Tree, form: &str) -> (String, String) {
    let script = r#"
out=$1; shift
"$@" 2>"$out/err" | { head -n 1; exec </dev/null; : > "$out/closed"; }
echo "${PIPESTATUS[0]}" >&2
"#;
    let mut shell = command("bash".as_ref());
    shell.current_dir(tree.root()).args(["-c", script, "bash"]).arg(tree.outside());
    let output =
        shell.arg(built_program!("pikaci")).args(["run", "steps", "--output", form]).output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap().trim().to_owned())
}

#[test]
fn a_closed_standard_output_cancels_in_good_order_and_loses_no_record() {
    for form in ["human", "jsonl"] {
        let tree = Tree::with(STEPS);
        let (first, code) = into_head(&tree, form);
        assert_eq!(code, "4", "{form}: {first}");
        assert_eq!(first.lines().count(), 1, "{form}: {first}");
        let id = &tree.run_ids()[0];
        let record = tree.stored(id);
        assert_eq!(record["failure_kind"], "cancelled", "{form}: {record:#}");
        if form == "human" {
            assert_eq!(record["jobs"][0]["status"], "passed", "{record:#}");
        }
        assert_ne!(record["jobs"][2]["status"], "passed", "{form}");
        assert!(tree.journal(id).last().unwrap().contains("\"run_finished\""), "{form}");
        tree.nothing_is_left();
        let said = std::fs::read_to_string(tree.outside().join("err")).unwrap();
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn a_closed_standard_output_is_no_fault_of_a_run_that_prints_at_its_end() {
    let tree = Tree::with(&STEPS.replace("exit 0", "exit 7"));
    tree.make_file("short");
    // `head` would wait for the document: here nobody waits at all.
    tree.make_file("closed");
    let mut child = tree
        .pikaci(&["run", "steps", "--output", "json"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(1), "the code is that of the verdict");
    let record = tree.stored(&tree.run_ids()[0]);
    assert_eq!(record["failure_kind"], "test_failure", "{record:#}");
}

const CODES: &str = r#"
[targets.passes.jobs.one]
command = "true"
[targets.fails.jobs.one]
command = "exit 9"
[targets.slow.jobs.one]
command = "exec sleep 600"
timeout = "1s"
[targets.guest.jobs.one]
command = "true"
runtime = "incus"
[targets.filtered]
paths = ["nothing/**"]
[targets.filtered.jobs.one]
command = "false"
[targets.fails-and-guest.jobs.one]
command = "exit 1"
[targets.fails-and-guest.jobs.two]
command = "true"
runtime = "incus"
[targets.slow-and-guest.jobs.one]
command = "exec sleep 600"
timeout = "1s"
[targets.slow-and-guest.jobs.two]
command = "true"
runtime = "incus"
[targets.all.jobs.fails]
command = "exit 1"
[targets.all.jobs.guest]
command = "true"
runtime = "incus"
[targets.all.jobs.long]
command = ": > @OUT@/running; exec sleep 600"
"#;

#[test]
fn each_end_of_a_run_has_its_exit_code_in_every_output() {
    let tree = Tree::with(CODES);
    tree.git(["checkout", "-q", "-b", "work"]);
    tree.write("other", "");
    let no_run = "20260401T120000Z-0a1b2c3d";
    for form in ["human", "json", "jsonl"] {
        for (target, code) in
            [("passes", 0), ("fails", 1), ("guest", 3), ("filtered", 0), ("fails-and-guest", 3), ("nope", 5)]
        {
            tree.run(&["run", target, "--keep-going", "--output", form, "--base", "main"]).code(code);
        }
        tree.run(&["rerun", no_run, "--output", form]).code(5);
        tree.run(&["run", "passes", "--output", form, "-j", "0"]).code(2);
    }
    let slow = tree.record_of(&["run", "slow"]);
    assert_eq!(slow["failure_kind"], "timeout", "a time-out has a kind of its own: {slow:#}");
    tree.run(&["rerun", slow["run_id"].as_str().unwrap()]).code(1);
    tree.run(&["status", no_run]).code(5);
    tree.run(&["logs", no_run]).code(5);
}

#[test]
fn of_mixed_results_cancelled_outweighs_errored_and_errored_outweighs_failed() {
    let tree = Tree::with(CODES);
    let mut live = tree.start(&["run", "all", "--keep-going", "-j", "4"]);
    let id = live.id.clone();
    let mut ended = Vec::new();
    while ended.len() < 2 {
        let event = live.next();
        if event["event"] == "job_finished" {
            ended.push(event["job"]["id"].as_str().unwrap().to_owned());
        }
    }
    tree.wait_for_file("running");
    live.signal("INT");
    live.end().code(4);
    let record = tree.stored(&id);
    assert_eq!(record["failure_kind"], "cancelled", "{record:#}");
    let kinds: Vec<String> = verdicts(&record).into_iter().map(|(_, kind)| kind).collect();
    assert_eq!(kinds, ["test_failure", "infrastructure", "cancelled"], "the record keeps all");
    let mixed = tree.record_of(&["run", "fails-and-guest", "--keep-going"]);
    assert_eq!(mixed["failure_kind"], "infrastructure", "{mixed:#}");
    let kinds: Vec<String> = verdicts(&mixed).into_iter().map(|(_, kind)| kind).collect();
    assert_eq!(kinds, ["test_failure", "infrastructure"]);
    // A time-out is a failure as any other.
    let mixed = tree.run(&["run", "slow-and-guest", "--keep-going", "--output", "json"]).code(3).json();
    assert_eq!(mixed["failure_kind"], "infrastructure", "{mixed:#}");
    let kinds: Vec<String> = verdicts(&mixed).into_iter().map(|(_, kind)| kind).collect();
    assert_eq!(kinds, ["timeout", "infrastructure"]);
}
