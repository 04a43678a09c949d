//! Many guests at once, and much output.

use std::time::Duration;

use jericho_host::CancelToken;
use jericho_testkit::incus::Rig;
use jerichoci::model::outcome::Verdict;

use crate::rig::{World, await_file, guest, job, pause, peak_memory};

#[test]
fn sixteen_jobs_pass_in_a_project_for_eight_and_the_limit_is_waited_for() {
    let test = "sixteen_jobs_pass_in_a_project_for_eight_and_the_limit_is_waited_for";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(8).unwrap();
    let Some(mut world) = World::new(&rig, &project, test) else { return };
    world.config.max_concurrent_executes = std::num::NonZeroUsize::new(16);
    // Incus lets more in than the limit when they come at once: so it is full before they come.
    let instances = format!("/1.0/instances?project={}", project.name());
    for number in 0..8 {
        let source = serde_json::json!({ "type": "image", "alias": rig.image_alias() });
        let body = serde_json::json!({ "name": format!("other-{number}"), "source": source });
        rig.ask("POST", &instances, Some(&body)).unwrap();
    }
    let jobs: Vec<_> =
        (0..16).map(|number| guest(&format!("j{number}"), &format!("echo {number}"))).collect();
    let run = std::thread::scope(|scope| {
        let running = scope.spawn(|| world.run(jobs));
        await_file(&world.config.state_root.join("runs"), "host.log", "waiting for a place");
        for number in 0..8 {
            rig.ask("DELETE", &format!("/1.0/instances/other-{number}?project={}", project.name()), None)
                .unwrap();
        }
        running.join().unwrap()
    });
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    for number in 0..16 {
        let id = format!("j{number}");
        assert_eq!(world.guest_log(&run, &id), format!("{number}\n"));
        assert_eq!(job(&run, &id).warnings, Vec::<String>::new());
    }
    world.assert_nothing_left();
}

#[test]
fn waiting_for_a_place_is_no_part_of_the_time_limit_of_a_command() {
    let test = "waiting_for_a_place_is_no_part_of_the_time_limit_of_a_command";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(1).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let source = serde_json::json!({ "type": "image", "alias": rig.image_alias() });
    let body = serde_json::json!({ "name": "other", "source": source });
    rig.ask("POST", &format!("/1.0/instances?project={}", project.name()), Some(&body)).unwrap();
    let mut limited = guest("job", "echo ran");
    limited.timeout_secs = 6;
    let run = std::thread::scope(|scope| {
        let running = scope.spawn(|| world.run(vec![limited]));
        await_file(&world.config.state_root.join("runs"), "host.log", "waiting for a place");
        pause(&CancelToken::new().unwrap(), Duration::from_secs(7));
        assert!(!running.is_finished(), "it waits longer than its command may take");
        rig.ask("DELETE", &format!("/1.0/instances/other?project={}", project.name()), None).unwrap();
        running.join().unwrap()
    });
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    assert_eq!(world.guest_log(&run, "job"), "ran\n");
}

#[test]
fn a_long_guest_log_is_followed_with_flat_memory() {
    let test = "a_long_guest_log_is_followed_with_flat_memory";
    let Some(rig) = Rig::up(test) else { return };
    let project = rig.project(2).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let before = peak_memory();
    let run = world.run(vec![guest("loud", "head -c 200000000 /dev/zero | tr '\\0' 'x' | fold -w 99")]);
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    let log = world.job_dir(&run, "loud").join("artifacts/guest.log");
    assert_eq!(std::fs::metadata(log).unwrap().len(), 202_020_202);
    let grown = peak_memory() - before;
    assert!(grown < 64 << 20, "{grown} bytes");
    world.assert_nothing_left();
}
