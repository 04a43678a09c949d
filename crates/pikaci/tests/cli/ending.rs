//! Ends that come early: signals, `cancel`, readers that go away.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use crate::common::{Ended, Tree, command};

/// A job that says when it runs, and then runs for long.
const TARGETS: &str = r#"
[targets.long.jobs.sleeper]
command = "echo running; exec sleep 600"
[targets.long.jobs.after]
command = "true"
needs = ["sleeper"]

[targets.many]
[targets.many.jobs.a]
command = "true"
[targets.many.jobs.b]
command = "sleep 600"
needs = ["a"]
"#;

/// Starts a run and waits until its job has started; returns it with the run's id.
fn started(mut run: Command) -> (Child, String, BufReader<std::process::ChildStdout>) {
    let mut child = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    loop {
        line.clear();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "the run ended early");
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        if event["event"] == "job_started" {
            return (child, event["run_id"].as_str().unwrap().to_owned(), out);
        }
    }
}

fn signal(child: &Child, name: &str) {
    let status = command("sh".as_ref())
        .args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn a_signal_cancels_in_good_order_with_exit_code_4() {
    for name in ["INT", "TERM", "HUP"] {
        let tree = Tree::with_targets(TARGETS);
        let (child, id, mut out) = started(tree.pikaci(&["run", "long", "--output", "jsonl"]));
        signal(&child, name);
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        let ended = Ended::of(child.wait_with_output().unwrap()).code(4);
        assert!(ended.stderr.contains("ending the run"), "{ended:#?}");
        let last: serde_json::Value = serde_json::from_str(rest.lines().last().unwrap()).unwrap();
        assert_eq!(last["event"], "run_finished", "{name}");
        let record = tree.run(&["status", &id, "--json"]).code(0).json();
        assert_eq!(record["failure_kind"], "cancelled", "{name}: {record:#}");
        assert_eq!(record["jobs"][0]["failure_kind"], "cancelled", "{name}");
        assert_eq!(record["jobs"][1]["status"], "skipped", "{name}");
    }
}

#[test]
fn a_second_signal_ends_a_job_that_ignores_the_first() {
    let tree = Tree::with_targets(
        "[targets.deaf.jobs.deaf]\ncommand = \"trap '' TERM INT; while :; do sleep 600; done\"\n",
    );
    let (child, _, _out) = started(tree.pikaci(&["run", "deaf", "--output", "jsonl"]));
    signal(&child, "INT");
    signal(&child, "TERM");
    Ended::of(child.wait_with_output().unwrap()).code(4);
}

#[test]
fn cancel_ends_a_run_from_another_terminal() {
    let tree = Tree::with_targets(TARGETS);
    let (child, id, out) = started(tree.pikaci(&["run", "long", "--output", "jsonl"]));
    assert_eq!(tree.run(&["cancel", &id]).code(0).stdout, format!("{id} cancelled\n"));
    drop(out);
    Ended::of(child.wait_with_output().unwrap()).code(4);
}

#[test]
fn a_closed_standard_output_cancels_a_run_and_loses_no_record() {
    let tree = Tree::with_targets(TARGETS);
    let mut child =
        tree.pikaci(&["run", "many"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // The line of the first job finds nobody; the second job would take ten minutes.
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(4));
    let id = &tree.run_ids()[0];
    let record = tree.run(&["status", id, "--json"]).code(0).json();
    assert_eq!(record["failure_kind"], "cancelled");
    assert_eq!(record["jobs"][0]["status"], "passed");
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let tree = Tree::with_targets(
        "[targets.loud.jobs.loud]\ncommand = \"head -c 3000000 /dev/zero | tr '\\\\0' x\"\n",
    );
    tree.run(&["run", "loud"]).code(0);
    let id = &tree.run_ids()[0];
    for args in
        [&["logs", id][..], &["status", id, "--json"], &["list"], &["gc"], &["logs", id, "--metadata-json"]]
    {
        let mut child = tree.pikaci(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = Ended::of(child.wait_with_output().unwrap()).code(0);
        assert!(
            !ended.stderr.contains("error") && !ended.stderr.contains("panicked"),
            "{args:?}: {ended:#?}"
        );
    }
}

#[test]
fn a_full_standard_output_is_an_error() {
    let tree = Tree::with_targets(TARGETS);
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for args in [&["staged-linux-remote-defaults"][..], &["staged-linux-remote-defaults", "--json"], &["gc"]]
    {
        let output = tree.pikaci(args).stdout(full()).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{args:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("cannot write to standard output"));
    }
}

#[test]
fn a_run_whose_output_is_lost_is_no_success_and_its_record_is_kept() {
    let tree = Tree::with_targets("[targets.good.jobs.good]\ncommand = \"true\"\n");
    for form in ["human", "jsonl"] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = tree.pikaci(&["run", "good", "--output", form]).stdout(full).output().unwrap();
        let ended = Ended::of(output).code(4);
        assert!(ended.stderr.contains("cannot write to standard output"), "{ended:#?}");
    }
    assert_eq!(tree.run_ids().len(), 2);
}

#[test]
fn a_hangup_that_was_ignored_at_the_start_stays_ignored() {
    let tree = Tree::with_targets("");
    let fifo = tree.outside().join("fifo");
    assert!(command("mkfifo".as_ref()).arg(&fifo).status().unwrap().success());
    tree.write("jericho.toml", format!("[targets.t.jobs.j]\ncommand = \"cat {}\"\n", fifo.display()));
    let pikaci = tree.pikaci(&[]);
    let mut run = command("sh".as_ref());
    run.current_dir(tree.root()).stdin(Stdio::null()).arg("-c");
    run.arg("trap '' HUP; exec \"$0\" run t --output jsonl").arg(pikaci.get_program());
    let (child, _, _out) = started(run);
    signal(&child, "HUP");
    fs::write(&fifo, "go\n").unwrap();
    Ended::of(child.wait_with_output().unwrap()).code(0);
}
