//! `run --watch`: real files, saved as editors save them.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use jericho_host::{Clock as _, SystemClock};
use serde_json::Value;

use crate::common::{Ended, Tree, command};

/// A job that goes on until it is ended, and one that ends.
const TARGETS: &str = r#"
[targets.long.jobs.sleeper]
command = "cat src/a.txt; exec sleep 600"
[targets.short.jobs.first]
command = "true"
[targets.short.jobs.show]
command = "cat src/a.txt"
"#;

/// A watching program and the events it tells.
struct Watching {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Watching {
    fn start(tree: &Tree, args: &[&str]) -> Self {
        let mut all = vec!["run", "--watch", "--output", "jsonl"];
        all.extend(args);
        let mut child = tree.pikaci(&all).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        assert_ne!(self.out.read_line(&mut line).unwrap(), 0, "it ended early");
        serde_json::from_str(&line).unwrap()
    }

    /// The next event of this kind.
    fn until(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next();
            if event["event"] == kind {
                return event;
            }
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let mut kill = command("sh".as_ref());
        assert!(kill.args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &pid]).status().unwrap().success());
    }

    fn interrupt(mut self) -> Ended {
        self.signal("INT");
        let mut stdout = String::new();
        self.out.read_to_string(&mut stdout).unwrap();
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        Ended { code: self.child.wait().unwrap().code(), stdout, stderr }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tree() -> Tree {
    let tree = Tree::with_targets(TARGETS);
    tree.write("src/a.txt", "before\n");
    tree.write(".gitignore", "*.log\n/.jerichoci/\nbuild/\n");
    tree
}

/// Saves as an editor does: a new file, written, that takes the name.
fn save(tree: &Tree, content: &str) {
    tree.write("src/.a.txt.swp", content);
    fs::rename(tree.root().join("src/.a.txt.swp"), tree.root().join("src/a.txt")).unwrap();
}

#[test]
fn timing_a_save_cancels_the_old_run_and_starts_the_next_within_200_ms() {
    let tree = tree();
    let mut watching = Watching::start(&tree, &["long"]);
    let mut old = watching.until("job_started")["run_id"].as_str().unwrap().to_owned();
    let mut took = Vec::new();
    for turn in 0..5 {
        let saved = SystemClock.monotonic();
        save(&tree, &format!("turn {turn}\n"));
        let ended = watching.until("run_finished");
        assert_eq!(ended["run"]["run_id"], old.as_str());
        assert_eq!(ended["run"]["failure_kind"], "cancelled");
        let started = watching.until("run_started");
        took.push(SystemClock.monotonic() - saved);
        old = started["run_id"].as_str().unwrap().to_owned();
        watching.until("job_started");
    }
    println!("from the save to the start of the next run, with one going on: {took:?}");
    took.sort_unstable();
    // A machine with other work may lose one of them.
    assert!(took[2] < Duration::from_millis(200), "{took:?}");
    watching.interrupt().code(4);
    let ids = tree.run_ids();
    assert_eq!(ids.len(), 6);
    for id in ids {
        let record = tree.run(&["status", &id, "--json"]).code(0).json();
        assert_eq!(record["failure_kind"], "cancelled");
    }
}

#[test]
fn timing_a_job_that_does_not_end_holds_up_the_next_run_for_a_tenth_of_a_second() {
    let tree = tree();
    let fifo = tree.outside().join("deaf");
    assert!(command("mkfifo".as_ref()).arg(&fifo).status().unwrap().success());
    let job = format!("trap '' TERM INT; echo deaf > {}; while :; do sleep 600; done", fifo.display());
    tree.write("jericho.toml", format!("[targets.deaf.jobs.deaf]\ncommand = \"{job}\"\n"));
    let mut watching = Watching::start(&tree, &["deaf"]);
    watching.until("job_started");
    assert_eq!(fs::read_to_string(&fifo).unwrap(), "deaf\n");
    let saved = SystemClock.monotonic();
    save(&tree, "after\n");
    watching.until("run_started");
    let took = SystemClock.monotonic() - saved;
    println!("with a job that ignores TERM: {took:?}");
    assert!(took > Duration::from_millis(100), "it had no time: {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    // The job of the second run says so too.
    assert_eq!(fs::read_to_string(&fifo).unwrap(), "deaf\n");
    watching.signal("TERM");
    watching.interrupt().code(4);
}

#[test]
fn each_run_sees_what_was_saved_and_a_burst_of_saves_is_one_run() {
    let tree = tree();
    let mut watching = Watching::start(&tree, &["short", "--only", "show"]);
    watching.until("run_finished");
    for (name, content) in
        [("src/a.txt", "one\n"), ("src/b.txt", "x"), ("src/a.txt", "two\n"), ("new/c", "y")]
    {
        tree.write(name, content);
    }
    let run = watching.until("run_finished");
    let jobs = run["run"]["jobs"].as_array().unwrap();
    assert_eq!(jobs.len(), 1, "only the job that was asked for: {run:#}");
    let log = fs::read_to_string(jobs[0]["host_log_path"].as_str().unwrap()).unwrap();
    assert_eq!(log, "two\n");
    let ended = watching.interrupt().code(0);
    assert_eq!(ended.stdout, "", "a run too many");
    assert!(ended.stderr.contains("changed: new"), "{ended:#?}");
}

#[test]
fn what_a_snapshot_leaves_out_starts_no_run() {
    let tree = tree();
    let mut watching = Watching::start(&tree, &["short"]);
    watching.until("run_finished");
    for name in ["x.log", "build/out", ".jerichoci/anything", ".git/anything", "src/y.log"] {
        tree.write(name, "x");
    }
    // What follows is a run, and it is the only one.
    save(&tree, "after\n");
    watching.until("run_finished");
    let ended = watching.interrupt().code(0);
    assert_eq!(ended.stdout, "", "a run too many");
    assert_eq!(tree.run_ids().len(), 2);
}

#[test]
fn the_report_that_each_run_writes_begins_no_run() {
    let tree = tree();
    let mut watching = Watching::start(&tree, &["short", "--junit", "src/junit.xml"]);
    assert_eq!(watching.until("run_finished")["run"]["status"], "passed");
    save(&tree, "after\n");
    assert_eq!(watching.until("run_finished")["run"]["status"], "passed");
    let ended = watching.interrupt().code(0);
    assert_eq!((ended.stdout.as_str(), tree.run_ids().len()), ("", 2), "a run too many: {}", ended.stderr);
    assert!(tree.root().join("src/junit.xml").exists());
}

#[test]
fn a_mistake_in_the_middle_of_an_edit_is_told_and_the_next_save_runs() {
    let tree = tree();
    let mut watching = Watching::start(&tree, &["short"]);
    watching.until("run_finished");
    tree.write("jericho.toml", "[targets.short\n");
    let mut said = BufReader::new(watching.child.stderr.as_mut().unwrap());
    let mut line = String::new();
    while !line.contains("unclosed table") {
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0);
    }
    tree.write("jericho.toml", TARGETS);
    assert_eq!(watching.until("run_finished")["run"]["status"], "passed");
}

#[test]
fn what_is_wrong_from_the_start_ends_it() {
    let tree = tree();
    insta::assert_snapshot!(tree.run(&["run", "--watch", "shrt"]).code(5).stderr, @r"
    error: no target is called `shrt`
      hint: did you mean `pikaci run short`?
    ");
}
