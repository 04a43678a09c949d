//! What a job sees does not tell where it runs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use jericho_testkit::incus::Rig;
use jericho_testkit::ssh;
use jerichoci::model::job::{GuestCommand, JobRuntimeKind, JobSpec};
use jerichoci::model::outcome::Verdict;

use crate::rig::{World, guest, on_host};

#[test]
fn a_job_sees_the_same_files_with_the_same_modes_in_all_placements() {
    let test = "a_job_sees_the_same_files_with_the_same_modes_in_all_placements";
    let Some(rig) = Rig::up(test) else { return };
    let Some(sshd) = ssh::Rig::start(test) else { return };
    let project = rig.project(4).unwrap();
    let Some(world) = World::new(&rig, &project, test) else { return };
    let here = world.config.incus.clone();
    let mut world = world.with_host(&sshd);
    world.config.incus = here;
    let host = world.config.hosts.named.get_mut("box").unwrap();
    host.allow.push(JobRuntimeKind::HostProcess);
    host.min_free = 0;
    // Modes that a snapshot does not keep, links that lead nowhere, a directory of the name that hosts know.
    let root = &world.root;
    for (path, mode) in [("own", 0o600), ("run.sh", 0o700), ("src/all", 0o777), ("read-only", 0o444)] {
        fs::write(root.join(path), path).unwrap();
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    symlink("nowhere", root.join("src/dangling")).unwrap();
    symlink("src", root.join("link")).unwrap();
    fs::create_dir_all(root.join("deep/er/snapshot")).unwrap();
    fs::write(root.join("deep/er/snapshot/jerichoci-snapshot.json"), "{}").unwrap();

    let look = "find . -printf '%P %y %m %l\\n' | LC_ALL=C sort";
    let command = GuestCommand::ShellCommand { command: look.to_owned() };
    let process = JobSpec::host_process("look", command);
    let mut writable = guest("look", look);
    writable.writable_workspace = true;
    let mut seen: Vec<(&str, String)> = Vec::new();
    for (place, job) in [
        ("a process of this machine", process.clone()),
        ("a process of a host", on_host(process)),
        ("a guest of this machine", guest("look", look)),
        ("a guest of a host", on_host(guest("look", look))),
        ("a guest of this machine that may write", writable.clone()),
        ("a guest of a host that may write", on_host(writable)),
    ] {
        let run = world.run(vec![job]);
        assert_eq!(run.verdict, Verdict::Passed, "{place}: {}", world.host_log(&run, "look"));
        let log = match world.guest_log(&run, "look") {
            log if log.is_empty() => world.host_log(&run, "look"),
            log => log,
        };
        let files = log.lines().filter(|line| !line.starts_with("[jerichoci]"));
        seen.push((place, files.collect::<Vec<_>>().join("\n")));
    }
    let (_, first) = &seen[0];
    assert!(first.contains("run.sh f 755") && first.contains("link l 777 src"), "{first}");
    for (place, files) in &seen {
        assert_eq!(files, first, "{place}");
    }
    world.assert_nothing_left();
}
