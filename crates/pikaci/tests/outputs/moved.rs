//! A staged job of the build host: when the connection fails, and repeated after the host has moved.

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

// Two tests, so that each is over in time on a machine that is busy.
#[test]
fn an_ssh_that_fails_at_any_odd_call_ends_in_a_terminal_record_and_the_next_run_leaves_nothing_there() {
    fail_at_each(
        "an_ssh_that_fails_at_any_odd_call_ends_in_a_terminal_record_and_the_next_run_leaves_nothing_there",
        1,
    );
}

#[test]
fn an_ssh_that_fails_at_any_even_call_ends_in_a_terminal_record_and_the_next_run_leaves_nothing_there() {
    fail_at_each(
        "an_ssh_that_fails_at_any_even_call_ends_in_a_terminal_record_and_the_next_run_leaves_nothing_there",
        2,
    );
}

/// Lets ssh fail at every second call of a run, beginning with this one.
fn fail_at_each(test: &str, first: usize) {
    let Some(tree) = Tree::new(test) else { return };
    let Some(sshd) = ssh::Rig::start(test) else { return };
    let Some(runners) = guest_programs(test) else { return };
    fs::write(tree.root.join("jericho.toml"), TARGETS).unwrap();
    let (calls, at) = (tree.beside().join("calls"), tree.beside().join("at"));
    let ssh = tree.script(
        "ssh",
        &format!(
            "echo >> {calls}; [ \"$(wc -l < {calls})\" -eq \"$(cat {at})\" ] && exit 255\nexec ssh -F {} \"$@\"",
            sshd.config().display(),
            calls = calls.display(),
            at = at.display(),
        ),
    );
    let nix = tree.nix.program_alone().unwrap();
    let work = tree.beside().join("work");
    let config = tree.beside().join("config.toml");
    let text = format!(
        "[hosts.pika-build]\nssh = \"rig\"\nallow = [\"host_process\"]\nnix = \"{}\"\nwork_dir = \"{}\"\n",
        nix.display(),
        work.display()
    );
    fs::write(&config, text).unwrap();
    let run = |at_call: usize| -> (Option<i32>, RunRecord) {
        fs::write(&calls, "").unwrap();
        fs::write(&at, at_call.to_string()).unwrap();
        let output = tree.pikaci(
            &["--config", &config.to_string_lossy(), "run", "--no-git", "--output", "json"],
            &[
                ("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_BINARY", &ssh),
                ("JERICHOCI_RECONNECT_SECS", "5"),
                ("JERICHOCI_GUEST_RUNNER_DIR", &runners.to_string_lossy()),
            ],
        );
        let record = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        (output.status.code(), record)
    };
    assert_eq!(run(0).0, Some(0));
    let all = fs::read_to_string(&calls).unwrap().lines().count();
    assert!(all > 5, "{all} calls");
    for at_call in (first..=all).step_by(2) {
        let (code, record) = run(at_call);
        // A call that is tried again, and one after the job, change nothing.
        assert!(code == Some(3) || code == Some(0), "at {at_call}: {code:?} {record:#?}");
        let stored = tree.root.join(".jerichoci/runs").join(&record.run_id).join("run.json");
        let stored: RunRecord = serde_json::from_slice(&fs::read(stored).unwrap()).unwrap();
        assert_eq!((stored.verdict, stored.finished_at.is_some()), (record.verdict, true));
    }
    assert_eq!(run(0).0, Some(0));
    let left: Vec<_> = fs::read_dir(work.join("runs")).into_iter().flatten().flatten().collect();
    let roots = left.iter().filter(|run| run.path().join("roots").exists()).count();
    assert_eq!(roots, 0, "{left:?}");
}
