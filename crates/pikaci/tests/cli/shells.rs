//! Completions in real shells, and manual pages in the real viewer.

use jericho_testkit::need::needs_program;

use crate::common::{Ended, Tree, command};

const TARGETS: &str = r#"
[targets.hello]
description = "Says hello"
[targets.hello.jobs.greet]
command = "echo hello"
[targets.help.jobs.test]
command = "true"
"#;

/// What the program offers for the last of the words.
fn offered(tree: &Tree, words: &[&str]) -> Vec<String> {
    let mut all = vec!["--", "pikaci"];
    all.extend(words);
    let mut pikaci = tree.pikaci(&all);
    pikaci.env("JERICHOCI_COMPLETE", "fish");
    let ended = Ended::of(pikaci.output().unwrap()).code(0);
    assert_eq!(ended.stderr, "");
    ended.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn targets_jobs_and_runs_are_completed_by_what_there_is() {
    let tree = Tree::with_targets(TARGETS);
    assert_eq!(offered(&tree, &["run", "hel"]), ["hello\tSays hello", "help"]);
    assert_eq!(offered(&tree, &["run", "hello", "--only", "g"]), ["greet\tof hello"]);
    assert!(offered(&tree, &["run", "--keep-g"])[0].starts_with("--keep-going\t"));
    let commands = offered(&tree, &["st"]);
    assert!(commands.iter().any(|command| command.starts_with("status\t")), "{commands:?}");
    tree.run(&["run", "hello"]).code(0);
    let id = &tree.run_ids()[0];
    for command in ["status", "logs", "rerun", "snapshot"] {
        assert_eq!(offered(&tree, &[command, ""])[0], format!("{id}\thello passed"), "{command}");
    }
    // Elsewhere, where the words say so.
    let root = tree.root().to_str().unwrap();
    let elsewhere = Tree::plain();
    assert_eq!(offered(&elsewhere, &["-C", root, "status", ""])[0], format!("{id}\thello passed"));
    // Where nothing can be known nothing is offered, and nothing is said.
    tree.write("jericho.toml", "[targets.hello\n");
    assert_eq!(offered(&tree, &["run", "hel"]), Vec::<String>::new());
}

#[test]
fn the_scripts_are_what_their_shells_can_read() {
    let tree = Tree::with_targets(TARGETS);
    for (shell, check) in [("bash", &["-n"][..]), ("zsh", &["-n"]), ("fish", &["--no-execute"])] {
        let script = tree.run(&["completions", shell]).code(0).stdout;
        assert!(script.contains("JERICHOCI_COMPLETE"), "{script}");
        if !needs_program("the_scripts_are_what_their_shells_can_read", shell) {
            continue;
        }
        let file = tree.outside().join(shell);
        std::fs::write(&file, script).unwrap();
        let read =
            command(shell.as_ref()).args(check).arg(&file).env("HOME", tree.outside()).output().unwrap();
        assert!(read.status.success() && read.stderr.is_empty(), "{shell}: {read:?}");
    }
}

#[test]
fn bash_completes_a_target() {
    let tree = Tree::with_targets(TARGETS);
    let script = tree.run(&["completions", "bash"]).code(0).stdout;
    let file = tree.outside().join("script");
    std::fs::write(&file, script).unwrap();
    let words = r#"source "$1"; COMP_WORDS=(pikaci run hel); COMP_CWORD=2; COMP_TYPE=9
        "$(complete -p pikaci | sed 's/.*-F \([^ ]*\).*/\1/')" pikaci hel run; printf '%s\n' "${COMPREPLY[@]}""#;
    let program = tree.pikaci(&[]).get_program().to_owned();
    let directory = std::path::Path::new(&program).parent().unwrap().to_str().unwrap().to_owned();
    let mut bash = command("bash".as_ref());
    let path =
        bash.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value.map(ToOwned::to_owned));
    let path = format!("{directory}:{}", path.unwrap_or_default().to_str().unwrap());
    bash.current_dir(tree.root()).env("PATH", path).args(["-c", words, "bash"]).arg(&file);
    let ended = Ended::of(bash.output().unwrap()).code(0);
    assert_eq!(ended.stdout, "hello\nhelp\n", "{ended:#?}");
}

#[test]
fn every_command_has_a_manual_page_without_a_mistake() {
    let tree = Tree::plain();
    let pages = tree.root().join("man/man1");
    tree.run(&["man", pages.to_str().unwrap()]).code(0);
    let first = tree.run(&["man"]).code(0).stdout;
    assert_eq!(std::fs::read_to_string(pages.join("pikaci.1")).unwrap(), first);
    let help = tree.run(&["--help"]).code(0).stdout;
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Run:")
        .take_while(|line| *line != "Options:")
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .collect();
    assert!(commands.len() > 10, "{commands:?}");
    let mut all = vec![pages.join("pikaci.1")];
    all.extend(commands.iter().map(|command| pages.join(format!("pikaci-{command}.1"))));
    for page in all {
        assert!(page.is_file(), "{}", page.display());
        if !needs_program("every_command_has_a_manual_page_without_a_mistake", "man") {
            continue;
        }
        let mut man = command("man".as_ref());
        man.args(["--warnings", "-E", "UTF-8", "-l"]).arg(&page).env("MANWIDTH", "80").env("MANPAGER", "cat");
        let shown = Ended::of(man.output().unwrap()).code(0);
        assert_eq!(shown.stderr, "", "{}", page.display());
        assert!(shown.stdout.contains("SYNOPSIS"), "{}", shown.stdout);
    }
    tree.write("file", "");
    let ended = tree.run(&["man", "file/below"]).code(3);
    assert!(ended.stderr.contains("  hint: ls -ld "), "{ended:#?}");
}
