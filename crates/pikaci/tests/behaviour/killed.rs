//! An engine that is killed: what the next command sees, ends and writes down.

use std::fs;
use std::io::Write as _;

use crate::common::{Tree, Way, each_way, listing, verdicts};

const LONG: &str = r#"
[targets.long.jobs.done]
command = "echo first"
[targets.long.jobs.tree]
needs = ["done"]
command = """
printf 'kept \\377 output\\n'
setsid sleep 600 &
(setsid sh -c 'trap "" TERM INT; : > @OUT@/deaf; while :; do sleep 600; done' </dev/null >/dev/null 2>&1 &)
until [ -e @OUT@/deaf ]; do sleep 0.02; done
: > @OUT@/running
sleep 600
"""
[targets.long.jobs.after]
command = "true"
needs = ["tree"]
[targets.quick.jobs.quick]
command = "true"
"#;

/// A run whose engine was killed while its job ran; its id and what it had told.
fn killed(tree: &Tree) -> (String, Vec<String>) {
    let mut live = tree.start(&["run", "long"]);
    let id = live.id.clone();
    live.until("job_started", "tree");
    tree.wait_for_file("running");
    assert!(!tree.processes().is_empty(), "the test itself sees the processes of the job");
    (id, live.kill())
}

fn seqs(journal: &[String]) -> Vec<u64> {
    let seq =
        |line: &String| serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64().unwrap();
    journal.iter().map(seq).collect()
}

/// Holds what a killed run looks like once it was put in order.
#[track_caller]
fn in_order(tree: &Tree, id: &str, before: &[String], told: &[String]) {
    tree.nothing_is_left();
    let record = tree.stored(id);
    assert_eq!(record["status"], "failed", "{record:#}");
    assert_eq!(record["failure_kind"], "interrupted", "{record:#}");
    let expected = [("done", "passed"), ("tree", "interrupted"), ("after", "skipped")];
    assert_eq!(verdicts(&record), expected.map(|(id, verdict)| (id.to_owned(), verdict.to_owned())));
    let journal = tree.journal(id);
    assert_eq!(journal[..before.len()], *before, "the journal loses nothing");
    for line in told {
        assert!(journal.contains(line), "told and not in the journal: {line}");
    }
    assert!(seqs(&journal).into_iter().eq(1..=journal.len() as u64), "{journal:#?}");
    assert!(journal.last().unwrap().contains("\"run_finished\""));
    assert!(tree.host_log(id, "tree").starts_with(b"kept \xff output\n"));
    assert_eq!(fs::read_dir(tree.state_root().join("active")).unwrap().count(), 0);
}

fn after_a_kill(next: &[&str]) {
    each_way(|way| {
        let tree = Tree::new(way, LONG);
        let (id, told) = killed(&tree);
        match way {
            // A process namespace ends with its engine.
            Way::Namespaces => tree.nothing_is_left(),
            Way::Sessions => assert!(!tree.processes().is_empty(), "somebody has to end these"),
        }
        let before = tree.journal(&id);
        tree.run(next).code(0);
        in_order(&tree, &id, &before, &told);
    });
}

#[test]
fn after_kill_9_the_next_run_ends_what_is_left_and_marks_it_interrupted() {
    after_a_kill(&["run", "quick"]);
}

#[test]
fn after_kill_9_gc_ends_what_is_left_and_marks_it_interrupted() {
    after_a_kill(&["gc"]);
}

#[test]
fn list_status_and_logs_show_a_killed_run_as_interrupted_and_write_nothing() {
    each_way(|way| {
        let tree = Tree::new(way, LONG);
        let (id, _) = killed(&tree);
        if way == Way::Namespaces {
            tree.nothing_is_left();
        }
        let (before, left) = (listing(&tree.state_root()), tree.processes());
        let list = tree.run(&["list"]).code(0).text();
        assert!(list.starts_with(&format!("{id}\tfailed\tlong\t")), "{list}");
        let record = tree.status(&id);
        assert_eq!(record["failure_kind"], "interrupted", "{record:#}");
        let expected = [("done", "passed"), ("tree", "interrupted"), ("after", "skipped")];
        assert_eq!(verdicts(&record), expected.map(|(id, verdict)| (id.to_owned(), verdict.to_owned())));
        assert!(tree.run(&["status", &id]).code(0).text().contains("interrupted"));
        assert_eq!(tree.run(&["logs", &id]).code(0).stdout, b"== host ==\nfirst\n");
        assert_eq!(tree.run(&["cancel", &id]).code(0).text(), format!("{id} had ended before\n"));
        tree.run(&["gc", "--dry-run"]).code(0);
        assert_eq!(listing(&tree.state_root()), before);
        assert_eq!(tree.processes(), left, "who only looks ends nothing");
        tree.run(&["gc"]).code(0);
        tree.nothing_is_left();
    });
}

#[test]
fn a_journal_that_ends_in_half_a_line_loses_only_that() {
    let tree = Tree::with(LONG);
    let (id, told) = killed(&tree);
    let before = tree.journal(&id);
    let events = tree.run_dir(&id).join("events.jsonl");
    fs::OpenOptions::new().append(true).open(&events).unwrap().write_all(b"{\"seq\":9,\"ti").unwrap();
    assert_eq!(tree.status(&id)["failure_kind"], "interrupted");
    tree.run(&["run", "quick"]).code(0);
    in_order(&tree, &id, &before, &told);
}

#[test]
fn killed_after_any_event_a_run_has_an_end_and_the_next_one_works() {
    let tree = Tree::with(
        "[targets.short.jobs.a]\ncommand = \"echo a\"\n[targets.short.jobs.b]\ncommand = \"echo b\"\nneeds = [\"a\"]\n",
    );
    let mut killed = Vec::new();
    for events in 1..=8 {
        let mut live = tree.start(&["run", "short", "--events", "all"]);
        for _ in 1..events {
            live.next();
        }
        let id = live.id.clone();
        let told = live.kill();
        killed.push((id, told));
    }
    let last = tree.record_of(&["run", "short"]);
    assert_eq!(last["status"], "passed", "{last:#}");
    for (id, told) in killed {
        if !tree.run_dir(&id).exists() {
            // Killed before its first record: nobody but its own reader ever knew of it.
            assert!(told.len() <= 2, "{told:#?}");
            continue;
        }
        let record = tree.stored(&id);
        assert!(record["status"] == "passed" || record["failure_kind"] == "interrupted", "{record:#}");
        let journal = tree.journal(&id);
        assert!(told.iter().all(|line| journal.contains(line)), "{told:#?} {journal:#?}");
        assert!(journal.last().unwrap().contains("\"run_finished\""));
    }
    assert_eq!(fs::read_dir(tree.state_root().join("active")).unwrap().count(), 0);
}
