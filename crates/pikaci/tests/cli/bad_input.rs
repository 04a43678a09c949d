//! Bad input: one clear error that names it, a hint, the right exit code, nothing written.

use crate::common::{Ended, Tree, steady};

const HELLO: &str = "[targets.hello.jobs.greet]\ncommand = \"echo hello\"\n";

/// Runs, and holds what every refusal holds.
#[track_caller]
fn refused(tree: &Tree, args: &[&str], code: i32) -> String {
    holds(tree, tree.run(args), code)
}

#[track_caller]
fn holds(tree: &Tree, ended: Ended, code: i32) -> String {
    let ended = ended.code(code);
    assert_eq!(ended.stdout, "", "{ended:#?}");
    assert!(!tree.state_root().exists(), "something was written: {ended:#?}");
    ended.told(tree)
}

#[test]
fn an_unknown_target_suggests_the_nearest() {
    let tree = Tree::with_targets(HELLO);
    insta::assert_snapshot!(refused(&tree, &["run", "helo"], 5), @r"
    error: no target is called `helo`
      hint: did you mean `pikaci run hello`?
    ");
    insta::assert_snapshot!(refused(&tree, &["run", "zzzzzzzz"], 5), @r"
    error: no target is called `zzzzzzzz`
      hint: the targets are: hello, jericho-smoke
    ");
}

#[test]
fn of_many_targets_an_error_names_the_first() {
    let many: String = (100..130).map(|n| format!("[targets.t{n}.jobs.a]\ncommand = \"true\"\n")).collect();
    let tree = Tree::with_targets(&many);
    for args in [&["run", "zzzzzzzz"][..], &["run"]] {
        let ended = tree.run(args);
        let told = ended.told(&tree);
        assert!(told.contains("jericho-smoke, t100,") && told.contains("t118, … and 11 more"), "{told}");
        assert!(!told.contains("t119"), "{told}");
    }
}

#[test]
fn a_run_without_a_name_needs_a_default_target() {
    let tree = Tree::with_targets(HELLO);
    insta::assert_snapshot!(refused(&tree, &["run"], 2), @r"
    error: no target was named, and none is the default
      hint: name one of: hello, jericho-smoke; or set `default = true` in jericho.toml
    ");
}

#[test]
fn what_is_too_long_for_a_program_is_refused_before_anything_runs() {
    let long = "x".repeat(64 * 1024 + 1);
    let text = format!(
        "[targets.t.jobs.script]\ncommand = \"echo {long}\"\n[targets.t.jobs.word]\ncommand = [\"echo\", \"{long}\"]\n\
         [targets.t.jobs.variable]\ncommand = \"true\"\nenv = {{ A = \"{long}\" }}\n"
    );
    insta::assert_snapshot!(refused(&Tree::with_targets(&text), &["run", "t"], 2), @r"
    error: jericho.toml:2:11: 65542 bytes are more than the 65536 that a job can be given as one text; put it into a file of the source tree, and use that
    jericho.toml:4:20: 65537 bytes are more than the 65536 that a job can be given as one text; put it into a file of the source tree, and use that
    jericho.toml:7:13: 65537 bytes are more than the 65536 that a job can be given as one text; put it into a file of the source tree, and use that
      hint: mend that, and run again; nothing was started
    ");
    // The longest that is taken does run.
    let longest = "x".repeat(64 * 1024);
    let tree = Tree::with_targets(&format!(
        "[targets.t.jobs.j]\ncommand = [\"test\", \"-n\", \"{longest}\"]\nenv = {{ A = \"{longest}\" }}\n"
    ));
    tree.run(&["run", "t"]).code(0);
}

#[test]
fn a_bad_jericho_toml_is_told_with_line_and_column() {
    let tree =
        Tree::with_targets("[targets.hello.jobs.greet]\ncomand = \"echo hello\"\ntimeout = \"5 minutes\"\n");
    insta::assert_snapshot!(refused(&tree, &["run", "hello"], 2), @r#"
    error: jericho.toml:2:1: unknown key `comand` in job `greet`; did you mean `command`?
    jericho.toml:3:11: `5 minutes` is not a duration; write whole hours, minutes and seconds, such as `"90s"`, `"5m"`, `"1h30m"`
      hint: mend that, and run again; nothing was started
    "#);
    tree.write("jericho.toml", "[targets.hello\n");
    insta::assert_snapshot!(refused(&tree, &["run", "hello"], 2), @r"
    error: jericho.toml:1:15: unclosed table, expected `]`
      hint: mend that, and run again; nothing was started
    ");
    tree.write("jericho.toml", b"# \xff\n");
    insta::assert_snapshot!(refused(&tree, &["run", "hello"], 2), @r"
    error: jericho.toml:1:3: the byte 0xff is not UTF-8; save the file as UTF-8
      hint: mend that, and run again; nothing was started
    ");
}

#[test]
fn a_run_id_never_becomes_a_path() {
    let tree = Tree::with_targets(HELLO);
    for command in ["status", "rerun", "logs", "cancel", "snapshot", "prepared-outputs"] {
        for id in ["../x", "/etc/passwd", "20260401T120000Z-0a1b2c3d/..", "", "x"] {
            let told = refused(&tree, &[command, id], 2);
            assert!(told.contains("is not a run id") && told.contains("hint: "), "{told}");
        }
    }
    insta::assert_snapshot!(refused(&tree, &["status", "../x"], 2), @r"
    error: `../x` is not a run id; a run id looks like RUN
      hint: pikaci list
    ");
}

#[test]
fn a_run_that_is_not_there_is_not_found() {
    let tree = Tree::with_targets(HELLO);
    for command in ["status", "rerun", "logs", "cancel", "snapshot", "prepared-outputs"] {
        let told = refused(&tree, &[command, "20260401T120000Z-0a1b2c3d"], 5);
        assert!(told.contains("no run RUN under TREE/.jerichoci"), "{told}");
    }
    insta::assert_snapshot!(
        refused(&tree, &["--state-root", "../o t h e r", "status", "20260401T120000Z-0a1b2c3d"], 5), @r"
    error: no run RUN under OUTSIDE/o t h e r
      hint: pikaci --state-root '../o t h e r' list
    ");
}

#[test]
fn a_state_root_that_cannot_be_one_is_refused() {
    let tree = Tree::with_targets(HELLO);
    std::fs::write(tree.outside().join("file"), "").unwrap();
    insta::assert_snapshot!(refused(&tree, &["--state-root", "../file", "run", "hello"], 3), @r"
    error: the state root OUTSIDE/file is not a directory
      hint: pikaci --state-root DIR, with a directory or a name that is free
    ");
    insta::assert_snapshot!(refused(&tree, &["list", "--state-root", "../file/below"], 3), @r"
    error: the state root TREE/../file/below cannot be reached
      because: Not a directory (os error 20)
      hint: ls -ld TREE/../file
    ");
    insta::assert_snapshot!(refused(&tree, &["run", "hello", "--state-root", ""], 2), @r"
    error: --state-root is empty; it must have a value
      hint: pikaci --help
    ");
}

#[test]
fn a_state_root_around_the_source_is_refused() {
    let tree = Tree::with_targets(HELLO);
    insta::assert_snapshot!(refused(&tree, &["run", "hello", "--state-root", "."], 2), @r"
    error: the state root TREE holds the source tree TREE: nothing of it would be left to check
      hint: pikaci --state-root DIR, with a directory of its own
    ");
    assert!(refused(&tree, &["run", "hello", "--state-root", ".."], 2).contains("holds the source tree"));
    assert!(!tree.root().join("runs").exists());
}

#[test]
fn a_directory_of_somebody_else_is_no_state_root() {
    let tree = Tree::with_targets(HELLO);
    tree.write("src/lib.rs", "");
    insta::assert_snapshot!(refused(&tree, &["run", "hello", "--state-root", "src"], 2), @r"
    error: the directory TREE/src is no state root: it has other things in it
      hint: pikaci --state-root DIR, with a name that is free or an empty directory
    ");
    let by_variable = |args: &[&str], place: &str| {
        let output = tree.pikaci(args).env("JERICHOCI_STATE_ROOT", place).output().unwrap();
        holds(&tree, Ended::of(output), 2)
    };
    for args in [&["run", "hello"][..], &["list"], &["gc"]] {
        assert!(by_variable(args, "src").contains("TREE/src is no state root"));
        assert!(by_variable(args, ".git/state").contains("TREE/.git/state is inside a git directory"));
        assert!(by_variable(args, ".git").contains("TREE/.git is inside a git directory"));
    }
    let left: Vec<_> = std::fs::read_dir(tree.root().join("src")).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing was written: {left:?}");
    assert!(!tree.root().join(".git/state").exists());
    tree.git(&["init", "-q", "--bare", "../bare"]);
    assert!(refused(&tree, &["list", "--state-root", "../bare/new"], 2).contains("inside a git directory"));
}

#[test]
fn an_empty_directory_becomes_a_state_root_and_stays_one() {
    let tree = Tree::with_targets(HELLO);
    std::fs::create_dir(tree.outside().join("empty")).unwrap();
    for _ in 0..2 {
        tree.run(&["run", "hello", "--state-root", "../empty"]).code(0);
    }
    // What a copy without its identity, or an earlier version, has.
    std::fs::remove_file(tree.outside().join("empty/engine.json")).unwrap();
    let list = tree.run(&["list", "--state-root", "../empty"]).code(0);
    assert_eq!(list.stdout.lines().count(), 2);
}

#[test]
fn a_state_root_that_cannot_be_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    if !jericho_testkit::need::needs_ordinary_user("a_state_root_that_cannot_be_read_is_refused") {
        return;
    }
    let tree = Tree::with_targets(HELLO);
    let closed = tree.outside().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).unwrap();
    let told = refused(&tree, &["--state-root", "../closed", "list"], 3);
    assert!(told.contains("cannot be read") && told.contains("hint: ls -ld"), "{told}");
}

#[test]
fn a_directory_that_is_not_there_is_refused() {
    let tree = Tree::with_targets(HELLO);
    insta::assert_snapshot!(refused(&tree, &["-C", "nowhere", "run", "hello"], 2), @r"
    error: cannot work in TREE/nowhere
      because: No such file or directory (os error 2)
      hint: pikaci -C DIR, with a directory that exists
    ");
    insta::assert_snapshot!(refused(&tree, &["run", "-C", "jericho.toml", "hello"], 2), @r"
    error: cannot work in TREE/jericho.toml
      because: it is not a directory
      hint: pikaci -C DIR, with a directory
    ");
}

#[test]
fn a_bad_variable_is_an_error_that_names_it() {
    let tree = Tree::with_targets(HELLO);
    let with = |name: &str, value: &str| {
        let ended = Ended::of(tree.pikaci(&["run", "hello"]).env(name, value).output().unwrap());
        holds(&tree, ended, 2)
    };
    insta::assert_snapshot!(with("JERICHOCI_MAX_CONCURRENT_EXECUTES", "0"), @r"
    error: JERICHOCI_MAX_CONCURRENT_EXECUTES is `0`; it must be a whole number from 1
      hint: unset JERICHOCI_MAX_CONCURRENT_EXECUTES
    ");
    insta::assert_snapshot!(with("JERICHOCI_STATE_ROOT", ""), @r"
    error: JERICHOCI_STATE_ROOT is empty; it must be a directory
      hint: unset JERICHOCI_STATE_ROOT
    ");
    insta::assert_snapshot!(with("JERICHOCI_REMOTE_LINUX_VM_INCUS_LANES", "all"), @r"
    error: JERICHOCI_REMOTE_LINUX_VM_INCUS_LANES is set, and no longer exists: which jobs run in Incus is said by the jobs
      hint: unset JERICHOCI_REMOTE_LINUX_VM_INCUS_LANES
    ");
}

#[test]
fn the_removed_variable_fails_every_command() {
    let tree = Tree::with_targets(HELLO);
    let id = "20260401T120000Z-0a1b2c3d";
    for args in [&["list"][..], &["gc"], &["status", id], &["logs", id], &["staged-linux-remote-defaults"]] {
        let output = tree.pikaci(args).env("JERICHOCI_REMOTE_LINUX_VM_INCUS_LANES", "x").output().unwrap();
        holds(&tree, Ended::of(output), 2);
    }
    let blank = tree.pikaci(&["list"]).env("JERICHOCI_REMOTE_LINUX_VM_INCUS_LANES", " ").output().unwrap();
    Ended::of(blank).code(0);
}

#[test]
fn a_variable_of_the_past_is_a_warning_that_names_its_successor() {
    let tree = Tree::with_targets(HELLO);
    let output =
        tree.pikaci(&["list"]).env("PIKACI_STATE_ROOT", "/x").env("PIKACI_ELSE", "y").output().unwrap();
    insta::assert_snapshot!(steady(&Ended::of(output).code(0).stderr, &tree), @"warning: PIKACI_STATE_ROOT is set, but not read: the variable is called JERICHOCI_STATE_ROOT now");
}

#[test]
fn wrong_usage_is_exit_code_2_and_help_is_0() {
    let tree = Tree::plain();
    for args in [
        &["frobnicate"][..],
        &[],
        &["run", "-j", "0"],
        &["run", "--output", "xml"],
        &["gc", "--keep-runs", "-1"],
    ] {
        refused(&tree, args, 2);
    }
    refused(&tree, &["run", "jericho-smoke", "--events", "all"], 2);
    for args in [&["--help"][..], &["run", "-h"], &["--version"]] {
        assert_eq!(tree.run(args).code(0).stderr, "");
    }
}

#[test]
fn a_base_without_git_is_refused() {
    let tree = Tree::plain();
    tree.write("jericho.toml", "[targets.t.jobs.j]\ncommand = \"true\"\n");
    let ended = tree.run(&["run", "t", "--no-git", "--base", "main"]).code(2);
    assert_eq!(ended.stdout, "");
    assert!(ended.stderr.contains("--base main needs git"), "{ended:#?}");
    assert!(!tree.state_root().exists(), "nothing was written");
}

#[test]
fn a_base_that_is_no_commit_is_refused() {
    let tree = Tree::with_targets(&format!(
        "{HELLO}[targets.docs]\npaths = [\"docs/**\"]\njobs.a.command = \"true\"\n"
    ));
    tree.git(&["tag", "a-tag"]);
    tree.git(&["tag", "a-tree", "HEAD^{tree}"]);
    insta::assert_snapshot!(refused(&tree, &["run", "docs", "--base", "maim"], 2), @r"
    error: --base is `maim`, which is no commit in this repository
      hint: git fetch, when a remote has it; or leave --base out, for the upstream's default branch
    ");
    for base in ["maim", "", "--all", "a-tree", "0123456789012345678901234567890123456789"] {
        let flag = format!("--base={base}");
        for target in ["docs", "hello"] {
            refused(&tree, &["run", target, &flag], 2);
        }
    }
    let with_variable = |target: &str| {
        Ended::of(tree.pikaci(&["run", target]).env("JERICHOCI_BASE_REF", "maim").output().unwrap())
    };
    insta::assert_snapshot!(holds(&tree, with_variable("docs"), 2), @r"
    error: JERICHOCI_BASE_REF is `maim`, which is no commit in this repository
      hint: git fetch, when a remote has it; or unset JERICHOCI_BASE_REF, for the upstream's default branch
    ");
    with_variable("hello").code(0);
    tree.run(&["run", "hello", "--base", "a-tag"]).code(0);
}

#[test]
fn a_damaged_record_is_told_by_its_run_with_the_place_and_a_hint() {
    let tree = Tree::with_targets(HELLO);
    tree.run(&["run", "hello"]).code(0);
    let id = tree.run_ids()[0].clone();
    let record = tree.state_root().join("runs").join(&id).join("run.json");
    for broken in [Some("{"), Some(""), Some("null"), None] {
        match broken {
            Some(text) => std::fs::write(&record, text).unwrap(),
            None => std::fs::remove_file(&record).unwrap(),
        }
        for command in ["status", "logs", "rerun", "snapshot"] {
            let told = tree.run(&[command, &id]).code(3).told(&tree);
            assert!(told.starts_with("error: the record of run RUN is damaged\n"), "{command}: {told}");
            assert!(told.contains("/run.json: "), "{command}: {told}");
            assert!(told.contains("  hint: cat TREE/.jerichoci/runs/"), "{command}: {told}");
        }
    }
    insta::assert_snapshot!(tree.run(&["status", &id]).told(&tree).replace(&id, "RUN"), @r"
    error: the record of run RUN is damaged
      because: TREE/.jerichoci/runs/RUN/run.json: the run has no record
      hint: cat TREE/.jerichoci/runs/RUN/events.jsonl, for what is known of the run
    ");
    std::fs::remove_file(record.with_file_name("events.jsonl")).unwrap();
    let told = tree.run(&["status", &id]).code(3).told(&tree);
    assert!(
        told.ends_with("hint: pikaci list, for the other runs; gc removes this one in its turn"),
        "{told}"
    );
}

#[test]
fn what_the_parser_refuses_is_one_line_and_a_hint() {
    let tree = Tree::with_targets(HELLO);
    insta::assert_snapshot!(refused(&tree, &["run", "-j", "0"], 2), @r"
    error: --jobs is `0`; it must be a whole number from 1
      hint: pikaci run --help
    ");
    insta::assert_snapshot!(refused(&tree, &["rerun", "x", "--jobs", "x\x1b[31m"], 2), @r"
    error: --jobs is `x\u{1b}[31m`; it must be a whole number from 1
      hint: pikaci run --help
    ");
    insta::assert_snapshot!(refused(&tree, &["gc", "--keep-runs", "abc"], 2), @r"
    error: --keep-runs is `abc`; it must be a whole number from 0
      hint: pikaci gc --help
    ");
    insta::assert_snapshot!(refused(&tree, &["run", "--output", "xml"], 2), @r"
    error: --output is `xml`; it must be one of human, json, jsonl
      hint: pikaci run --help
    ");
    insta::assert_snapshot!(refused(&tree, &["plan", "--output", "xml"], 2), @r"
    error: --output is `xml`; it must be one of text, json, dot
      hint: pikaci plan --help
    ");
    insta::assert_snapshot!(refused(&tree, &["run", "--bogus"], 2), @r"
    error: unexpected argument '--bogus' found
      hint: pikaci run --help
    ");
    insta::assert_snapshot!(refused(&tree, &["status"], 2), @r"
    error: <RUN_ID> is missing
      hint: pikaci status --help
    ");
    insta::assert_snapshot!(refused(&tree, &["run", "--base"], 2), @r"
    error: --base is empty; it must have a value
      hint: pikaci run --help
    ");
    insta::assert_snapshot!(refused(&tree, &["run", "--base", "a", "--base", "b"], 2), @r"
    error: the argument '--base <REV>' cannot be used multiple times
      hint: pikaci run --help
    ");
    insta::assert_snapshot!(refused(&tree, &["list", "more"], 2), @r"
    error: unexpected argument 'more' found
      hint: pikaci list --help
    ");
    insta::assert_snapshot!(refused(&tree, &["bogus"], 2), @r"
    error: no command is called `bogus`
      hint: pikaci --help
    ");
    insta::assert_snapshot!(refused(&tree, &["stauts"], 2), @r"
    error: no command is called `stauts`
      hint: did you mean `pikaci status`?
    ");
    insta::assert_snapshot!(refused(&tree, &["-x"], 2), @r"
    error: unexpected argument '-x' found
      hint: pikaci --help
    ");
    insta::assert_snapshot!(refused(&tree, &["--state-root", "x"], 2), @r"
    error: no command was named
      hint: pikaci --help
    ");
}

#[test]
fn a_state_root_that_cannot_be_understood_is_told_with_another_as_the_hint() {
    let tree = Tree::with_targets(HELLO);
    std::fs::create_dir(tree.state_root()).unwrap();
    std::fs::write(tree.state_root().join("engine.json"), "{\"schema_version\": 99}").unwrap();
    insta::assert_snapshot!(tree.run(&["run", "hello"]).code(3).told(&tree), @r"
    error: TREE/.jerichoci/engine.json: it has version 99, written by a newer Jericho CI
      hint: pikaci --state-root DIR, with a name that is free or an empty directory
    ");
}
