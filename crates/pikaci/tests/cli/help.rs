//! Help texts, as people see them.

use crate::common::Tree;

#[test]
fn the_commands_are_listed_by_what_one_wants_to_do() {
    insta::assert_snapshot!(Tree::plain().run(&["--help"]).code(0).stdout, @"");
}

#[test]
fn every_command_has_its_help() {
    let tree = Tree::plain();
    insta::assert_snapshot!(tree.run(&["run", "-h"]).code(0).stdout, @"");
    insta::assert_snapshot!(tree.run(&["logs", "-h"]).code(0).stdout, @"");
    insta::assert_snapshot!(tree.run(&["gc", "-h"]).code(0).stdout, @"");
    for command in
        ["rerun", "list", "status", "cancel", "snapshot", "prepared-outputs", "staged-linux-remote-defaults"]
    {
        let help = tree.run(&[command, "--help"]).code(0).stdout;
        assert!(help.contains("Usage: pikaci ") && help.contains("--state-root"), "{help}");
    }
}

#[test]
fn the_defaults_of_the_build_host_are_machine_readable() {
    let tree = Tree::plain();
    insta::assert_snapshot!(tree.run(&["staged-linux-remote-defaults"]).code(0).stdout, @"");
    let json = tree.run(&["staged-linux-remote-defaults", "--json"]).code(0).json();
    let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "ssh_binary",
            "ssh_nix_binary",
            "ssh_host",
            "remote_work_dir",
            "remote_launcher_binary",
            "remote_helper_binary",
            "store_uri",
        ]
    );
}
