//! `logs --follow`: what is added, as it is added, to the end and no longer.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Stdio};

use serde_json::Value;

use crate::common::{Tree, command};

const TARGETS: &str = r#"
[targets.slow.jobs.first]
command = "echo one; read line < @OUT@/first; printf 'two'"
[targets.slow.jobs.second]
command = "echo three; read line < @OUT@/second; echo four"
needs = ["first"]
[targets.slow.jobs.third]
command = "read line < @OUT@/third"
needs = ["second"]
"#;

/// A tree whose jobs wait for FIFOs, and a run that goes on in it.
struct Rig {
    tree: Tree,
    run: Child,
    events: BufReader<ChildStdout>,
    id: String,
}

impl Rig {
    fn new() -> Self {
        let tree = Tree::with_targets("");
        for fifo in ["first", "second", "third"] {
            assert!(command("mkfifo".as_ref()).arg(tree.outside().join(fifo)).status().unwrap().success());
        }
        tree.write("jericho.toml", TARGETS.replace("@OUT@", tree.outside().to_str().unwrap()));
        let mut run = tree.pikaci(&["run", "slow", "--output", "jsonl"]);
        let mut run = run.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let events = BufReader::new(run.stdout.take().unwrap());
        let mut rig = Self { tree, run, events, id: String::new() };
        rig.id = rig.until("job_started", "first")["run_id"].as_str().unwrap().to_owned();
        rig
    }

    fn until(&mut self, kind: &str, job: &str) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.events.read_line(&mut line).unwrap(), 0);
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["event"] == kind && event["job"]["id"] == job {
                return event;
            }
        }
    }

    fn go(&self, job: &str) {
        std::fs::write(self.tree.outside().join(job), "go\n").unwrap();
    }

    fn follow(&self, args: &[&str]) -> Following {
        let mut all = vec!["logs", self.id.as_str(), "--follow"];
        all.extend(args);
        let mut child = self.tree.pikaci(&all).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Following { child, out }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // An engine that is killed could not end its jobs, and who is not root has them for ever.
        if let Ok(None) = self.run.try_wait() {
            let pid = rustix::process::Pid::from_child(&self.run);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.run.wait();
    }
}

struct Following {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Following {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line
    }

    /// What still comes, and the exit code.
    fn end(mut self) -> (String, Option<i32>) {
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        (rest, self.child.wait().unwrap().code())
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_log_is_followed_until_its_job_has_ended_while_the_run_goes_on() {
    let rig = Rig::new();
    let mut following = rig.follow(&[]);
    assert_eq!((following.line(), following.line()), ("== host ==\n".to_owned(), "one\n".to_owned()));
    rig.go("first");
    assert_eq!(following.end(), ("two".to_owned(), Some(0)));
    let record = rig.tree.run(&["status", &rig.id, "--json"]).code(0).json();
    assert_eq!(record["status"], "running");
}

#[test]
fn a_job_that_has_not_started_is_waited_for() {
    let mut rig = Rig::new();
    let mut following = rig.follow(&["--job", "second"]);
    let mut said = String::new();
    BufReader::new(following.child.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "second has not started yet\n");
    rig.go("first");
    assert_eq!((following.line(), following.line()), ("== host ==\n".to_owned(), "three\n".to_owned()));
    rig.until("job_started", "second");
    rig.go("second");
    assert_eq!(following.end(), ("four\n".to_owned(), Some(0)));
}

#[test]
fn a_run_that_is_cancelled_or_killed_ends_the_following() {
    for killed in [false, true] {
        let mut rig = Rig::new();
        let mut following = rig.follow(&["--job", "first"]);
        assert_eq!((following.line(), following.line()), ("== host ==\n".to_owned(), "one\n".to_owned()));
        let never = rig.follow(&["--job", "third"]);
        match killed {
            true => rig.run.kill().unwrap(),
            false => drop(rig.tree.run(&["cancel", &rig.id]).code(0)),
        }
        // Nobody is left to say anything in the log of an engine that was killed.
        let rest = if killed { "" } else { "[jerichoci] cancelled: cancel was requested\n" };
        assert_eq!(following.end(), (rest.to_owned(), Some(0)), "killed: {killed}");
        // There is no log of a job that never started.
        assert_eq!(never.end(), (String::new(), Some(5)), "killed: {killed}");
        // What a killed engine left is put in order by the next run.
        rig.run.wait().unwrap();
        drop(rig.tree.run(&["run", "jericho-smoke"]));
    }
}

#[test]
fn what_has_ended_is_printed_and_not_waited_for() {
    let tree = Tree::with_targets("[targets.t.jobs.j]\ncommand = \"seq 5\"\n");
    tree.run(&["run", "t"]).code(0);
    let id = &tree.run_ids()[0];
    let all = tree.run(&["logs", id]).code(0).stdout;
    assert_eq!(tree.run(&["logs", id, "-f"]).code(0).stdout, all);
    for follow in [&[][..], &["--follow"]] {
        let mut args = vec!["logs", id, "--tail", "2"];
        args.extend(follow);
        assert_eq!(tree.run(&args).code(0).stdout, "== host ==\n4\n5\n");
    }
    insta::assert_snapshot!(tree.run(&["logs", id, "-f", "--job", "x"]).code(5).told(&tree), @r"
    error: run RUN has no job `x`; it has: j
      hint: pikaci status RUN
    ");
    insta::assert_snapshot!(tree.run(&["logs", id, "-f", "--kind", "guest"]).code(5).told(&tree), @r"
    error: job `j` of run RUN has no guest log
      hint: pikaci logs RUN --metadata-json
    ");
    insta::assert_snapshot!(tree.run(&["logs", id, "-f", "--metadata-json"]).code(2).told(&tree), @r"
    error: the argument '--follow' cannot be used with '--metadata-json'
      hint: pikaci logs --help
    ");
}

#[test]
fn a_log_is_never_followed_through_a_link_or_a_pipe_that_a_job_left() {
    let tree = Tree::with_targets(
        r#"
[targets.link.jobs.job]
command = 'ln -s "@OUT@/secret" "$ARTIFACTS/guest.log"'
[targets.pipe.jobs.job]
command = 'mkfifo "$ARTIFACTS/guest.log"'
"#,
    );
    let file = std::fs::read_to_string(tree.root().join("jericho.toml")).unwrap();
    tree.write("jericho.toml", file.replace("@OUT@", tree.outside().to_str().unwrap()));
    std::fs::write(tree.outside().join("secret"), "nobody's business\n").unwrap();
    for target in ["link", "pipe"] {
        tree.run(&["run", target]).code(0);
        let followed = tree.run(&["logs", "latest", "--follow", "--kind", "guest"]);
        assert_eq!((followed.stdout.as_str(), followed.code), ("", Some(5)), "{target}: {}", followed.stderr);
    }
}
