//! A staged job of the build host, repeated after the host has moved.

use std::fs;
use std::path::PathBuf;

use jericho_testkit::program::guest_programs;
use jericho_testkit::{built_program, ssh};
use jerichoci::model::outputs::{Consumer, Residency};
use jerichoci::model::record::RunRecord;

use crate::rig::Tree;

const TARGETS: &str = r#"
[targets.staged]
default = true
[targets.staged.jobs.check]
command = "run-check"
on = "pika-build"
runtime = "host_process"
staged = { deps = "ci.x86_64-linux.deps", build = "ci.x86_64-linux.build", prefix = "t" }
"#;

/// A build host at one place: the same machine, with directories and programs of its own.
struct Place {
    work: PathBuf,
    launcher: String,
    helper: String,
}

impl Place {
    fn new(tree: &Tree, name: &str) -> Self {
        let work = tree.beside().join(format!("work-{name}"));
        let launcher = format!(
            "echo {name} >> {}/launched; exec '{}' \"$@\"",
            tree.beside().display(),
            built_program!("pikaci-launch-fulfill-prepared-output").display()
        );
        let helper = format!(
            "export NIX_STORE_DIR='{}'; exec '{}' \"$@\"",
            tree.nix.store().display(),
            built_program!("pikaci-fulfill-prepared-output").display()
        );
        Self {
            work,
            launcher: tree.script(&format!("launcher-{name}"), &launcher),
            helper: tree.script(&format!("helper-{name}"), &helper),
        }
    }
}

#[test]
fn a_rerun_after_the_build_host_moved_goes_there_with_todays_programs() {
    let test = "a_rerun_after_the_build_host_moved_goes_there_with_todays_programs";
    let Some(tree) = Tree::new(test) else { return };
    let Some(sshd) = ssh::Rig::start(test) else { return };
    let Some(runners) = guest_programs(test) else { return };
    fs::write(tree.root.join("jericho.toml"), TARGETS).unwrap();
    let ssh = tree.script("ssh", &format!("exec ssh -F {} \"$@\"", sshd.config().display()));
    let nix = tree.nix.program_alone().unwrap();
    let places = [Place::new(&tree, "old"), Place::new(&tree, "new")];
    let config = |known: &str| {
        let path = tree.beside().join("config.toml");
        let mut text = "[hosts.pika-build]\nssh = \"rig-nowhere\"\nallow = [\"host_process\"]\n".to_owned();
        text += &format!(
            "[hosts.{known}]\nssh = \"rig\"\nallow = [\"host_process\"]\nnix = \"{}\"\n",
            nix.display()
        );
        fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let pikaci = |args: &[&str], name: &str, place: &Place| -> RunRecord {
        let config = config(name);
        let work = place.work.to_string_lossy();
        let output = tree.pikaci(
            &[&["--config", &config], args, &["--output", "json"]].concat(),
            &[
                ("JERICHOCI_PRE_MERGE_PIKA_RUST_SUBPROCESS_FULFILL", "1"),
                ("JERICHOCI_PREPARED_OUTPUT_FULFILL_INVOCATION", "external_wrapper_command_v1"),
                ("JERICHOCI_PREPARED_OUTPUT_FULFILL_LAUNCHER_TRANSPORT", "ssh_launcher_transport_v1"),
                ("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_BINARY", &ssh),
                ("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_HOST", name),
                ("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_REMOTE_WORK_DIR", &work),
                ("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_REMOTE_LAUNCHER_BINARY", &place.launcher),
                ("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_REMOTE_HELPER_BINARY", &place.helper),
                ("JERICHOCI_GUEST_RUNNER_DIR", &runners.to_string_lossy()),
            ],
        );
        let record: RunRecord =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        assert!(output.status.success(), "{record:#?}\n{output:?}");
        record
    };
    let [old, new] = &places;
    let first = pikaci(&["run", "--no-git"], "old", old);
    assert_eq!(first.prepared_output_launcher_transport_host.as_deref(), Some("old"));
    let record = tree.outputs(&first);
    assert!(record.outputs.iter().all(|it| it.residency == Residency::RemoteAuthoritativeStagedLinux));
    assert!(record.outputs.iter().all(|it| it.consumer == Consumer::FulfillRequestCliV1));

    // The file of hosts knows nothing of the old one any more.
    let again = pikaci(&["rerun", &first.run_id], "new", new);
    assert_eq!(again.prepared_output_launcher_transport_host.as_deref(), Some("new"));
    let text = |path: &PathBuf| Some(path.to_string_lossy().into_owned());
    assert_eq!(again.prepared_output_launcher_transport_remote_work_dir, text(&new.work));
    assert_eq!(
        again.prepared_output_launcher_transport_remote_launcher_program.as_ref(),
        Some(&new.launcher)
    );
    assert_eq!(again.prepared_output_launcher_transport_remote_helper_program.as_ref(), Some(&new.helper));
    let launched = fs::read_to_string(tree.beside().join("launched")).unwrap();
    assert_eq!(launched, "old\nold\nnew\nnew\n");
    let origin = |field: &str| {
        let name = format!("prepared_output_{field}");
        again
            .settings
            .iter()
            .find(|setting| setting.name == name)
            .map(|setting| setting.origin.clone())
            .unwrap()
    };
    assert_eq!(origin("launcher_transport_host"), "environment");
    assert_eq!(origin("consumer"), format!("run {}", first.run_id));
    for place in &places {
        let left = fs::read_dir(place.work.join("runs")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "nothing of the runs is left in {}", place.work.display());
    }
}
