//! What a run that was killed has left on a host for prepared outputs, and who removes it.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use jericho_testkit::program::guest_programs;
use jericho_testkit::{built_program, ssh};

use crate::handover::{borrowed, over_ssh};
use crate::rig::{Tree, command};

#[test]
fn what_a_killed_run_left_on_a_host_is_gone_after_the_next_reaping() {
    let test = "what_a_killed_run_left_on_a_host_is_gone_after_the_next_reaping";
    let Some(tree) = Tree::new(test) else { return };
    let Some(sshd) = ssh::Rig::start(test) else { return };
    let Some(runners) = guest_programs(test) else { return };
    let work = tree.beside().join("work");
    let fifo = tree.beside().join("started");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let waits = format!("echo > '{}'; exec sleep 1000", fifo.display());
    let mut variables = over_ssh(&tree, &sshd, &work, &waits);
    variables.push(("JERICHOCI_GUEST_RUNNER_DIR", runners.to_string_lossy().into_owned()));
    let config = tree.beside().join("config.toml");
    let nix = tree.nix.program_alone().unwrap();
    let host =
        format!("[hosts.rig]\nssh = \"rig\"\nallow = [\"host_process\"]\nnix = \"{}\"\n", nix.display());
    fs::write(&config, host).unwrap();
    let config = config.to_string_lossy();
    let here = fs::read_to_string(tree.root.join("jericho.toml")).unwrap();
    let there = format!("{here}on = \"rig\"\nruntime = \"host_process\"\n");
    let runs = || fs::read_dir(work.join("runs")).map_or(0, Iterator::count);
    for (targets, roots) in [(here, 0), (there, 1)] {
        fs::write(tree.root.join("jericho.toml"), targets).unwrap();
        let mut pikaci = command(&built_program!("pikaci"), &tree.nix);
        pikaci.current_dir(&tree.root).args(["--config", &config, "run", "--no-git"]);
        pikaci.envs(borrowed(&variables)).stdout(Stdio::null()).stderr(Stdio::null());
        let mut pikaci = pikaci.spawn().unwrap();
        assert_eq!(fs::read_to_string(&fifo).unwrap(), "\n");
        pikaci.kill().unwrap();
        pikaci.wait().unwrap();
        assert_eq!(runs(), 1);
        assert_eq!(links(&work.join("runs")), roots, "what keeps an output in the store of the host");
        let output = tree.pikaci(&["--config", &config, "reap"], &borrowed(&variables));
        assert!(output.status.success(), "{output:?}");
        assert_eq!(runs(), 0, "{output:?}");
    }
}

fn links(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let counts = entries.map(|entry| match entry.file_type().unwrap() {
        kind if kind.is_dir() => links(&entry.path()),
        kind => usize::from(kind.is_symlink()),
    });
    counts.sum()
}
