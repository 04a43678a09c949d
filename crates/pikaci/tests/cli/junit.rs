//! `--junit FILE`, of a run, a rerun, and a recorded run.

use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use jericho_testkit::crate_dir;
use jericho_testkit::need::{needs_ordinary_user, needs_program, needs_root};
use serde_json::{Value, json};

use crate::common::{Tree, command};

const TARGETS: &str = r#"
[targets.check]
default = true
jobs.good.command = "echo fine"
jobs.bad.command = '''printf 'a <b> & "c" ]]>\nnot\x01legal \xff\xfe \x1b[31mred\x1b[0m\n'; exit 3'''
jobs.after.command = "true"
jobs.after.needs = ["bad"]
jobs.slow.command = "sleep 100"
jobs.slow.timeout = "1s"
"#;

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Fails when the document is not what the schema says.
#[track_caller]
fn validates(path: &Path) {
    let schema = crate_dir!().join("tests/fixtures/junit-10.xsd");
    let output =
        command("xmllint".as_ref()).args(["--noout", "--schema"]).args([&schema, path]).output().unwrap();
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), text(path));
}

#[test]
fn junit_validates_and_tells_failures_errors_and_skipped_jobs_apart() {
    if !needs_program("junit_validates_and_tells_failures_errors_and_skipped_jobs_apart", "xmllint") {
        return;
    }
    let tree = Tree::with_targets(TARGETS);
    let file = tree.outside().join("junit.xml");
    tree.run(&["run", "--keep-going", "--junit", file.to_str().unwrap()]).code(1);
    validates(&file);
    let xml = text(&file);
    for part in [
        r#"<testsuite name="check" tests="4" failures="2" errors="0""#,
        r#"skipped="1""#,
        r#"<testcase name="good" classname="check""#,
        "<system-out>fine\n</system-out>",
        r#"<failure message="the command exited with code 3" type="test_failure">"#,
        "a &lt;b&gt; &amp; &quot;c&quot; ]]&gt;\nnot\u{fffd}legal \u{fffd}\u{fffd} red\n",
        r#"<failure message="timed out after 1s" type="timeout">"#,
        r#"<skipped message="not run: bad did not pass"/>"#,
    ] {
        assert!(xml.contains(part), "{part}\n{xml}");
    }
    // The same of the recorded run.
    let again = tree.run(&["report", &tree.run_ids()[0], "--junit", "-"]).code(0);
    assert_eq!(again.stdout, xml);
}

#[test]
fn junit_is_written_also_when_the_run_passes_is_skipped_or_ends_before_its_jobs() {
    if !needs_program(
        "junit_is_written_also_when_the_run_passes_is_skipped_or_ends_before_its_jobs",
        "xmllint",
    ) {
        return;
    }
    let tree =
        Tree::with_targets("targets.check.jobs.one.command = \"true\"\ntargets.check.paths = [\"src/**\"]\n");
    let file = tree.outside().join("junit.xml");
    let junit = ["--junit", file.to_str().unwrap()];
    tree.run(&[&["run", "check"][..], &junit].concat()).code(0);
    validates(&file);
    assert!(text(&file).contains(r#"tests="1" failures="0" errors="0""#), "{}", text(&file));
    tree.git(&["switch", "-qc", "feature"]);
    tree.write("other", "x");
    tree.run(&[&["run", "check", "--base", "main"][..], &junit].concat()).code(0);
    validates(&file);
    assert!(text(&file).contains(r#"<skipped message="skipped: 1 file changed"#), "{}", text(&file));
    // A run that ended before it had a job: none is there to say it.
    let run_id = "20260401T120000Z-0a1b2c3d";
    let run = tree.state_root().join("runs").join(run_id);
    std::fs::create_dir(&run).unwrap();
    let record = json!({
        "run_id": run_id, "status": "failed", "failure_kind": "infrastructure", "message": "the disk is full",
        "source_root": "/s", "snapshot_dir": "", "created_at": "2026-04-01T12:00:00Z",
        "finished_at": "2026-04-01T12:00:01Z", "jobs": [], "target_id": "check",
    });
    std::fs::write(run.join("run.json"), record.to_string()).unwrap();
    tree.run(&[&["report", run_id][..], &junit].concat()).code(0);
    validates(&file);
    for part in [
        r#"tests="1" failures="0" errors="1""#,
        r#"<testcase name="(run)" classname="check""#,
        r#"<error message="the disk is full" type="infrastructure">"#,
    ] {
        assert!(text(&file).contains(part), "{part}\n{}", text(&file));
    }
}

#[test]
fn junit_is_written_when_the_run_is_cancelled_and_never_looks_green_then() {
    if !needs_program("junit_is_written_when_the_run_is_cancelled_and_never_looks_green_then", "xmllint") {
        return;
    }
    let tree = Tree::with_targets("targets.check.jobs.long.command = \"echo started; sleep 100\"");
    let file = tree.outside().join("junit.xml");
    let mut run = tree.pikaci(&["run", "check", "--output", "jsonl", "--junit", file.to_str().unwrap()]);
    let mut run = run.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut events = std::io::BufRead::lines(std::io::BufReader::new(run.stdout.take().unwrap()));
    let started = events.find(|line| line.as_ref().unwrap().contains("job_started")).unwrap().unwrap();
    let run_id = serde_json::from_str::<Value>(&started).unwrap()["run_id"].as_str().unwrap().to_owned();
    tree.run(&["cancel", &run_id]).code(0);
    events.for_each(drop);
    assert_eq!(run.wait().unwrap().code(), Some(4));
    validates(&file);
    assert!(text(&file).contains(r#"type="cancelled""#), "{}", text(&file));
    assert!(text(&file).contains(r#"errors="1""#), "{}", text(&file));
}

#[test]
fn a_path_that_cannot_be_written_is_an_error_before_anything_runs() {
    let tree = Tree::with_targets(TARGETS);
    let directory = tree.outside();
    let ended = tree.run(&["run", "--junit", "-"]).code(2);
    assert!(ended.stderr.contains("pikaci report latest --junit -"), "{ended:#?}");
    assert!(!tree.root().join("-").exists(), "a file of that name");
    let missing = directory.join("none/junit.xml");
    for (path, said) in [
        (directory.as_path(), "it is a directory"),
        (missing.as_path(), "No such file or directory"),
        (Path::new("jericho.toml/x"), "Not a directory"),
    ] {
        let ended = tree.run(&["run", "--junit", path.to_str().unwrap()]).code(2);
        assert!(
            ended.stderr.contains("--junit cannot be written to") && ended.stderr.contains(said),
            "{ended:#?}"
        );
        assert!(ended.stderr.contains("hint: "), "{ended:#?}");
    }
    assert!(!tree.state_root().exists());
}

#[test]
fn a_directory_that_is_not_mine_is_an_error_before_anything_runs() {
    if !needs_ordinary_user("a_directory_that_is_not_mine_is_an_error_before_anything_runs") {
        return;
    }
    let tree = Tree::with_targets(TARGETS);
    let ended = tree.run(&["run", "--junit", "/junit.xml"]).code(2);
    assert!(ended.stderr.contains("--junit cannot be written to /junit.xml"), "{ended:#?}");
    assert!(!tree.state_root().exists());
}

#[test]
fn a_device_is_written_to_and_never_replaced() {
    // An ordinary user could not replace it in any case.
    if !needs_root("a_device_is_written_to_and_never_replaced") {
        return;
    }
    let tree = Tree::with_targets("targets.check.jobs.one.command = \"true\"");
    let device = tree.outside().join("null");
    let made = command("mknod".as_ref()).arg(&device).args(["c", "1", "3"]).status().unwrap();
    assert!(made.success());
    tree.run(&["run", "check", "--junit", device.to_str().unwrap()]).code(0);
    assert!(device.metadata().unwrap().file_type().is_char_device());
}

#[test]
fn a_link_stays_one_and_what_it_leads_to_is_replaced() {
    let tree = Tree::with_targets("targets.check.jobs.one.command = \"true\"");
    let (file, link) = (tree.outside().join("file.xml"), tree.outside().join("link.xml"));
    std::fs::write(&file, "old").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    tree.run(&["run", "check", "--junit", link.to_str().unwrap()]).code(0);
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert!(text(&file).starts_with("<?xml"), "{}", text(&file));
}

/// A run in which one job passed after a failure and another one never did.
fn with_attempts(tree: &Tree) -> String {
    let run_id = "20260401T120000Z-0a1b2c3d";
    let run = tree.state_root().join("runs").join(run_id);
    let attempt = |job: &str, number: u32, verdict: Value| {
        let log = format!("jobs/{job}/attempts/{number}/host.log");
        let path: PathBuf = run.join(&log);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("output of attempt {number} of {job}\n")).unwrap();
        let mut attempt = json!({
            "attempt": number, "host_log_path": log, "started_at": "2026-04-01T12:00:00Z", "duration_ms": 10,
            "message": format!("said {number}"),
        });
        attempt.as_object_mut().unwrap().extend(verdict.as_object().unwrap().clone());
        attempt
    };
    let passed = json!({ "status": "passed" });
    let failed = json!({ "status": "failed", "failure_kind": "test_failure" });
    let errored = json!({ "status": "failed", "failure_kind": "infrastructure" });
    let job = |id: &str, verdict: &Value, attempts: Vec<Value>| {
        let mut job = json!({
            "id": id, "description": id, "executor": "host_local", "timeout_secs": 1, "host_log_path": "",
            "guest_log_path": "", "started_at": "2026-04-01T12:00:00Z", "duration_ms": 30,
            "flaky": verdict["status"] == "passed", "attempts": attempts,
        });
        job.as_object_mut().unwrap().extend(verdict.as_object().unwrap().clone());
        job
    };
    let jobs = [
        job(
            "flaky",
            &passed,
            vec![
                attempt("flaky", 1, failed.clone()),
                attempt("flaky", 2, errored.clone()),
                attempt("flaky", 3, passed.clone()),
            ],
        ),
        job("bad", &failed, vec![attempt("bad", 1, errored), attempt("bad", 2, failed.clone())]),
    ];
    let mut record = json!({
        "run_id": run_id, "target_id": "check", "source_root": "/s", "snapshot_dir": "",
        "created_at": "2026-04-01T12:00:00Z", "finished_at": "2026-04-01T12:00:01Z", "duration_ms": 1000, "jobs": jobs,
    });
    record.as_object_mut().unwrap().extend(failed.as_object().unwrap().clone());
    std::fs::write(run.join("run.json"), record.to_string()).unwrap();
    run_id.to_owned()
}

#[test]
fn attempts_that_did_not_pass_are_flaky_or_rerun_elements_with_their_output() {
    if !needs_program("attempts_that_did_not_pass_are_flaky_or_rerun_elements_with_their_output", "xmllint") {
        return;
    }
    let tree = Tree::with_targets(TARGETS);
    let run_id = with_attempts(&tree);
    let file = tree.outside().join("junit.xml");
    let ended = tree.run(&["report", &run_id, "--junit", file.to_str().unwrap()]).code(0);
    assert_eq!(ended.stdout, format!("{}\n", file.display()));
    validates(&file);
    let xml = text(&file);
    for part in [
        r#"tests="2" failures="1" errors="0""#,
        r#"<flakyFailure message="attempt 1: said 1" type="test_failure">"#,
        "output of attempt 1 of flaky",
        r#"<flakyError message="attempt 2: said 2" type="infrastructure">"#,
        r#"<rerunError message="attempt 1: said 1" type="infrastructure">"#,
        "output of attempt 1 of bad",
    ] {
        assert!(xml.contains(part), "{part}\n{xml}");
    }
    assert!(!xml.contains("attempt 3"), "{xml}");
}

#[test]
fn a_job_that_passes_when_it_is_tried_again_is_flaky_in_every_report() {
    let tree = Tree::with_targets(
        r#"
[targets.check.jobs.flaky]
command = "test -e seen/x || { touch seen/x; echo the first; exit 1; }; echo the second"
retries = 2
caches = { seen = "seen" }
"#,
    );
    let file = tree.outside().join("junit.xml");
    tree.run(&["run", "check", "--junit", file.to_str().unwrap()]).code(0);
    let xml = text(&file);
    assert!(xml.contains(r#"tests="1" failures="0" errors="0""#), "{xml}");
    let attempt = r#"<flakyFailure message="attempt 1: the command exited with code 1" type="test_failure">"#;
    assert!(xml.contains(attempt) && xml.contains("the first\n"), "{xml}");
    let run_id = tree.run_ids()[0].clone();
    let trace = tree.run(&["report", &run_id, "--trace", "-"]).code(0).json();
    let events = trace["traceEvents"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["tid"] == 2 && event["ph"] == "X");
    let told: Vec<(&str, &str)> = events
        .map(|event| (event["name"].as_str().unwrap(), event["args"]["verdict"].as_str().unwrap()))
        .collect();
    assert_eq!(told, [("flaky", "flaky"), ("attempt 1", "failed"), ("attempt 2", "passed")]);
    let page = tree.run(&["report", &run_id, "--output", "-"]).code(0).stdout;
    assert!(page.contains("log of attempt 1") && page.contains("the first\\n"), "{page}");
}
