//! Ends that come early: signals, `cancel`, readers that go away.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};

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

/// A run that goes on. It ends with the test, whatever happens.
struct Running {
    child: Option<Child>,
    id: String,
    out: BufReader<ChildStdout>,
}

impl Running {
    /// Starts it, and waits until its first job has started.
    fn start(mut pikaci: Command) -> Self {
        let mut child = pikaci.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut running = Self { child: Some(child), id: String::new(), out };
        while running.id.is_empty() {
            let mut line = String::new();
            assert_ne!(running.out.read_line(&mut line).unwrap(), 0, "the run ended early");
            let event: serde_json::Value = serde_json::from_str(&line).unwrap();
            if event["event"] == "job_started" {
                event["run_id"].as_str().unwrap().clone_into(&mut running.id);
            }
        }
        running
    }

    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        let mut kill = command("sh".as_ref());
        assert!(kill.args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &pid]).status().unwrap().success());
    }

    /// Everything it still prints, and how it ends.
    fn end(mut self) -> Ended {
        let mut stdout = String::new();
        self.out.read_to_string(&mut stdout).unwrap();
        let ended = Ended::of(self.child.take().unwrap().wait_with_output().unwrap());
        Ended { stdout, ..ended }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_signal_cancels_in_good_order_with_exit_code_4() {
    for name in ["INT", "TERM", "HUP"] {
        let tree = Tree::with_targets(TARGETS);
        let running = Running::start(tree.pikaci(&["run", "long", "--output", "jsonl"]));
        let id = running.id.clone();
        running.signal(name);
        let ended = running.end().code(4);
        assert!(ended.stderr.contains("ending the run"), "{ended:#?}");
        let last: serde_json::Value = serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap();
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
    let running = Running::start(tree.pikaci(&["run", "deaf", "--output", "jsonl"]));
    running.signal("INT");
    running.signal("TERM");
    running.end().code(4);
}

#[test]
fn cancel_ends_a_run_from_another_terminal() {
    let tree = Tree::with_targets(TARGETS);
    let running = Running::start(tree.pikaci(&["run", "long", "--output", "jsonl"]));
    let id = &running.id;
    assert_eq!(tree.run(&["cancel", id]).code(0).stdout, format!("{id} cancelled\n"));
    running.end().code(4);
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
    let running = Running::start(run);
    running.signal("HUP");
    fs::write(&fifo, "go\n").unwrap();
    running.end().code(0);
}
