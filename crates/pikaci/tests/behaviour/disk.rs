//! A full disk: a small file system that ends with the process that uses it.

use std::fs;
use std::path::{Path, PathBuf};

use jericho_testkit::built_program;
use jericho_testkit::need::{needs, needs_root};
use serde_json::Value;

use crate::common::{Ended, Tree, Way, command};

const TARGETS: &str = r#"
[targets.flood.jobs.small]
command = "echo small"
[targets.flood.jobs.flood]
needs = ["small"]
command = "echo begun; head -c 64000000 /dev/zero"
[targets.flood.jobs.after]
command = "true"
needs = ["flood"]
[targets.quick.jobs.quick]
command = "true"
"#;

fn possible(test: &str) -> bool {
    needs_root(test) && needs(test, "needs the right to mount", Way::all().contains(&Way::Namespaces))
}

/// `pikaci run TARGET` with a state root on a file system of this size, and a copy of that state
/// root as it was at the end.
fn run_on(size: &str, tree: &Tree, target: &str) -> (Ended, PathBuf) {
    let (small, kept) = (tree.outside().join("small"), tree.outside().join("kept"));
    fs::create_dir_all(&small).unwrap();
    let script = r#"
small=$1 kept=$2 size=$3; shift 3
mount -t tmpfs -o "size=$size" none "$small" || exit 100
code=0; "$@" --state-root "$small/state" || code=$?
cp -a "$small/state" "$kept" || exit 101
"$1" --state-root "$small/state" list >&2 || exit 102
exit "$code"
"#;
    let mut shell = command("unshare".as_ref());
    shell.current_dir(tree.root()).args(["--mount", "sh", "-c", script, "sh"]).args([&small, &kept]);
    shell.arg(size).arg(built_program!("pikaci")).args(["run", target]);
    (Ended::of(shell.output().unwrap()), kept)
}

fn only_record(state: &Path) -> (PathBuf, Value) {
    let runs: Vec<_> = fs::read_dir(state.join("runs")).unwrap().map(|run| run.unwrap().path()).collect();
    assert_eq!(runs.len(), 1, "{runs:?}");
    (runs[0].clone(), serde_json::from_slice(&fs::read(runs[0].join("run.json")).unwrap()).unwrap())
}

#[test]
fn a_disk_that_jobs_fill_is_infrastructure_with_a_complete_record_and_a_summary() {
    if !possible("a_disk_that_jobs_fill_is_infrastructure_with_a_complete_record_and_a_summary") {
        return;
    }
    let tree = Tree::with(TARGETS);
    let (ended, state) = run_on("16m", &tree, "flood");
    let ended = ended.code(3).says("flood errored: 1 errored, 1 passed, 1 skipped");
    assert!(ended.text().contains(" flood failed\n"), "{ended:?}");
    let (run, record) = only_record(&state);
    assert_eq!(record["failure_kind"], "infrastructure", "{record:#}");
    assert_eq!(record["jobs"][0]["status"], "passed", "{record:#}");
    assert_eq!(record["jobs"][1]["failure_kind"], "infrastructure", "{record:#}");
    assert!(record["jobs"][1]["message"].as_str().unwrap().contains("disk is full"), "{record:#}");
    assert_eq!(record["jobs"][2]["status"], "skipped", "{record:#}");
    let journal = fs::read_to_string(run.join("events.jsonl")).unwrap();
    let entries: Vec<Value> = journal.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(entries.last().unwrap()["event"], "run_finished", "{journal}");
    assert!(entries.iter().zip(1..).all(|(entry, seq)| entry["seq"] == seq), "{journal}");
    assert!(fs::read(run.join("jobs/flood/host.log")).unwrap().starts_with(b"begun\n\0"));
    assert_eq!(fs::read_dir(state.join("active")).unwrap().count(), 0, "nothing is left to put in order");
    tree.nothing_is_left();
}

#[test]
fn a_disk_that_a_snapshot_fills_is_infrastructure_with_a_record_that_says_so() {
    if !possible("a_disk_that_a_snapshot_fills_is_infrastructure_with_a_record_that_says_so") {
        return;
    }
    let tree = Tree::with(TARGETS);
    for part in 0..16_u8 {
        tree.write(format!("big{part}"), vec![part; 1 << 20]);
    }
    let (ended, state) = run_on("8m", &tree, "quick");
    ended.code(3).says("No space left on device");
    let (run, record) = only_record(&state);
    assert_eq!(record["failure_kind"], "infrastructure", "{record:#}");
    assert!(record["message"].as_str().unwrap().contains("No space left"), "{record:#}");
    let journal = fs::read_to_string(run.join("events.jsonl")).unwrap();
    assert!(journal.lines().last().unwrap().contains("\"run_finished\""), "{journal}");
    assert_eq!(fs::read_dir(state.join("active")).unwrap().count(), 0);
}

#[test]
fn a_disk_without_room_for_a_run_is_an_error_that_leaves_no_half_run() {
    if !possible("a_disk_without_room_for_a_run_is_an_error_that_leaves_no_half_run") {
        return;
    }
    let tree = Tree::with(TARGETS);
    let (ended, state) = run_on("512k", &tree, "quick");
    ended.code(3).says("No space left on device");
    assert_eq!(fs::read_dir(state.join("runs")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(state.join("active")).unwrap().count(), 0);
}

#[test]
fn a_limit_on_the_size_of_files_is_infrastructure_and_never_ends_the_engine() {
    let tree = Tree::with(TARGETS);
    let mut shell = command("bash".as_ref());
    shell.current_dir(tree.root()).args(["-c", "ulimit -f 4096; exec \"$@\"", "bash"]);
    let ended = Ended::of(shell.arg(built_program!("pikaci")).args(["run", "flood"]).output().unwrap());
    ended.code(3).says("flood errored: 1 errored, 1 passed, 1 skipped");
    let record = tree.stored(&tree.run_ids()[0]);
    assert_eq!(record["failure_kind"], "infrastructure", "{record:#}");
    assert!(record["jobs"][1]["message"].as_str().unwrap().contains("File too large"), "{record:#}");
    tree.nothing_is_left();
}
