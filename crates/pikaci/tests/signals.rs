//! Signals, and readers that go away, end a run in good order.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

use common::Sandbox;
use rustix::process::{Pid, Signal, kill_process};

/// A job that says when it runs, and one that does not end when it is asked to.
const TARGETS: &str = r#"
[targets.wait.jobs.j]
command = "echo up; sleep 600"
[targets.stubborn.jobs.j]
command = "trap '' TERM; echo up > $ARTIFACTS/up; while :; do sleep 600 & wait; done"
"#;

struct Running {
    child: Child,
    run_id: String,
    events: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Running {
    /// Returns when the job has started.
    fn start(sandbox: &Sandbox, target: &str) -> Self {
        let mut child = sandbox
            .pikaci()
            .args(["run", target, "--output", "jsonl"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("pikaci starts");
        let mut events = BufReader::new(child.stdout.take().expect("piped")).lines();
        let started = events.next().expect("an event").expect("text");
        let started: serde_json::Value = serde_json::from_str(&started).expect("a document");
        assert!(events.next().expect("an event").expect("text").contains("job_started"));
        let run_id = started["run_id"].as_str().expect("an id").to_owned();
        Self { child, run_id, events }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Exit code, and what was said on standard error.
    fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        (self.child.wait().expect("it ends").code(), said)
    }
}

fn failure_kind(sandbox: &Sandbox, run_id: &str) -> String {
    let said = sandbox.run(&["status", run_id, "--json"]);
    let record: serde_json::Value = serde_json::from_str(&said.out).expect("a record");
    format!("{} {}", record["status"].as_str().expect("text"), record["failure_kind"].as_str().unwrap_or("-"))
}

#[test]
fn the_first_signal_cancels_and_the_record_says_so() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let sandbox = Sandbox::with(TARGETS);
        let mut running = Running::start(&sandbox, "wait");
        let run_id = running.run_id.clone();
        running.signal(signal);
        let last = running.events.by_ref().last().expect("an event").expect("text");
        assert!(last.contains("run_finished"), "{last}");
        let (code, said) = running.end();
        assert_eq!(code, Some(4), "{said}");
        assert!(said.starts_with("cancelling; again to force\n"), "{said}");
        assert_eq!(failure_kind(&sandbox, &run_id), "failed cancelled");
    }
}

#[test]
fn a_second_signal_does_not_wait_for_a_job_that_ignores_the_first() {
    let sandbox = Sandbox::with(TARGETS);
    let mut running = Running::start(&sandbox, "stubborn");
    let run_id = running.run_id.clone();
    running.signal(Signal::INT);
    let mut stderr = BufReader::new(running.child.stderr.take().expect("piped"));
    let mut line = String::new();
    stderr.read_line(&mut line).expect("text");
    assert_eq!(line, "cancelling; again to force\n");
    running.signal(Signal::INT);
    line.clear();
    stderr.read_line(&mut line).expect("text");
    assert!(line.starts_with("ending at once"), "{line}");
    assert_eq!(running.child.wait().expect("it ends").code(), Some(4));
    assert_eq!(failure_kind(&sandbox, &run_id), "failed cancelled");
}

#[test]
fn a_hangup_that_is_ignored_stays_ignored() {
    let sandbox = Sandbox::with("[targets.t.jobs.j]\ncommand = \"read line < $HOME/go; echo $line\"\n");
    let fifo = sandbox.root().join("home/go");
    assert!(sandbox.command("mkfifo").arg(&fifo).status().expect("mkfifo runs").success());
    let mut command = sandbox.command("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" run t --output jsonl", env!("CARGO_BIN_EXE_pikaci")]);
    let mut child =
        command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("sh starts");
    let mut events = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert!(events.next().expect("an event").expect("text").contains("run_started"));
    kill_process(Pid::from_child(&child), Signal::HUP).expect("it runs");
    std::fs::write(&fifo, "go\n").expect("the job reads it");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_closed_output_cancels_the_run_and_loses_no_record() {
    let sandbox = Sandbox::with(
        "[targets.t.jobs.a]\ncommand = \"true\"\n[targets.t.jobs.b]\nneeds = [\"a\"]\ncommand = \"sleep 600\"\n",
    );
    let mut child = sandbox
        .pikaci()
        .args(["run", "t"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("pikaci starts");
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(4), "{said}");
    assert!(said.contains("cannot write to standard output"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    let list = sandbox.run(&["list"]);
    let run_id = list.out.split('\t').next().expect("a run");
    assert_eq!(failure_kind(&sandbox, run_id), "failed cancelled", "{said}");
}

#[test]
fn a_full_output_is_told_and_is_no_success() {
    let sandbox = Sandbox::with("[targets.t.jobs.a]\ncommand = \"true\"\n");
    for output in ["human", "json", "jsonl"] {
        let full = std::fs::File::options().write(true).open("/dev/full").expect("a full device");
        let done =
            sandbox.pikaci().args(["run", "t", "--output", output]).stdout(full).output().expect("starts");
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(4), "{output}: {said}");
        assert!(said.contains("cannot write to standard output"), "{output}: {said}");
    }
    let full = std::fs::File::options().write(true).open("/dev/full").expect("a full device");
    let done = sandbox.pikaci().arg("list").stdout(full).output().expect("starts");
    assert_eq!(done.status.code(), Some(3));
}

#[test]
fn nobody_to_hear_an_error_is_no_panic() {
    let sandbox = Sandbox::with(TARGETS);
    let mut child = sandbox.pikaci().args(["run", "nope"]).stderr(Stdio::piped()).spawn().expect("starts");
    drop(child.stderr.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(5));
}
