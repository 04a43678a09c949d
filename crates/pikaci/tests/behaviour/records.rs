//! Records and events, as other programs read them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Seek};

use serde_json::Value;

use crate::common::{Tree, each_way};

const TARGETS: &str = r#"
[targets.check.jobs.a]
command = "echo a"
[targets.check.jobs.b]
command = "echo b; sleep 600 & exit 0"
needs = ["a"]
[targets.check.jobs.c]
command = "exit 1"
needs = ["b"]
[targets.check.jobs.d]
command = "true"
needs = ["c"]
[targets.good.jobs.a]
command = "true"
"#;

fn events(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn keys(event: &Value) -> BTreeSet<&str> {
    event.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn jsonl_has_the_four_known_kinds_with_their_known_fields_and_the_journal_has_all() {
    let tree = Tree::with(TARGETS);
    tree.write("pipe", "");
    tree.repo().commit("a file").unwrap();
    std::fs::remove_file(tree.root().join("pipe")).unwrap();
    jericho_testkit::repo::fifo(&tree.root().join("pipe")).unwrap();
    let ended = tree.run(&["run", "check", "--output", "jsonl"]).code(1);
    let told = events(&ended.text());
    let known: [(&str, &[&str]); 4] = [
        ("run_started", &["run_id", "created_at", "rerun_of", "target_id", "target_description"]),
        ("job_started", &["run_id", "job"]),
        ("job_finished", &["run_id", "job"]),
        ("run_finished", &["run"]),
    ];
    for event in &told {
        let kind = event["event"].as_str().unwrap();
        let (_, fields) = known.iter().find(|(known, _)| *known == kind).unwrap_or_else(|| panic!("{kind}"));
        let expected: BTreeSet<&str> = fields.iter().copied().chain(["event", "seq", "time"]).collect();
        assert_eq!(keys(event), expected, "{kind}");
    }
    let id = told[0]["run_id"].as_str().unwrap();
    let journal = events(&tree.journal(id).join("\n"));
    let kinds: BTreeSet<&str> = journal.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert!(kinds.contains("warning") && kinds.contains("phase_finished"), "{kinds:?}");
    assert!(told.iter().all(|event| journal.contains(event)), "what was told was stored");
    let all = events(&tree.run(&["run", "check", "--output", "jsonl", "--events", "all"]).code(1).text());
    let id = all[0]["run_id"].as_str().unwrap();
    assert_eq!(all, events(&tree.journal(id).join("\n")));
}

#[test]
fn events_are_numbered_without_gaps_and_follow_the_order_of_needs() {
    let tree = Tree::with(TARGETS);
    let record = tree.record_of(&["run", "check", "--keep-going"]);
    let journal = events(&tree.journal(record["run_id"].as_str().unwrap()).join("\n"));
    assert!(journal.iter().zip(1_u64..).all(|(event, seq)| event["seq"] == seq));
    let order: Vec<String> = journal
        .iter()
        .filter(|event| {
            !["phase_finished", "warning", "log_progress"].contains(&event["event"].as_str().unwrap())
        })
        .map(|event| {
            format!("{} {}", event["event"].as_str().unwrap(), event["job"]["id"].as_str().unwrap_or(""))
        })
        .collect();
    let expected = [
        "run_started ",
        "job_started a",
        "job_finished a",
        "job_started b",
        "job_finished b",
        "job_started c",
        "job_finished c",
        "run_finished ",
    ];
    assert_eq!(order, expected, "a skipped job has no events of its own");
    assert_eq!(journal.last().unwrap()["run"], record, "what is told at the end is what is recorded");
}

#[test]
fn a_corrupt_record_breaks_neither_list_nor_gc_nor_another_run() {
    for broken in [&b"{"[..], b"", b"null", b"\xff\xfe", b"{\"run_id\": 7}"] {
        let tree = Tree::with(TARGETS);
        let bad = tree.record_of(&["run", "good"])["run_id"].as_str().unwrap().to_owned();
        let good = tree.record_of(&["run", "good"])["run_id"].as_str().unwrap().to_owned();
        fs::write(tree.run_dir(&bad).join("run.json"), broken).unwrap();
        let list = tree.run(&["list"]).code(0).says(&bad);
        assert_eq!(list.text().lines().count(), 1, "{list:?}");
        assert!(list.text().starts_with(&good), "{list:?}");
        tree.run(&["status", &good]).code(0);
        tree.run(&["status", &bad]).code(3).says("run.json");
        tree.run(&["rerun", &bad]).code(3).says("run.json");
        assert_eq!(tree.record_of(&["run", "good"])["status"], "passed");
        tree.run(&["gc", "--keep-runs", "1"]).code(0);
        assert!(!tree.run_dir(&bad).exists(), "it can be collected like any other");
    }
}

#[test]
fn a_corrupt_record_of_a_killed_run_breaks_neither_list_nor_gc_nor_another_run() {
    each_way(|way| {
        let tree = Tree::new(
            way,
            "[targets.long.jobs.long]\ncommand = \": > @OUT@/running; sleep 600\"\n[targets.good.jobs.a]\ncommand = \"true\"\n",
        );
        let live = tree.start(&["run", "long"]);
        let id = live.id.clone();
        tree.wait_for_file("running");
        live.kill();
        fs::write(tree.run_dir(&id).join("run.json"), "{").unwrap();
        tree.run(&["list"]).code(0).says(&id);
        assert_eq!(tree.record_of(&["run", "good"])["status"], "passed");
        tree.nothing_is_left();
        // That nothing can be written down about it is worth a word, each time.
        let gc = tree.run(&["gc"]);
        assert!(gc.stderr.contains(&id), "{gc:?}");
        tree.run(&["gc", "--keep-runs", "0"]);
        assert!(!tree.run_dir(&id).exists());
        assert_eq!(tree.record_of(&["run", "good"])["status"], "passed");
    });
}

#[test]
fn a_reader_in_a_loop_never_sees_half_a_record() {
    let tree = Tree::with(TARGETS);
    let live = tree.start(&["run", "check", "--keep-going"]);
    let record = tree.run_dir(&live.id).join("run.json");
    let ended = std::thread::scope(|scope| {
        let ending = scope.spawn(|| live.end());
        while !ending.is_finished() {
            if let Ok(text) = fs::read(&record) {
                serde_json::from_slice::<Value>(&text).expect("half a record");
            }
        }
        ending.join().unwrap()
    });
    ended.code(1);
}

fn from_start(file: &mut File) -> String {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

/// Who reads slowly sees the same: what was opened once is never written to.
#[test]
fn a_record_is_replaced_and_never_written_in_its_place() {
    let tree = Tree::with(TARGETS);
    let mut live = tree.start(&["run", "check", "--keep-going"]);
    live.until("job_started", "b");
    let dir = tree.run_dir(&live.id);
    let records = ["run.json", "jobs/b/status.json"].map(|name| dir.join(name));
    let mut opened = records.clone().map(|path| File::open(path).unwrap());
    let before = opened.each_mut().map(from_start);
    live.end().code(1);
    assert_eq!(opened.each_mut().map(from_start), before);
    for (path, before) in records.iter().zip(before) {
        let record: Value = serde_json::from_str(&before).unwrap();
        assert_eq!(record["status"], "running", "{record:#}");
        assert_ne!(fs::read_to_string(path).unwrap(), before);
    }
}
