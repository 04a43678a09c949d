//! Bad input: one clear error with a hint, its exit code, and nothing written anywhere.

use std::os::unix::fs::symlink;

use jericho_testkit::built_program;

use crate::common::{Ended, Tree, command, listing, variable, without_rights};

const HELLO: &str = "[targets.hello.jobs.greet]\ncommand = \"echo hello\"\n";

/// Holds what every refusal holds: the code, one error that names what is wrong, nothing on
/// standard output, nothing written in the tree or beside it.
#[track_caller]
fn refused(tree: &Tree, mut pikaci: std::process::Command, code: i32, names: &str) {
    let before = listing(&tree.outside());
    let ended = Ended::of(pikaci.output().unwrap()).code(code).says(names);
    let errors = ended.stderr.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!(errors, 1, "one error: {}", ended.stderr);
    assert_eq!(ended.text(), "");
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    assert_eq!(listing(&tree.outside()), before, "something was written");
}

#[test]
fn an_unknown_target_a_bad_catalog_and_wrong_flags_write_nothing() {
    let tree = Tree::with(HELLO);
    refused(&tree, tree.pikaci(&["run", "helo"]), 5, "hello");
    refused(&tree, tree.pikaci(&["run"]), 2, "default");
    refused(&tree, tree.pikaci(&["run", "hello", "-j", "none"]), 2, "none");
    refused(&tree, tree.pikaci(&["run", "hello", "--output", "xml"]), 2, "xml");
    refused(&tree, tree.pikaci(&["run", "hello", "-C", "nowhere"]), 2, "nowhere");
    refused(&tree, tree.pikaci(&["run", "hello", "--state-root", ""]), 2, "state-root");
    let mut bad = tree.pikaci(&["run", "hello"]);
    bad.env("JERICHOCI_MAX_CONCURRENT_EXECUTES", "many");
    refused(&tree, bad, 2, "JERICHOCI_MAX_CONCURRENT_EXECUTES");
    tree.targets("[targets.hello.jobs.greet]\ncomand = \"echo hello\"\n");
    refused(&tree, tree.pikaci(&["run", "hello"]), 2, "jericho.toml");
    tree.targets("[targets.hello.jobs.greet]\ncommand = \"true\"\nneeds = [\"nobody\"]\n");
    refused(&tree, tree.pikaci(&["run", "hello"]), 2, "nobody");
    for pattern in ["../x", "/x", ""] {
        tree.targets(&format!("[targets.hello]\npaths = [\"{pattern}\"]\n{HELLO}"));
        refused(&tree, tree.pikaci(&["run", "hello"]), 2, "jericho.toml");
    }
}

#[test]
fn a_bad_run_id_or_job_id_never_becomes_a_path() {
    let tree = Tree::with(HELLO);
    tree.write("../x/run.json", "{}");
    for verb in ["status", "rerun", "logs", "cancel", "snapshot"] {
        for id in ["../x", "../../x", "/etc", "20260401T120000Z-0a1b2c3d/../x", "", "."] {
            refused(&tree, tree.pikaci(&[verb, id]), 2, "is not a run id");
        }
    }
    let id = tree.record_of(&["run", "hello"])["run_id"].as_str().unwrap().to_owned();
    for job in ["../greet", "..", "greet/../greet", ""] {
        refused(&tree, tree.pikaci(&["logs", &id, "--job", job]), 5, "it has: greet");
    }
    for name in ["../up", "a/b", "..", ""] {
        tree.targets(&format!("[targets.hello.jobs.\"{name}\"]\ncommand = \"true\"\n"));
        refused(&tree, tree.pikaci(&["run", "hello"]), 2, "jericho.toml");
    }
}

#[test]
fn a_state_root_that_cannot_be_read_is_an_error_and_nothing_is_written() {
    use std::os::unix::fs::PermissionsExt as _;
    let tree = Tree::with(HELLO);
    let closed = tree.outside().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).unwrap();
    for args in [&["run", "hello"][..], &["list"], &["gc"], &["status", "20260401T120000Z-0a1b2c3d"]] {
        // Root reads everything, unless it gives that up.
        let root = std::fs::read_dir(&closed).is_ok();
        let program = built_program!("pikaci");
        let mut pikaci = match root {
            true => without_rights("dac_override,dac_read_search", program.as_os_str()),
            false => command(program.as_os_str()),
        };
        pikaci.current_dir(tree.root()).args(["--state-root", "../closed"]).args(args);
        refused(&tree, pikaci, 3, "closed");
    }
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_state_root_that_is_a_file_is_an_error_and_nothing_is_written() {
    let tree = Tree::with(HELLO);
    tree.write("../file", "");
    for args in [&["run", "hello"][..], &["list"], &["gc"], &["status", "20260401T120000Z-0a1b2c3d"]] {
        let mut all = vec!["--state-root", "../file"];
        all.extend(args);
        refused(&tree, tree.pikaci(&all), 3, "is not a directory");
        all[1] = "../file/below";
        refused(&tree, tree.pikaci(&all), 3, "file/below");
    }
    tree.write(".jerichoci", "in the way");
    refused(&tree, tree.pikaci(&["run", "hello"]), 3, ".jerichoci");
}

#[test]
fn a_tree_in_which_no_state_root_can_be_made_is_an_error_that_names_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let tree = Tree::with(HELLO);
    let mode = |mode| std::fs::set_permissions(tree.root(), std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o555);
    let program = built_program!("pikaci");
    let root = std::fs::write(tree.root().join("probe"), "").is_ok();
    let mut pikaci = match root {
        true => without_rights("dac_override", program.as_os_str()),
        false => command(program.as_os_str()),
    };
    let _ = std::fs::remove_file(tree.root().join("probe"));
    pikaci.current_dir(tree.root()).args(["run", "hello"]);
    refused(&tree, pikaci, 3, &format!("hint: ls -ld {}\n", tree.root().display()));
    mode(0o755);
}

#[test]
fn a_new_state_root_is_private_and_out_of_git() {
    use std::os::unix::fs::PermissionsExt as _;
    let tree = Tree::with(HELLO);
    tree.run(&["run", "hello"]).code(0);
    let mode = std::fs::metadata(tree.state_root()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
    assert_eq!(std::fs::read(tree.state_root().join(".gitignore")).unwrap(), b"*\n");
}

#[test]
fn a_directory_that_is_not_a_repository_is_taken_as_it_is_and_that_is_said() {
    let tree = Tree::with(HELLO);
    std::fs::remove_dir_all(tree.root().join(".git")).unwrap();
    tree.write(".gitignore", "left-out\n");
    tree.write("left-out", "");
    tree.targets("[targets.hello.jobs.greet]\ncommand = \"ls\"\n");
    tree.run(&["run", "hello"])
        .code(0)
        .says("it is not in a git repository; what .gitignore and .jerichociignore name is left out");
    let id = &tree.run_ids()[0];
    assert_eq!(tree.host_log(id, "greet"), b"jericho.toml\n");
}

#[test]
fn without_git_on_path_that_is_said_and_named() {
    let tree = Tree::with("[targets.hello.jobs.greet]\ncommand = [\"cat\", \"jericho.toml\"]\n");
    let programs = tree.outside().join("programs");
    std::fs::create_dir(&programs).unwrap();
    let path = variable("PATH").unwrap();
    let cat = std::env::split_paths(&path).map(|dir| dir.join("cat")).find(|cat| cat.exists()).unwrap();
    symlink(cat, programs.join("cat")).unwrap();
    let mut pikaci = command(built_program!("pikaci").as_os_str());
    let output = pikaci.current_dir(tree.root()).args(["run", "hello"]).env("PATH", &programs).output();
    Ended::of(output.unwrap()).code(0).says("there is no git on this machine's PATH");
}
