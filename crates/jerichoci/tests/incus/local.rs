//! Guests of this machine.

use jericho_testkit::incus::Rig;
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
    let run = world.run(vec![guest(
        "hello",
        "pwd; cat a.txt src/b.txt; id -u; grep -w /dev/shm /proc/mounts; env | sort",
    )]);
    println!("{}\n{}\n{run:#?}", world.host_log(&run, "hello"), world.guest_log(&run, "hello"));
    assert_eq!(run.verdict, Verdict::Passed);
    let log = world.guest_log(&run, "hello");
    assert!(log.starts_with("/workspace/snapshot\none\ntwo\n1000\n"), "{log}");
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
