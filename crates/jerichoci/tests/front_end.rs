//! The example of a front end does what it says.

#[expect(dead_code, reason = "its main function is for people")]
#[path = "../examples/front_end.rs"]
mod front_end;

use std::path::Path;

use jericho_host::Environment;
use jerichoci::model::outcome::{FailureKind, Verdict};

fn check(directory: &Path, state_root: &Path) -> (Verdict, String) {
    #[expect(clippy::disallowed_methods, reason = "the jobs of this test need PATH")]
    let environment: Environment = std::env::vars_os().collect();
    let mut told = Vec::new();
    let verdict = front_end::check(directory, state_root, environment, &mut told).unwrap();
    (verdict, String::from_utf8(told).unwrap())
}

#[test]
fn two_jobs_run_in_the_order_of_their_needs_and_are_told_line_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    std::fs::write(tree.join("a"), "fine\n").unwrap();
    let state_root = dir.path().join("state");
    let (verdict, told) = check(&tree, &state_root);
    assert_eq!(told, "count starts\ncount: passed\nwords starts\nwords: passed\n");
    assert_eq!(verdict, Verdict::Passed);

    std::fs::write(tree.join("a"), "FIXME\n").unwrap();
    let (verdict, told) = check(&tree, &state_root);
    assert_eq!(told, "count starts\ncount: passed\nwords starts\nwords: failed\n");
    assert_eq!(verdict, Verdict::Failed(FailureKind::TestFailure));
    assert_eq!(jerichoci::list_runs(&state_root).unwrap().runs.len(), 2);
}

#[test]
fn the_example_is_as_short_as_the_documentation_says() {
    let text = include_str!("../examples/front_end.rs");
    let code = text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with("//"));
    assert!(code.count() <= 65, "{}", text.lines().count());
}
