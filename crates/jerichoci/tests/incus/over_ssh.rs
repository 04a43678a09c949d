//! Guests of a host over SSH.

use jericho_testkit::incus::Rig;
use jericho_testkit::ssh;
use jerichoci::model::outcome::Verdict;

use crate::rig::{World, guest, job, on_host};

#[test]
fn a_guest_of_a_host_sees_the_snapshot_that_was_sent_there() {
    let test = "a_guest_of_a_host_sees_the_snapshot_that_was_sent_there";
    let Some(rig) = Rig::up(test) else { return };
    let Some(sshd) = ssh::Rig::start(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let world = world.with_host(&sshd);
    let run = world.run(vec![on_host(guest("hello", "pwd; cat a.txt src/b.txt; id -u"))]);
    println!("{}", world.host_log(&run, "hello"));
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    assert_eq!(world.guest_log(&run, "hello"), "/workspace/snapshot\none\ntwo\n1000\n");
    assert_eq!(job(&run, "hello").warnings, Vec::<String>::new());
    world.assert_nothing_left();
}
