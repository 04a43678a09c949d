//! Path filters and the base they compare with.

use crate::common::{Ended, Tree, command};
use jericho_testkit::built_program;
use jericho_testkit::repo::Repo;

const TARGETS: &str = r#"
[targets.docs]
paths = ["docs/**", "!**/*.tmp"]
[targets.docs.jobs.one]
command = "true"
[targets.source]
paths = ["src/**"]
[targets.source.jobs.one]
command = "true"
"#;

/// How a run of the target ended: `passed` or `skipped`, with what was said.
#[track_caller]
fn outcome(ended: Ended) -> (String, Ended) {
    let ended = ended.code(0);
    (ended.text().trim_end().rsplit(' ').next().unwrap().to_owned(), ended)
}

#[track_caller]
fn of(tree: &Tree, args: &[&str]) -> String {
    outcome(tree.run(args)).0
}

fn commits(tree: &Tree, names: &[&str]) {
    for name in names {
        tree.write(name, *name);
        tree.repo().commit(name).unwrap();
    }
}

#[test]
fn a_clean_branch_three_commits_ahead_runs_its_filtered_lanes_and_skips_the_others() {
    let tree = Tree::with(TARGETS);
    tree.git(["checkout", "-q", "-b", "work"]);
    commits(&tree, &["docs/one", "other", "another"]);
    assert_eq!(tree.git(["status", "--porcelain"]), "");
    assert_eq!(of(&tree, &["run", "docs", "--base", "main"]), "passed");
    assert_eq!(of(&tree, &["run", "source", "--base", "main"]), "skipped");
    let record = tree.stored(&tree.run_ids()[1]);
    assert_eq!(record["changed_files"], serde_json::json!(["another", "docs/one", "other"]), "{record:#}");
}

#[test]
fn without_a_flag_the_base_is_the_upstreams_default_branch() {
    let tree = Tree::with(TARGETS);
    let clone = tree.outside().join("clone");
    tree.git(["clone", "-q", tree.root().to_str().unwrap(), clone.to_str().unwrap()]);
    let repo = Repo::at(&clone);
    repo.git(["checkout", "-q", "-b", "work"]).unwrap();
    for name in ["docs/one", "a", "b"] {
        repo.write(name, name).unwrap();
        repo.commit(name).unwrap();
    }
    for (target, expected) in [("docs", "passed"), ("source", "skipped")] {
        let mut pikaci = command(built_program!("pikaci").as_os_str());
        let output = pikaci.current_dir(&clone).args(["run", target]).output().unwrap();
        assert_eq!(outcome(Ended::of(output)).0, expected);
    }
}

#[test]
fn without_a_base_every_lane_runs_and_says_why() {
    let tree = Tree::with(TARGETS);
    commits(&tree, &["other"]);
    let (word, ended) = outcome(tree.run(&["run", "docs"]));
    assert_eq!(word, "passed");
    ended.says("runs whatever its path filters say: no change list");
}

#[test]
fn head_is_never_its_own_base_and_an_empty_change_list_runs_every_lane_and_says_so() {
    let tree = Tree::with(TARGETS);
    commits(&tree, &["other"]);
    for base in ["main", "HEAD"] {
        let (word, ended) = outcome(tree.run(&["run", "docs", "--base", base]));
        assert_eq!(word, "passed", "{base}");
        ended.says("runs whatever its path filters say");
    }
    tree.git(["checkout", "-q", "-b", "work"]);
    tree.git(["commit", "-q", "--allow-empty", "-m", "nothing"]);
    let (word, ended) = outcome(tree.run(&["run", "docs", "--base", "main"]));
    assert_eq!(word, "passed");
    ended.says("nothing differs from main");
}

#[test]
fn dirty_untracked_and_renamed_files_count_with_odd_names_and_from_below() {
    let tree = Tree::with(TARGETS);
    commits(&tree, &["docs/old"]);
    tree.git(["checkout", "-q", "-b", "work"]);
    commits(&tree, &["other"]);
    assert_eq!(of(&tree, &["run", "docs", "--base", "main"]), "skipped");
    tree.git(["mv", "docs/old", "moved"]);
    assert_eq!(of(&tree, &["run", "docs", "--base", "main"]), "passed", "the old name of a rename");
    tree.git(["reset", "-q", "--hard"]);
    tree.write("docs/old", "dirty");
    assert_eq!(of(&tree, &["run", "docs", "--base", "main"]), "passed", "a dirty file");
    tree.git(["checkout", "-q", "docs/old"]);
    tree.write("docs/an \"odd\"\n\u{fc}.md", "");
    assert_eq!(of(&tree, &["run", "docs", "--base", "main"]), "passed", "an untracked file");
    tree.write("below/deep/file", "");
    let mut below = tree.pikaci(&["run", "docs", "--base", "main"]);
    let output = below.current_dir(tree.root().join("below/deep")).output().unwrap();
    assert_eq!(outcome(Ended::of(output)).0, "passed", "started below the top");
    std::fs::remove_dir_all(tree.root().join("docs")).unwrap();
    tree.git(["checkout", "-q", "docs"]);
    tree.write("docs/x.tmp", "");
    assert_eq!(of(&tree, &["run", "docs", "--base", "main"]), "skipped", "excluded again by a later !");
}

#[test]
fn the_base_comes_from_the_flag_then_from_the_environment() {
    let tree = Tree::with(TARGETS);
    tree.git(["checkout", "-q", "-b", "work"]);
    commits(&tree, &["docs/a"]);
    tree.git(["branch", "here"]);
    commits(&tree, &["src/b"]);
    let with = |args: &[&str]| {
        outcome(Ended::of(tree.pikaci(args).env("JERICHOCI_BASE_REF", "here").output().unwrap())).0
    };
    assert_eq!(with(&["run", "docs"]), "skipped");
    assert_eq!(with(&["run", "docs", "--base", "main"]), "passed");
}
