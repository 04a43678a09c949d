//! `explain --diff`, `rerun --failed`, `rerun --current`, `gc` with limits.

use crate::common::{Tree, steady};

const TARGETS: &str = r#"
[targets.check]
default = true
jobs.first.command = "test -e ready"
jobs.second.command = "true"
jobs.third.command = "true"
jobs.third.needs = ["first"]
"#;

#[test]
fn what_differs_between_two_runs_is_told_for_people_and_as_a_document() {
    let tree = Tree::with_targets(TARGETS);
    tree.write("gone", "x");
    tree.run(&["run", "--keep-going"]).code(1);
    std::fs::remove_file(tree.root().join("gone")).unwrap();
    tree.write("ready", "x");
    tree.write(
        "jericho.toml",
        TARGETS.replace("jobs.second.command = \"true\"", "jobs.second.command = \"true; true\""),
    );
    tree.run(&["run", "-j", "1"]).code(0);
    let ids = tree.run_ids();
    let (a, b) = (&ids[1], &ids[0]);
    let text = tree.run(&["explain", "--diff", a, b]).code(0).stdout;
    // Durations are what they are.
    let told: Vec<String> = steady(&text, &tree)
        .lines()
        .skip(2)
        .map(|line| line.split_once(", ").map_or(line, |(told, _)| told).to_owned())
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r"

    source: 3 files differ
      - gone
      ~ jericho.toml
      + ready
    definitions: 1 job differs
      ~ second
          command.script: true -> true; true
    settings:
      ~ max_concurrent_executes: processors (default) -> 1 (flag)
      ~ options.keep_going: true -> none
    versions: the same
    jobs: 2 ended another way
      ~ first   failed -> passed
        second  passed
      ~ third   skipped -> passed
    ");
    let json = tree.run(&["explain", "--diff", a, b, "--json"]).code(0).json();
    assert_eq!(json["schema_version"], 1);
    assert_eq!(json["source"]["same"], false);
    assert_eq!(json["source"]["files"][2]["path"], "ready");
    assert_eq!(json["source"]["files"][2]["change"], "added");
    assert_eq!(json["definitions"][0]["fields"][0]["name"], "command.script");
    assert_eq!(json["jobs"][0]["a"]["verdict"], "failed");
    assert_eq!(json["jobs"][0]["b"]["verdict"], "passed");
    let same = tree.run(&["explain", "--diff", a, a, "--json"]).code(0).json();
    assert_eq!(same["source"]["same"], true);
    for part in ["definitions", "settings", "versions"] {
        assert_eq!(same[part], serde_json::json!([]), "{part}");
    }
}

#[test]
fn a_run_whose_snapshot_is_damaged_still_has_its_other_differences_told() {
    let tree = Tree::with_targets(TARGETS);
    tree.run(&["run", "--keep-going"]).code(1);
    tree.write("ready", "x");
    tree.run(&["run"]).code(0);
    let ids = tree.run_ids();
    let manifest = tree.state_root().join("runs").join(&ids[0]).join("manifest");
    std::fs::remove_file(&manifest).unwrap();
    let ended = tree.run(&["explain", "--diff", &ids[1], &ids[0]]).code(0);
    assert!(ended.stdout.contains("source: not known: run"), "{}", ended.stdout);
    assert!(ended.stdout.contains("first   failed -> passed"), "{}", ended.stdout);
    tree.run(&["explain", "--diff", &ids[0], "20260401T120000Z-0a1b2c3d"]).code(5);
}

fn jobs_of(tree: &Tree, run_id: &str) -> Vec<String> {
    let record = tree.run(&["status", run_id, "--json"]).code(0).json();
    let jobs = record["jobs"].as_array().unwrap().iter();
    jobs.map(|job| format!("{} {}", job["id"].as_str().unwrap(), job["status"].as_str().unwrap())).collect()
}

#[test]
fn rerun_failed_runs_what_did_not_pass_and_what_needs_it() {
    let tree = Tree::with_targets(TARGETS);
    tree.run(&["run", "--keep-going"]).code(1);
    let first = tree.run_ids()[0].clone();
    tree.write("ready", "x");
    // The recorded tree does not have it.
    tree.run(&["rerun", &first, "--failed"]).code(1);
    assert_eq!(jobs_of(&tree, &tree.run_ids()[0]), ["first failed", "third skipped"]);
    let file = tree.outside().join("junit.xml");
    tree.run(&["rerun", &first, "--failed", "--current", "--junit", file.to_str().unwrap()]).code(0);
    assert_eq!(jobs_of(&tree, &tree.run_ids()[0]), ["first passed", "third passed"]);
    assert!(std::fs::read_to_string(file).unwrap().contains(r#"tests="2" failures="0" errors="0""#));
}

#[test]
fn rerun_current_takes_the_tree_and_the_definitions_of_today() {
    let tree = Tree::with_targets(TARGETS);
    tree.run(&["run", "--keep-going"]).code(1);
    let first = tree.run_ids()[0].clone();
    tree.write("ready", "x");
    tree.write("jericho.toml", "[targets.check]\njobs.new.command = \"test -e ready\"\n");
    tree.run(&["rerun", &first, "--current"]).code(0);
    assert_eq!(jobs_of(&tree, &tree.run_ids()[0]), ["new passed"]);
    tree.write("jericho.toml", "[targets.other]\njobs.new.command = \"true\"\n");
    let ended = tree.run(&["rerun", &first, "--current"]).code(5);
    assert!(ended.stderr.contains("no target is called `check`"), "{}", ended.stderr);
    let elsewhere = Tree::with_targets(TARGETS);
    let state_root = tree.state_root();
    let ended =
        elsewhere.run(&["rerun", &first, "--current", "--state-root", state_root.to_str().unwrap()]).code(2);
    assert!(ended.stderr.contains("was about the tree"), "{}", ended.stderr);
}

#[test]
fn gc_keeps_by_count_by_age_and_by_size_and_each_limit_stands_for_itself() {
    let tree = Tree::with_targets("targets.check.jobs.one.command = \"true\"");
    let old = "20200101T000000Z-0a1b2c3d";
    let runs = tree.state_root().join("runs");
    for _ in 0..3 {
        tree.run(&["run", "check"]).code(0);
    }
    let newest = tree.run_ids();
    let record = std::fs::read_to_string(runs.join(&newest[0]).join("run.json")).unwrap();
    std::fs::create_dir(runs.join(old)).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&record).unwrap();
    record["run_id"] = old.into();
    record["created_at"] = "2020-01-01T00:00:00+00:00".into();
    std::fs::write(runs.join(old).join("run.json"), record.to_string()).unwrap();
    let gc = |args: &[&str]| tree.run(&[&["gc"], args].concat()).code(0);
    let dry = gc(&["--max-age", "14d", "--dry-run"]);
    assert_eq!(dry.stdout, format!("removed_runs=1\n{old}\n"));
    assert!(dry.stderr.contains("would free "), "{}", dry.stderr);
    assert!(runs.join(old).exists());
    assert_eq!(gc(&["--max-age", "14d"]).stdout, format!("removed_runs=1\n{old}\n"));
    assert!(!runs.join(old).exists());
    assert_eq!(gc(&["--max-age", "14d"]).stdout, "removed_runs=0\n");
    assert_eq!(gc(&["--keep-runs", "2"]).stdout, format!("removed_runs=1\n{}\n", newest[2]));
    assert_eq!(gc(&["--max-size", "10GiB"]).stdout, "removed_runs=0\n");
    let dry = gc(&["--max-size", "1B", "--dry-run"]);
    assert_eq!(dry.stdout, format!("removed_runs=2\n{}\n{}\n", newest[1], newest[0]));
    assert!(runs.join(&newest[0]).exists());
    assert_eq!(gc(&["--max-size", "1B"]).stdout, dry.stdout);
    assert!(!runs.join(&newest[0]).exists());
    for (option, bad) in [("--max-age", "14"), ("--max-size", "20 apples"), ("--keep-runs", "-1")] {
        let ended = tree.run(&["gc", &format!("{option}={bad}")]).code(2);
        assert!(ended.stderr.contains(option) && ended.stderr.contains(bad), "{}", ended.stderr);
    }
}
