//! `pika-cloud-lifecycle`, the real program.

mod common;

use std::path::{Path, PathBuf};

use jericho_testkit::built_program;
use pika_cloud::{
    LifecycleState, RuntimeResultStatus, RuntimeStatusSnapshot, RuntimeTerminalResult, read_events,
};
use serde_json::json;

fn act(dir: &Path, args: &[&str]) -> (Option<i32>, String) {
    let mut command = common::command(built_program!("pika-cloud-lifecycle"));
    let outcome = common::outcome(command.args(args).current_dir(dir));
    assert_eq!(outcome.stdout, b"");
    (outcome.code, outcome.stderr)
}

const WRITTEN: (Option<i32>, String) = (Some(0), String::new());

#[test]
fn status_events_and_result_are_those_of_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let status = ["status", "--status-path", "s/status.json", "--state", "ready", "--message", "it serves"];
    assert_eq!(act(dir, &[&status[..], &["--details-json", r#"{"port":1}"#]].concat()), WRITTEN);
    let read = RuntimeStatusSnapshot::load(&dir.join("s/status.json")).unwrap();
    assert_eq!((read.state, read.details), (LifecycleState::Ready, Some(json!({ "port": 1 }))));

    for kind in ["starting", "failed"] {
        let args = [
            "event",
            "--events-path",
            "e.jsonl",
            &format!("--kind={kind}"),
            "--message",
            "-",
            "--details-json=null",
        ];
        assert_eq!(act(dir, &args), WRITTEN);
    }
    let events = read_events(&dir.join("e.jsonl")).unwrap();
    assert_eq!((events.problems.len(), events.last_seq), (0, 2));
    assert_eq!(events.events[1].details, None, "null is dropped");
    assert_eq!(std::fs::read_to_string(dir.join("e.jsonl.seq")).unwrap(), "2\n");
    let args =
        ["event", "--events-path", "e.jsonl", "--seq-path", "counter", "--kind", "ready", "--message", "m"];
    assert_eq!(act(dir, &args), WRITTEN);
    assert_eq!(std::fs::read_to_string(dir.join("counter")).unwrap(), "3\n");

    let result =
        ["result", "--result-path", "r.json", "--status", "failed", "--exit-code", "-1", "--message", "m"];
    assert_eq!(act(dir, &result), WRITTEN);
    let read = RuntimeTerminalResult::load(&dir.join("r.json")).unwrap();
    assert_eq!((read.status, read.exit_code), (RuntimeResultStatus::Failed, Some(-1)));
}

#[test]
fn wrong_usage_is_code_2_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for (args, told) in [
        (&[][..], "status, event or result is missing"),
        (&["begin"], "`begin` is none of"),
        (
            &["status", "--status-path", "x", "--state", "passed", "--message", "m"],
            "--state `passed` is unknown",
        ),
        (&["status", "--status-path", "x", "--state", "ready"], "--message is missing"),
        (&["status", "--status-path"], "--status-path has no value"),
        (&["status", "x"], "`x` is no option"),
        (&["status", "--kind", "ready"], "unknown option --kind"),
        (
            &["event", "--events-path", "x", "--kind", "ready", "--message", "m", "--details-json", "{"],
            "is no JSON",
        ),
        (
            &["result", "--result-path", "x", "--status", "completed", "--exit-code", "1", "--message", "m"],
            "goes with",
        ),
        (
            &["result", "--result-path", "x", "--status", "failed", "--exit-code", "one", "--message", "m"],
            "is no number",
        ),
    ] {
        let (code, stderr) = act(dir.path(), args);
        assert_eq!(code, Some(2), "{args:?}");
        assert!(stderr.contains(told) && stderr.contains("--help"), "{args:?}: {stderr}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_written_is_code_1() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let path: PathBuf = dir.path().join("file/status.json");
    let args = ["status", "--status-path", path.to_str().unwrap(), "--state", "ready", "--message", "m"];
    let (code, stderr) = act(dir.path(), &args);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("cannot write"), "{stderr}");
}
