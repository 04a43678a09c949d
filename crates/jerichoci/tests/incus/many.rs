//! Many guests at once, and much output.

use jericho_testkit::incus::Rig;
use jerichoci::model::demands::{CacheSharing, CacheSpec};
use jerichoci::model::outcome::Verdict;

use crate::rig::{World, guest, job, peak_memory};

#[test]
fn sixteen_jobs_pass_in_a_project_for_eight_and_the_limit_is_waited_for() {
    let test = "sixteen_jobs_pass_in_a_project_for_eight_and_the_limit_is_waited_for";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(8).unwrap();
    let Some(mut world) = World::new(&rig, &project, test) else { return };
    world.config.max_concurrent_executes = std::num::NonZeroUsize::new(16);
    let jobs: Vec<_> = (0..16)
        .map(|number| {
            // No guest goes before the project has been full.
            let wait = "until [ $(ls /meet | wc -l) -ge 8 ]; do sleep 0.1; done; sleep 1";
            let mut job =
                guest(&format!("j{number}"), &format!("touch /meet/{number}; {wait}; echo {number}"));
            let meet = CacheSpec { path: "/meet".to_owned(), sharing: CacheSharing::Shared };
            job.caches.insert("meet".to_owned(), meet);
            job
        })
        .collect();
    let run = world.run(jobs);
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    let mut waited = 0;
    for number in 0..16 {
        let id = format!("j{number}");
        assert_eq!(world.guest_log(&run, &id), format!("{number}\n"));
        assert_eq!(job(&run, &id).warnings, Vec::<String>::new());
        waited += usize::from(world.host_log(&run, &id).contains("waiting for a place"));
    }
    assert!(waited > 0, "the limit was never met");
    world.assert_nothing_left();
}

#[test]
fn a_long_guest_log_is_followed_with_flat_memory() {
    let test = "a_long_guest_log_is_followed_with_flat_memory";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(2).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let before = peak_memory();
    let run = world.run(vec![guest("loud", "head -c 100000000 /dev/zero | tr '\\0' 'x' | fold -w 99")]);
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    let log = world.job_dir(&run, "loud").join("artifacts/guest.log");
    assert_eq!(std::fs::metadata(log).unwrap().len(), 101_010_101);
    let grown = peak_memory() - before;
    assert!(grown < 64 << 20, "{grown} bytes");
    world.assert_nothing_left();
}
