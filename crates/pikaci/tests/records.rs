//! Commands that read, cancel and remove runs.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use common::{Sandbox, run_id};

const TARGETS: &str = r#"
[targets.t.jobs.odd]
command = "printf 'a\\xff\\nno end'"
[targets.t.jobs.second]
command = "echo second"
[targets.long.jobs.wait]
command = "sleep 600"
"#;

#[test]
fn a_list_is_newest_first_and_tab_separated() {
    let sandbox = Sandbox::with(TARGETS);
    let first = run_id(&sandbox.run(&["run", "t"]));
    let second = run_id(&sandbox.run(&["run", "t"]));
    let said = sandbox.run(&["list"]);
    let lines: Vec<Vec<&str>> = said.out.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(&lines[0][..3], [second.as_str(), "passed", "t"]);
    assert_eq!(&lines[1][..3], [first.as_str(), "passed", "t"]);
    assert!(lines[0][3].ends_with("+00:00"), "{lines:?}");
}

#[test]
fn a_damaged_record_is_a_warning_and_breaks_no_other_run() {
    let sandbox = Sandbox::with(TARGETS);
    let damaged = run_id(&sandbox.run(&["run", "t"]));
    let good = run_id(&sandbox.run(&["run", "t"]));
    std::fs::write(sandbox.state_root().join("runs").join(&damaged).join("run.json"), "{").expect("written");
    let said = sandbox.run(&["list"]);
    assert_eq!(said.code, Some(0));
    assert!(said.out.starts_with(&good) && said.out.lines().count() == 1, "{}", said.out);
    assert!(said.err.starts_with(&format!("warning: {damaged}: ")), "{}", said.err);
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    let said = sandbox.run(&["status", &damaged]);
    assert_eq!((said.code, said.out.as_str()), (Some(3), ""));
    assert!(said.err.contains("run.json") && said.err.contains("hint: "), "{}", said.err);
    assert_eq!(sandbox.run(&["status", &good]).code, Some(0));
}

#[test]
fn status_names_the_run_and_each_job() {
    let sandbox = Sandbox::with(TARGETS);
    let id = run_id(&sandbox.run(&["run", "t"]));
    let said = sandbox.run(&["status", &id]);
    assert_eq!(
        said.out,
        format!("{id} t passed\nplan=$ROOT/src/.jerichoci/runs/{id}/plan.json\nodd passed\nsecond passed\n")
    );
}

#[test]
fn logs_are_the_bytes_that_were_written() {
    let sandbox = Sandbox::with(TARGETS);
    let id = run_id(&sandbox.run(&["run", "t"]));
    let bytes = |args: &[&str]| sandbox.pikaci().args(args).output().expect("pikaci starts").stdout;
    assert_eq!(bytes(&["logs", &id]), b"== host ==\na\xff\nno end", "the first job");
    assert_eq!(bytes(&["logs", &id, "--kind", "host", "--raw"]), b"a\xff\nno end");
    assert_eq!(bytes(&["logs", &id, "--job", "second"]), b"== host ==\nsecond\n");

    let guest = sandbox.state_root().join("runs").join(&id).join("jobs/odd/artifacts/guest.log");
    std::fs::write(guest, "inside\n").expect("written");
    assert_eq!(bytes(&["logs", &id]), b"== host ==\na\xff\nno end\n== guest ==\ninside\n");
    assert_eq!(bytes(&["logs", &id, "--kind", "guest"]), b"== guest ==\ninside\n");
}

#[test]
fn a_log_or_job_that_is_not_there_is_an_error_for_text_and_told_by_metadata() {
    let sandbox = Sandbox::with(TARGETS);
    let id = run_id(&sandbox.run(&["run", "t"]));
    let said = sandbox.run(&["logs", &id, "--kind", "guest"]);
    assert_eq!((said.code, said.out.as_str()), (Some(5), ""));
    let said = sandbox.run(&["logs", &id, "--job", "third"]);
    assert_eq!(said.code, Some(5));
    assert!(said.err.contains("it has: odd, second"), "{}", said.err);
    let metadata = sandbox.run(&["logs", &id, "--metadata-json", "--kind", "guest"]);
    let metadata: serde_json::Value = serde_json::from_str(&metadata.out).expect("a document");
    let jobs: Vec<_> = metadata["jobs"].as_array().expect("jobs").iter().map(|job| &job["id"]).collect();
    assert_eq!(jobs, ["odd", "second"]);
    assert_eq!(
        (&metadata["jobs"][0]["host_log_exists"], &metadata["jobs"][0]["guest_log_exists"]),
        (&true.into(), &false.into())
    );
    assert_eq!(metadata["jobs"][0]["host_log_bytes"], 9);
}

#[test]
fn gc_keeps_the_newest_and_tells_what_it_would_remove() {
    let sandbox = Sandbox::with(TARGETS);
    // Ids of one second are ordered by chance.
    let mut ids: Vec<String> = (0..3).map(|_| run_id(&sandbox.run(&["run", "t"]))).collect();
    ids.sort();
    let removed = format!("=2\n{}\n{}\n", ids[0], ids[1]);
    let dry = sandbox.run(&["gc", "--keep-runs", "1", "--dry-run"]);
    assert_eq!(dry.out, format!("would_remove_runs{removed}"));
    assert_eq!(sandbox.run(&["list"]).out.lines().count(), 3);
    let said = sandbox.run(&["gc", "--keep-runs", "1"]);
    assert_eq!(said.out, format!("removed_runs{removed}"));
    assert!(sandbox.run(&["list"]).out.starts_with(&ids[2]));
}

#[test]
fn cancel_ends_a_run_of_another_process() {
    let sandbox = Sandbox::with(TARGETS);
    let mut running = sandbox
        .pikaci()
        .args(["run", "long", "--output", "jsonl"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("pikaci starts");
    let mut events = BufReader::new(running.stdout.take().expect("piped")).lines();
    let started: serde_json::Value =
        serde_json::from_str(&events.next().expect("an event").expect("text")).expect("a document");
    let id = started["run_id"].as_str().expect("an id").to_owned();
    assert!(events.next().expect("an event").expect("text").contains("job_started"));
    let said = sandbox.run(&["cancel", &id]);
    assert_eq!((said.out.as_str(), said.code), (format!("{id} ended\n").as_str(), Some(0)));
    assert_eq!(running.wait().expect("it ends").code(), Some(4));
    let said = sandbox.run(&["cancel", &id]);
    assert_eq!((said.out.as_str(), said.code), (format!("{id} not_running\n").as_str(), Some(0)));
}

#[test]
fn a_reader_that_goes_away_ends_a_reading_command_quietly() {
    let sandbox = Sandbox::with("[targets.big.jobs.j]\ncommand = \"head -c 10000000 /dev/zero\"\n");
    let id = run_id(&sandbox.run(&["run", "big"]));
    let mut reading = sandbox
        .pikaci()
        .args(["logs", &id])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("pikaci starts");
    let mut first = [0; 16];
    reading.stdout.take().expect("piped").read_exact(&mut first).expect("a few bytes");
    let done = reading.wait_with_output().expect("it ends");
    assert_eq!((done.status.code(), String::from_utf8_lossy(&done.stderr).as_ref()), (Some(0), ""));
}
