//! Runs, edits and collections at the same time.

use crate::common::{Tree, each_way};

/// Says that it runs, waits for a file, and shows what it sees.
const TARGETS: &str = r#"
[targets.show.jobs.show]
command = """
: > "@OUT@/runs-${JERICHOCI_JOB%%/*}"
until [ -e @OUT@/go ]; do sleep 0.02; done
cat a.txt; ls
"""
[targets.show.jobs.later]
command = "cat a.txt; ls"
needs = ["show"]
[targets.write.jobs.write]
command = "cat a.txt; echo written > a.txt; echo new > new; rm gone; mkdir -p sub; echo x > sub/x"
[targets.write.jobs.look]
needs = ["write"]
command = "cat a.txt; ls"
"#;

fn tree(way: crate::common::Way) -> Tree {
    let tree = Tree::new(way, TARGETS);
    tree.write("a.txt", "one\n");
    tree.write("gone", "");
    tree
}

fn start(tree: &Tree) -> crate::common::Live {
    let live = tree.start(&["run", "show"]);
    tree.wait_for_file(&format!("runs-{}", live.id));
    live
}

const FIRST: &str = "one\na.txt\ngone\njericho.toml\n";
const SECOND: &str = "two\na.txt\nadded\njericho.toml\n";

fn edit(tree: &Tree) {
    tree.write("a.txt", "two\n");
    tree.write("added", "");
    std::fs::remove_file(tree.root().join("gone")).unwrap();
}

fn logs(tree: &Tree, id: &str) -> [String; 2] {
    ["show", "later"].map(|job| String::from_utf8(tree.host_log(id, job)).unwrap())
}

#[test]
fn a_job_sees_its_snapshot_while_the_tree_is_edited() {
    each_way(|way| {
        let tree = tree(way);
        let live = start(&tree);
        let id = live.id.clone();
        edit(&tree);
        tree.make_file("go");
        live.end().code(0);
        assert_eq!(logs(&tree, &id), [FIRST, FIRST]);
    });
}

#[test]
fn two_runs_of_one_target_at_once_see_each_their_own_source() {
    each_way(|way| {
        let tree = tree(way);
        let one = start(&tree);
        edit(&tree);
        let two = start(&tree);
        tree.make_file("go");
        let ids = [one.id.clone(), two.id.clone()];
        one.end().code(0);
        two.end().code(0);
        assert_eq!(logs(&tree, &ids[0]), [FIRST, FIRST]);
        assert_eq!(logs(&tree, &ids[1]), [SECOND, SECOND]);
        assert_ne!(tree.stored(&ids[0])["snapshot_hash"], tree.stored(&ids[1])["snapshot_hash"]);
    });
}

#[test]
fn a_rerun_sees_the_same_bytes_after_edits_and_the_recorded_definitions() {
    each_way(|way| {
        let tree = tree(way);
        tree.make_file("go");
        let first = tree.record_of(&["run", "show"]);
        edit(&tree);
        tree.targets("[targets.other.jobs.other]\ncommand = \"false\"\n");
        let again = tree.record_of(&["rerun", first["run_id"].as_str().unwrap()]);
        assert_eq!(again["status"], "passed", "{again:#}");
        assert_eq!(again["snapshot_hash"], first["snapshot_hash"]);
        assert_eq!(again["rerun_of"], first["run_id"]);
        assert_eq!(logs(&tree, again["run_id"].as_str().unwrap()), [FIRST, FIRST]);
        assert_eq!(std::fs::read_to_string(tree.root().join("a.txt")).unwrap(), "two\n");
    });
}

#[test]
fn what_one_job_writes_neither_the_next_job_nor_the_next_run_nor_the_tree_sees() {
    each_way(|way| {
        let tree = tree(way);
        for _ in 0..2 {
            let record = tree.record_of(&["run", "write"]);
            assert_eq!(record["status"], "passed", "{record:#}");
            let id = record["run_id"].as_str().unwrap();
            assert_eq!(tree.host_log(id, "write"), b"one\n");
            assert_eq!(String::from_utf8(tree.host_log(id, "look")).unwrap(), FIRST);
        }
        assert_eq!(tree.git(["status", "--porcelain"]), "?? a.txt\n?? gone\n");
        assert_eq!(std::fs::read_to_string(tree.root().join("a.txt")).unwrap(), "one\n");
    });
}

#[test]
fn gc_during_a_run_takes_nothing_that_it_needs() {
    each_way(|way| {
        let tree = tree(way);
        tree.make_file("go");
        let old = tree.record_of(&["run", "show"]);
        std::fs::remove_file(tree.outside().join("go")).unwrap();
        let live = start(&tree);
        let id = live.id.clone();
        edit(&tree);
        let gc = tree.run(&["gc", "--keep-runs", "0"]).code(0).says(&format!("{id} goes on and was kept"));
        assert_eq!(gc.text(), format!("removed_runs=1\n{}\n", old["run_id"].as_str().unwrap()));
        tree.make_file("go");
        live.end().code(0);
        assert_eq!(logs(&tree, &id), [FIRST, FIRST]);
        let again = tree.record_of(&["rerun", &id]);
        assert_eq!(logs(&tree, again["run_id"].as_str().unwrap()), [FIRST, FIRST]);
        tree.run(&["gc", "--keep-runs", "0"]).code(0);
        assert_eq!(tree.run_ids(), Vec::<String>::new());
    });
}

#[test]
fn gc_keeps_the_newest_runs_also_of_one_second() {
    let tree = Tree::with("[targets.quick.jobs.quick]\ncommand = \"true\"\n");
    for _ in 0..5 {
        tree.run(&["run", "quick"]).code(0);
    }
    let ids = tree.run_ids();
    tree.run(&["gc", "--keep-runs", "2"]).code(0);
    assert_eq!(tree.run_ids(), ids[..2]);
}

#[test]
fn collections_in_a_loop_disturb_no_run_at_any_point_of_its_life() {
    each_way(|way| {
        let tree = Tree::new(way, "[targets.quick.jobs.quick]\ncommand = \"cat a.txt\"\n");
        tree.write("a.txt", "0");
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for keep in ["0", "1"] {
                let (tree, stop) = (&tree, &stop);
                scope.spawn(move || {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        let gc = tree.run(&["gc", "--keep-runs", keep]);
                        assert_eq!(gc.code, Some(0), "{}", gc.stderr);
                    }
                });
            }
            let runs = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for round in 0..12 {
                    tree.write("a.txt", round.to_string());
                    let both = [tree.start(&["run", "quick"]), tree.start(&["run", "quick"])];
                    for live in both {
                        live.end().code(0);
                    }
                }
            }));
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(runs.is_ok(), "a run was disturbed");
        });
    });
}

#[test]
fn a_run_has_an_owner_from_the_moment_it_has_its_name() {
    let tree = Tree::with(
        "[targets.wait.jobs.wait]\ncommand = \"until [ -e @OUT@/${JERICHOCI_JOB%%/*} ]; do sleep 0.01; done\"\n\
         [targets.quick.jobs.quick]\ncommand = \"true\"\n",
    );
    tree.run(&["run", "quick"]).code(0);
    let runs = tree.state_root().join("runs");
    let ids = || -> Vec<String> {
        let names =
            std::fs::read_dir(&runs).unwrap().map(|run| run.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.starts_with('.')).collect()
    };
    let mut known = ids();
    for _ in 0..20 {
        let mut child = tree.pikaci(&["run", "wait", "--output", "json"]);
        let mut child = child.stdout(std::process::Stdio::null()).spawn().unwrap();
        // As fast as it can be seen: a collection may come at any moment.
        let id = loop {
            if let Some(id) = ids().into_iter().find(|id| !known.contains(id)) {
                break id;
            }
            assert!(child.try_wait().unwrap().is_none(), "it ended without a run");
        };
        let owner = std::fs::File::open(runs.join(&id).join("owner.json"));
        let owned = owner.is_ok_and(|owner| owner.try_lock_shared().is_err());
        tree.make_file(&id);
        assert!(child.wait().unwrap().success());
        assert!(owned, "{id} had no owner");
        known.push(id);
    }
}
