//! Path filters decide by what changed, and in doubt a target runs.

use crate::common::{Ended, Tree};

const TARGETS: &str = r#"
[targets.docs]
paths = ["docs/**", "!**/*.tmp"]
[targets.docs.jobs.one]
command = "true"
"#;

fn status(ended: &Ended) -> String {
    ended.stdout.trim_end().rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn a_branch_is_compared_with_its_base_also_when_it_is_clean() {
    let tree = Tree::with_targets(TARGETS);
    tree.git(&["checkout", "-q", "-b", "work"]);
    tree.write("src/a", "");
    tree.commit("source");
    let skipped = tree.run(&["run", "docs", "--base", "main"]).code(0);
    assert_eq!(status(&skipped), "skipped");
    let id = &tree.run_ids()[0];
    assert_eq!(skipped.stdout, format!("{id} docs skipped\n"));
    assert!(
        skipped.stderr.contains("1 file changed against main, and no path filter matches (of 2)"),
        "{skipped:#?}"
    );
    assert!(tree.run(&["status", id]).code(0).stdout.contains("changed_files=1"));

    tree.write("docs/x.tmp", "");
    assert_eq!(status(&tree.run(&["run", "docs", "--base", "main"]).code(0)), "skipped");
    tree.write("docs/x.md", "");
    assert_eq!(status(&tree.run(&["run", "docs", "--base", "main"]).code(0)), "passed");
    tree.commit("docs");
    assert_eq!(status(&tree.run(&["run", "docs", "--base", "main"]).code(0)), "passed");
}

#[test]
fn the_base_comes_from_flag_then_environment() {
    let tree = Tree::with_targets(TARGETS);
    tree.git(&["checkout", "-q", "-b", "work"]);
    tree.write("docs/a", "");
    tree.commit("docs");
    tree.git(&["branch", "here"]);
    tree.write("src/b", "");
    tree.commit("source");
    let with = |args: &[&str]| {
        let output = tree.pikaci(args).env("JERICHOCI_BASE_REF", "here").output().unwrap();
        status(&Ended::of(output).code(0))
    };
    assert_eq!(with(&["run", "docs"]), "skipped");
    assert_eq!(with(&["run", "docs", "--base", "main"]), "passed");
}

#[test]
fn without_a_base_or_without_changes_everything_runs_and_says_why() {
    let tree = Tree::with_targets(TARGETS);
    for (args, why) in
        [(&["run", "docs"][..], "no change list"), (&["run", "docs", "--base", "main"], "is the head itself")]
    {
        let ended = tree.run(args).code(0);
        assert_eq!(status(&ended), "passed");
        assert!(ended.stderr.contains(why), "{why}: {ended:#?}");
    }
    let plain = Tree::plain();
    plain.write("jericho.toml", TARGETS);
    let ended = plain.run(&["run", "docs"]).code(0);
    assert!(ended.stderr.contains("not in a git repository"), "{ended:#?}");
}

#[test]
fn a_skipped_run_is_skipped_again_by_a_rerun() {
    let tree = Tree::with_targets(TARGETS);
    tree.git(&["checkout", "-q", "-b", "work"]);
    tree.write("src/a", "");
    tree.run(&["run", "docs", "--base", "main"]).code(0);
    let id = tree.run_ids()[0].clone();
    assert_eq!(status(&tree.run(&["rerun", &id]).code(0)), "skipped");
}
