//! What begins before a job asks for it: the connection to its host.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use jericho_testkit::incus::Rig;
use jericho_testkit::ssh;

use crate::place::Place;

fn script(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

const GUEST: &str = "[targets.t.jobs.guest]\nruntime = \"incus\"\non = \"box\"\ncommand = \"true\"\n\
                     [targets.t.jobs.later]\nneeds = [\"guest\"]\ncommand = \"true\"\n";

/// A place whose ssh writes down what it is started with.
fn watched<'r>(place: Place<'r>, sshd: &ssh::Rig) -> (Place<'r>, std::path::PathBuf) {
    let calls = place.tree.outside().join("calls");
    let text = format!(
        "#!/bin/sh\necho \"$*\" >>{0}\nexec ssh -F {1} \"$@\"\n",
        calls.display(),
        sshd.config().display()
    );
    script(&place.tree.outside().join("ssh"), &text);
    (place, calls)
}

#[test]
fn a_host_is_connected_while_the_snapshot_is_taken() {
    let name = "a_host_is_connected_while_the_snapshot_is_taken";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let Some(place) = Place::real(name, &rig, &sshd, GUEST) else { return };
    let (place, calls) = watched(place, &sshd);
    // Git that lists nothing before ssh was started: who connects afterwards waits in vain.
    let bin = place.tree.outside().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let text = format!(
        "#!/bin/sh\nn=0\nwhile [ ! -e {} ]; do\n  n=$((n + 1))\n  [ $n -lt 1000 ] || exit 9\n  sleep 0.02\ndone\n\
         PATH=${{PATH#*:}} exec git \"$@\"\n",
        calls.display()
    );
    script(&bin.join("git"), &text);
    let mut pikaci = place.command(&["run", "t"]);
    let path = pikaci.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, path)| path).unwrap();
    let path = format!("{}:{}", bin.display(), path.display());
    let ended = crate::common::Ended::of(pikaci.env("PATH", path).output().unwrap()).code(0);
    assert!(ended.stdout.contains("guest passed"), "{ended:?}");
    // What was done ahead is told where somebody looks for it.
    let log = place.pikaci(&["logs", "latest", "--job", "guest", "--kind", "host"]).code(0).stdout;
    assert_eq!(log.matches("connecting to box").count(), 1, "{log}");
}

#[test]
fn a_host_is_looked_at_and_asked_for_its_snapshots_in_one_session() {
    let name = "a_host_is_looked_at_and_asked_for_its_snapshots_in_one_session";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let Some(place) = Place::real(name, &rig, &sshd, GUEST) else { return };
    // The runner is there from now on.
    place.pikaci(&["run", "t"]).code(0);
    let (place, calls) = watched(place, &sshd);
    place.pikaci(&["run", "t"]).code(0);
    let calls = std::fs::read_to_string(&calls).unwrap();
    let sessions: Vec<&str> = calls.lines().filter(|call| call.contains("ControlMaster=no")).collect();
    let masters = calls.lines().filter(|call| call.contains(" -M ") || call.starts_with("-M ")).count();
    // One for the host and its snapshots; the others, unless the run ends first, look for what dead engines and shells have left.
    assert_eq!(masters, 1, "{calls}");
    assert!((1..=6).contains(&sessions.len()), "{calls}");
}

#[test]
fn a_host_that_cannot_be_reached_is_tried_once_for_all_jobs_that_begin() {
    let name = "a_host_that_cannot_be_reached_is_tried_once_for_all_jobs_that_begin";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let targets =
        format!("{GUEST}[targets.t.jobs.other]\nruntime = \"incus\"\non = \"box\"\ncommand = \"true\"\n");
    let Some(place) = Place::real(name, &rig, &sshd, &targets) else { return };
    let (place, calls) = watched(place, &sshd);
    place.say("rig-refused", "");
    let ended = place.pikaci(&["run", "t", "--keep-going"]).code(3);
    assert!(ended.stderr.matches("errored: host box: cannot connect").count() == 2, "{ended:?}");
    let calls = std::fs::read_to_string(&calls).unwrap();
    let masters = calls.lines().filter(|call| call.contains(" -M ") || call.starts_with("-M ")).count();
    assert_eq!(masters, 1, "{calls}");
}
