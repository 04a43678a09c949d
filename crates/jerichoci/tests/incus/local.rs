//! Guests of this machine.

use jericho_testkit::incus::Rig;
use jerichoci::model::demands::{SecretDelivery, SecretSpec};
use jerichoci::model::outcome::{FailureKind, Verdict};

use crate::rig::{World, guest, job};

#[test]
fn a_guest_job_sees_the_snapshot_and_its_output_is_the_guest_log() {
    let Some(rig) = Rig::up("a_guest_job_sees_the_snapshot_and_its_output_is_the_guest_log") else { return };
    let project = rig.project(4).unwrap();
    let Some(world) =
        World::new(&rig, &project, "a_guest_job_sees_the_snapshot_and_its_output_is_the_guest_log")
    else {
        return;
    };
    let run = world.run(vec![guest("hello", "pwd; cat a.txt src/b.txt; id -u; pwd >&2")]);
    assert_eq!(run.verdict, Verdict::Passed, "{}", world.host_log(&run, "hello"));
    let log = world.guest_log(&run, "hello");
    assert_eq!(log, "/workspace/snapshot\none\ntwo\n1000\n/workspace/snapshot\n");
    let host_log = world.host_log(&run, "hello");
    assert!(
        host_log.starts_with("[jerichoci] guest job: backend incus, direct_guest_command, host local, 20")
            && host_log.ends_with(
                "command: bash --noprofile --norc -lc 'pwd; cat a.txt src/b.txt; id -u; pwd >&2'\n"
            ),
        "{host_log}"
    );
    let record = job(&run, "hello");
    let vm = record.remote_linux_vm_execution.as_ref().unwrap();
    let phases: Vec<_> = record.phases.iter().map(|phase| phase.phase.as_str()).collect();
    assert_eq!(
        phases,
        [
            "prepare_directories",
            "stage_workspace_snapshot",
            "prepare_runtime",
            "launch_guest",
            "wait_for_completion",
            "collect_artifacts"
        ]
    );
    assert_eq!(vm.phases.len(), phases.len());
    let image = vm.incus_image.as_ref().unwrap();
    assert_eq!((image.project.as_str(), image.alias.as_str()), (project.name(), rig.image_alias()));
    assert_eq!(image.fingerprint.as_ref().unwrap().len(), 64);
    assert_eq!(image.guest_role, None);
    world.assert_nothing_left();
}

#[test]
fn a_guest_that_boots_systemd_is_no_other() {
    let test = "a_guest_that_boots_systemd_is_no_other";
    let Some(rig) = Rig::up(test) else { return };
    let Some(image) = rig.systemd_image_alias(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(mut world) = World::new(&rig, &project, test) else { return };
    world.config.incus.image_alias = Some(image);
    world.config.secrets.insert("TOKEN", "hunter22-is-no-good");
    let script = "pwd; cat a.txt; id -u; [ -n \"$TOKEN\" ]; touch /dev/shm/x $CARGO_HOME/x $XDG_STATE_HOME/x; \
                  [ -d /run/systemd/system ] && echo systemd; exit 3";
    let mut hello = guest("hello", script);
    hello.secrets = vec![SecretSpec { name: "TOKEN".to_owned(), delivery: SecretDelivery::Env }];
    let run = world.run(vec![hello.clone()]);
    assert_eq!(job(&run, "hello").exit_code, Some(3), "{}", world.host_log(&run, "hello"));
    assert_eq!(world.guest_log(&run, "hello"), "/workspace/snapshot\none\n1000\nsystemd\n");
    world.assert_nothing_left();
    // It has a runner of its own.
    world.config.hosts.runner_dirs = Vec::new();
    let run = world.run(vec![hello]);
    assert_eq!(job(&run, "hello").exit_code, Some(3), "{}", world.host_log(&run, "hello"));
    world.assert_nothing_left();
}

#[test]
fn the_exit_code_of_the_guest_is_that_of_the_job() {
    let Some(rig) = Rig::up("the_exit_code_of_the_guest_is_that_of_the_job") else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, "the_exit_code_of_the_guest_is_that_of_the_job") else {
        return;
    };
    let run = world.run(vec![guest("bad", "exit 3")]);
    let record = job(&run, "bad");
    assert_eq!(record.verdict, Verdict::Failed(FailureKind::TestFailure));
    assert_eq!(record.exit_code, Some(3));
    world.assert_nothing_left();
}
