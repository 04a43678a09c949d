//! Bad input: one clear error that names it and what to do, the right exit code, nothing written.

mod common;

use common::{Said, Sandbox};

const GOOD: &str = "[targets.hello.jobs.greet]\ncommand = \"echo hello\"\n";

/// Runs it, and checks that it failed without writing anything.
fn refused(sandbox: &Sandbox, variables: &[(&str, &str)], args: &[&str]) -> String {
    let before = sandbox.files();
    let Said { out, err, code } = sandbox.run_with(variables, args);
    assert_eq!(out, "", "nothing on standard output");
    assert_eq!(sandbox.files(), before, "nothing written");
    format!("exit {}\n{err}", code.expect("it exits by itself"))
}

#[test]
fn an_unknown_target_is_named_with_the_one_that_was_meant() {
    let sandbox = Sandbox::with(GOOD);
    insta::assert_snapshot!(refused(&sandbox, &[], &["run", "helo"]), @r"
    exit 5
    error: no target is called `helo`
      hint: did you mean `pikaci run hello`?
    ");
    insta::assert_snapshot!(refused(&sandbox, &[], &["run", "x"]), @r"
    exit 5
    error: no target is called `x`
      hint: the targets are: hello, jericho-smoke
    ");
    insta::assert_snapshot!(refused(&sandbox, &[], &["run", "../x"]), @r"
    exit 5
    error: no target is called `../x`
      hint: the targets are: hello, jericho-smoke
    ");
    insta::assert_snapshot!(refused(&sandbox, &[], &["run"]), @r"
    exit 2
    error: no target was named, and none is the default
      hint: name one of: hello, jericho-smoke; or set `default = true` in jericho.toml
    ");
}

#[test]
fn a_wrong_file_of_targets_is_named_with_line_and_column() {
    let sandbox = Sandbox::with("[targets.a.jobs.b]\ncomand = \"true\"\n");
    insta::assert_snapshot!(refused(&sandbox, &[], &["run", "a"]), @r"
    exit 2
    error: jericho.toml:1:17: job `b` has no `command`
    jericho.toml:2:1: unknown key `comand` in job `b`; did you mean `command`?
      hint: nothing was run; correct the file and try again
    ");
    let sandbox = Sandbox::with("[targets\n");
    insta::assert_snapshot!(refused(&sandbox, &[], &["run", "a"]), @r"
    exit 2
    error: jericho.toml:1:9: unclosed table, expected `]`
      hint: nothing was run; correct the file and try again
    ");
}

#[test]
fn a_run_id_is_checked_before_it_touches_a_path() {
    let sandbox = Sandbox::with(GOOD);
    for command in ["rerun", "status", "logs", "cancel", "snapshot", "prepared-outputs"] {
        let said = refused(&sandbox, &[], &[command, "../x"]);
        assert_eq!(
            said,
            "exit 2\nerror: `../x` is not a run id; a run id looks like 20260401T120000Z-0a1b2c3d\n  \
             hint: `pikaci list` shows the runs there are\n",
            "{command}"
        );
    }
}

#[test]
fn a_run_that_is_not_there_is_named_with_its_state_root() {
    let sandbox = Sandbox::with(GOOD);
    for command in ["rerun", "status", "logs", "cancel", "snapshot", "prepared-outputs"] {
        let said = refused(&sandbox, &[], &[command, "20260401T120000Z-0a1b2c3d"]);
        assert_eq!(
            said,
            "exit 5\nerror: no run 20260401T120000Z-0a1b2c3d under $ROOT/src/.jerichoci\n  \
             hint: `pikaci list` shows the runs there are; --state-root names another place\n",
            "{command}"
        );
    }
}

#[test]
fn a_state_root_that_is_not_there_has_no_runs() {
    let sandbox = Sandbox::with(GOOD);
    let before = sandbox.files();
    let said = sandbox.run(&["list"]);
    assert_eq!((said.out.as_str(), said.err.as_str(), said.code), ("", "", Some(0)));
    let said = sandbox.run(&["gc"]);
    assert_eq!((said.out.as_str(), said.code), ("removed_runs=0\n", Some(0)));
    assert_eq!(sandbox.files(), before);
}

#[test]
fn a_state_root_that_is_no_directory_is_refused_by_every_command() {
    let sandbox = Sandbox::with(GOOD);
    sandbox.write("file", "");
    for args in [&["run", "hello"][..], &["list"], &["status", "20260401T120000Z-0a1b2c3d"], &["gc"]] {
        let mut all = vec!["--state-root", "file"];
        all.extend(args);
        assert_eq!(
            refused(&sandbox, &[], &all),
            "exit 2\nerror: state root $ROOT/src/file is not a directory\n  \
             hint: name a directory, or a place for one, with --state-root\n",
            "{args:?}"
        );
    }
    insta::assert_snapshot!(refused(&sandbox, &[("JERICHOCI_STATE_ROOT", "file/below")], &["run", "hello"]), @r"
    exit 2
    error: state root $ROOT/src/file/below cannot be a directory
      cause: Not a directory (os error 20)
      hint: name a directory, or a place for one, with JERICHOCI_STATE_ROOT
    ");
    insta::assert_snapshot!(refused(&sandbox, &[], &["list", "--state-root", ""]), @r"
    exit 2
    error: a value is required for '--state-root <DIR>' but none was supplied

    For more information, try '--help'.
    ");
}

#[test]
fn a_state_root_that_cannot_be_made_is_an_infrastructure_error() {
    let sandbox = Sandbox::with(GOOD);
    // Nobody, not even root, can make a directory in /proc.
    insta::assert_snapshot!(refused(&sandbox, &[], &["run", "hello", "--state-root", "/proc/no"]), @r"
    exit 3
    error: cannot make /proc/no
      cause: No such file or directory (os error 2)
      hint: --state-root DIR names another place for records
    ");
}

#[test]
fn a_directory_to_work_in_must_be_one() {
    let sandbox = Sandbox::with(GOOD);
    sandbox.write("file", "");
    insta::assert_snapshot!(refused(&sandbox, &[], &["-C", "nowhere", "run", "hello"]), @r"
    exit 2
    error: directory $ROOT/src/nowhere is not there
      hint: -C names the directory to work in
    ");
    insta::assert_snapshot!(refused(&sandbox, &[], &["list", "-C", "file"]), @r"
    exit 2
    error: $ROOT/src/file is not a directory
      hint: -C names the directory to work in
    ");
}

#[test]
fn variables_that_make_no_sense_are_named() {
    let sandbox = Sandbox::with(GOOD);
    let lanes = [("JERICHOCI_REMOTE_LINUX_VM_INCUS_LANES", "all")];
    insta::assert_snapshot!(refused(&sandbox, &lanes, &["list"]), @r"
    exit 2
    error: JERICHOCI_REMOTE_LINUX_VM_INCUS_LANES is set, and was removed: every Incus job runs in Incus
      hint: unset JERICHOCI_REMOTE_LINUX_VM_INCUS_LANES
    ");
    let jobs = [("JERICHOCI_MAX_CONCURRENT_EXECUTES", "many")];
    insta::assert_snapshot!(refused(&sandbox, &jobs, &["run", "hello"]), @r"
    exit 2
    error: JERICHOCI_MAX_CONCURRENT_EXECUTES is `many`, not a number of jobs
      hint: set JERICHOCI_MAX_CONCURRENT_EXECUTES to 1 or more, or unset it
    ");
}

#[test]
fn flags_that_make_no_sense_are_named() {
    let sandbox = Sandbox::with(GOOD);
    insta::assert_snapshot!(refused(&sandbox, &[], &["run", "hello", "-j", "0"]), @r"
    exit 2
    error: invalid value '0' for '--jobs <N>': number would be zero for non-zero type

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refused(&sandbox, &[], &["run", "hello", "--events", "all"]), @r"
    exit 2
    error: --events all shows nothing without --output jsonl
      hint: add --output jsonl, or leave --events out
    ");
    insta::assert_snapshot!(refused(&sandbox, &[], &["run", "hello", "--output", "xml"]), @r"
    exit 2
    error: invalid value 'xml' for '--output <FORM>'
      [possible values: human, json, jsonl]

    For more information, try '--help'.
    ");
}

#[test]
fn a_base_needs_git() {
    let sandbox = Sandbox::without_git(GOOD);
    insta::assert_snapshot!(refused(&sandbox, &[], &["run", "hello", "--base", "main"]), @r"
    exit 2
    error: --base needs a git work tree: not a git repository (or any of the parent directories): .git
      hint: leave --base out, or name a work tree with -C
    ");
}

#[test]
fn a_name_cannot_steer_the_terminal() {
    let sandbox = Sandbox::with(GOOD);
    for args in
        [&["run", "\u{1b}[31mred"][..], &["status", "\u{1b}[31mred"], &["-C", "\u{1b}[31mred", "list"]]
    {
        let said = refused(&sandbox, &[], args);
        assert!(!said.contains('\u{1b}'), "{said:?}");
    }
}
