//! The worked example of docs/prepared-outputs.md, word for word.

use std::fs;
use std::path::Path;

use jericho_testkit::built_program;
use jericho_testkit::need::{needs, needs_program};
use jericho_testkit::nix;

use crate::rig::command;

#[test]
fn the_worked_example_does_what_its_page_says() {
    let test = "the_worked_example_does_what_its_page_says";
    let is_its_machine = cfg!(all(target_arch = "x86_64", target_os = "linux"));
    if !needs(test, "needs an x86_64-linux machine", is_its_machine)
        || !needs_program(test, "nix")
        || !needs_program(test, "bash")
    {
        return;
    }
    let page = include_str!("../../../../docs/prepared-outputs.md");
    let (_, example) = page.split_once("```sh\n").unwrap();
    let (example, _) = example.split_once("```\n").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let nix = nix::Rig::new().unwrap();
    let bin = built_program!("pikaci");
    let mut bash = command(Path::new("bash"), &nix);
    let of_nix = nix.program();
    let dirs = [bin.parent().unwrap(), of_nix.parent().unwrap()].map(|dir| dir.display().to_string());
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", dirs.join(":"));
    let script = dir.path().join("example");
    fs::write(&script, example).unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let output = bash.env("PATH", path).arg("-eu").arg(&script).current_dir(&tree).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert!(out.contains("prepare-check-workspace-deps: nix build ci.x86_64-linux.deps"), "{out}");
    assert!(out.contains("outputs=2\n") && out.contains("building '"), "{out}");
    assert_eq!(err.matches("check passed: 1 passed").count(), 2, "{err}");
    // The second time nothing is built.
    let logs = fs::read_dir(tree.join(".jerichoci/runs")).unwrap().map(|run| run.unwrap().path());
    let built = logs.filter(|run| {
        let log = fs::read_to_string(run.join("prepares/prepare-check-workspace-deps.log")).unwrap();
        log.contains("building '")
    });
    assert_eq!(built.count(), 1);
}
