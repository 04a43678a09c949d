//! Every call of ssh fails once while a launcher on a host hands outputs over: each run has an end of the right class,
//! and nothing of any is left on the host.

use std::fs;
use std::path::Path;

use jericho_testkit::program::guest_programs;
use jericho_testkit::{built_program, ssh};
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::model::record::RunRecord;

use crate::handover::{borrowed, over_ssh};
use crate::rig::{Tree, document};

/// The ways in which ssh fails. The third one passes some bytes on, and then everything of it dies: it has a session
/// of its own.
const WAYS: [&str; 3] =
    ["exit 255", "kill -9 $$", "REAL \"$@\" | { dd bs=1 count=45 2>/dev/null; kill -9 0; }; exit 255"];

/// Lets ssh fail at the calls that `chosen` has ways for, by their number.
#[expect(clippy::print_stderr, reason = "who waits for minutes sees how far it is")]
fn ssh_fails(test: &str, chosen: impl Fn(usize) -> Vec<&'static str>) {
    let Some(tree) = Tree::new(test) else { return };
    let (Some(sshd), Some(runners)) = (ssh::Rig::start(test), guest_programs(test)) else { return };
    let work = tree.beside().join("work");
    let launcher =
        format!("exec '{}' \"$@\"", built_program!("pikaci-launch-fulfill-prepared-output").display());
    let mut variables = over_ssh(&tree, &sshd, &work, &launcher);
    variables.push(("JERICHOCI_GUEST_RUNNER_DIR", runners.to_string_lossy().into_owned()));
    variables.push(("JERICHOCI_RECONNECT_SECS", "10".to_owned()));
    let variables = borrowed(&variables);
    let targets = tree.root.join("jericho.toml");
    let text = fs::read_to_string(&targets).unwrap();
    fs::write(&targets, format!("{text}on = \"rig\"\nruntime = \"host_process\"\n")).unwrap();
    let nix = tree.nix.program_alone().unwrap();
    let host =
        format!("[hosts.rig]\nssh = \"rig\"\nallow = [\"host_process\"]\nnix = \"{}\"\n", nix.display());
    let config = tree.beside().join("config.toml");
    fs::write(&config, host).unwrap();
    let config = config.to_string_lossy();
    let (calls, real) = (tree.beside().join("calls"), format!("ssh -F {}", sshd.config().display()));
    let run = |at: usize, how: &str| -> (Option<i32>, RunRecord) {
        fs::write(&calls, "").unwrap();
        let how = how.replace("REAL", &real);
        let calls = calls.display();
        // In the place of ssh, see `over_ssh`.
        tree.script(
            "ssh",
            &format!(
                "n=$(flock {calls} sh -c 'echo >> {calls}; wc -l < {calls}')\n\
                 if [ \"$n\" -eq {at} ]; then {how}; fi\nexec {real} \"$@\""
            ),
        );
        let output = tree.pikaci(&["--config", &config, "run", "--no-git", "--output", "json"], &variables);
        let record = serde_json::from_slice(&output.stdout);
        (output.status.code(), record.unwrap_or_else(|_| panic!("{how} at {at}: {output:?}")))
    };
    assert_eq!(run(0, ":").0, Some(0));
    // The second time, as all that follow.
    let (code, again) = run(0, ":");
    assert_eq!(code, Some(0), "{again:#?}");
    let all = fs::read_to_string(&calls).unwrap().lines().count();
    assert!(all > 10, "{all} calls");
    for (at, how) in (1..=all).flat_map(|at| chosen(at).into_iter().map(move |how| (at, how))) {
        let (code, run) = run(at, how);
        let told = format!("{how} at {at} of {all}");
        eprintln!("{told}: {:?}", run.verdict);
        match run.verdict {
            // A call that is tried again, and one after the job, change nothing.
            Verdict::Passed => assert_eq!(code, Some(0), "{told}"),
            Verdict::Failed(FailureKind::Infrastructure) => assert_eq!(code, Some(3), "{told}"),
            other => panic!("{told}: {other:?}: {run:#?}"),
        }
        let stored: RunRecord = document(stored(&tree, &run));
        assert_eq!((stored.verdict, stored.finished_at.is_some()), (run.verdict, true), "{told}");
        for output in run.prepared_outputs_path.iter().flat_map(|_| tree.outputs(&run).outputs) {
            // Who failed to hand over has written why, also when the host did not.
            let result = output.consumer_result_path.unwrap();
            assert!(Path::new(&result).exists(), "{told}: {result}");
        }
    }
    assert_eq!(run(0, ":").0, Some(0));
    let left: Vec<_> = fs::read_dir(work.join("runs")).into_iter().flatten().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

fn stored(tree: &Tree, run: &RunRecord) -> std::path::PathBuf {
    tree.root.join(".jerichoci/runs").join(&run.run_id).join("run.json")
}

#[test]
fn an_ssh_that_fails_at_a_call_of_a_handover_ends_in_a_terminal_record_and_leaves_nothing_there() {
    let test = "an_ssh_that_fails_at_a_call_of_a_handover_ends_in_a_terminal_record_and_leaves_nothing_there";
    // Every third call, each in another way than the one before.
    ssh_fails(test, |at| if at % 3 == 0 { vec![WAYS[at / 3 % WAYS.len()]] } else { Vec::new() });
}

#[test]
#[ignore = "minutes: each call in each way, see docs/development.md"]
fn an_ssh_that_fails_at_any_call_of_a_handover_in_any_way_ends_in_a_terminal_record() {
    let test = "an_ssh_that_fails_at_any_call_of_a_handover_in_any_way_ends_in_a_terminal_record";
    ssh_fails(test, |_| WAYS.to_vec());
}
