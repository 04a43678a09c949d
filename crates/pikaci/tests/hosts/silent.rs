//! Commands against a host, or an Incus of this machine, that takes connections and then says nothing.

use std::process::{Child, Stdio};
use std::time::Duration;

use jericho_host::{CancelToken, Clock as _, SystemClock};
use jericho_testkit::incus::Rig;
use jericho_testkit::ssh;
use rustix::process::{Pid, Signal};

use crate::common::Ended;
use crate::place::Place;

const TARGETS: &str = "
[targets.kept.jobs.guest]
runtime = \"incus\"
command = \"exit 3\"
[targets.process.jobs.build]
command = \"true\"
";

/// Longest that a person waits who has asked for the end.
const SOON: Duration = Duration::from_secs(5);

/// Lets time pass: what is at what when differs from machine to machine, and times that are close together meet all.
fn pause(millis: u64) {
    let token = CancelToken::new().unwrap();
    let mut fds = [rustix::event::PollFd::from_borrowed_fd(token.fd(), rustix::event::PollFlags::IN)];
    let timeout = rustix::event::Timespec::try_from(Duration::from_millis(millis)).unwrap();
    rustix::event::poll(&mut fds, Some(&timeout)).unwrap();
}

/// Starts them all at once.
fn start<'c>(place: &Place<'_>, commands: &[&'c [&'c str]]) -> Vec<(&'c [&'c str], Child)> {
    let start = |args: &&'c [&'c str]| {
        let mut pikaci = place.command(args);
        pikaci.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        (*args, pikaci.spawn().unwrap())
    };
    commands.iter().map(start).collect()
}

/// Sends all that still run SIGINT, and holds that they end soon.
fn interrupt(commands: Vec<(&[&str], Child)>, at: u64) {
    let running: Vec<_> = commands
        .into_iter()
        .filter_map(|(args, mut child)| child.try_wait().unwrap().is_none().then_some((args, child)))
        .collect();
    let begun = SystemClock.monotonic();
    for (_, child) in &running {
        let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, Signal::INT).unwrap();
    }
    // Each is waited for by a thread of its own, so that none is measured by another.
    std::thread::scope(|scope| {
        for (args, child) in running {
            scope.spawn(move || {
                let ended = Ended::of(child.wait_with_output().unwrap());
                let spent = SystemClock.monotonic().saturating_sub(begun);
                assert!(spent < SOON, "{args:?}, {at} ms after its start, took {spent:?}: {ended:#?}");
                // Whoever was done already has done what was asked, and who had not begun is ended by the signal itself.
                let is_fine =
                    matches!(ended.code, Some(4 | 0)) || (ended.code.is_none() && ended.stderr.is_empty());
                assert!(is_fine, "{args:?}, at {at} ms: {ended:#?}");
            });
        }
    });
}

/// Waits for all of them, not for ever, and returns how they ended.
fn end<'c>(commands: Vec<(&'c [&'c str], Child)>, within: Duration) -> Vec<(&'c [&'c str], Ended)> {
    let begun = SystemClock.monotonic();
    std::thread::scope(|scope| {
        let waiting: Vec<_> = commands
            .into_iter()
            .map(|(args, child)| {
                scope.spawn(move || {
                    let ended = Ended::of(child.wait_with_output().unwrap());
                    let spent = SystemClock.monotonic().saturating_sub(begun);
                    assert!(spent < within, "{args:?} took {spent:?}: {ended:#?}");
                    (args, ended)
                })
            })
            .collect();
        waiting.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

/// The id of the newest run.
fn latest(place: &Place<'_>) -> String {
    place.pikaci(&["list"]).code(0).stdout.split('\t').next().unwrap().to_owned()
}

/// A host that takes everything, with a guest that is kept there and a process that has run there: their runs.
fn with_runs_on_a_host<'r>(
    name: &str,
    rig: &'r Rig,
    sshd: &'r ssh::Rig,
) -> Option<(Place<'r>, String, String)> {
    let place = Place::real(name, rig, sshd, TARGETS)?;
    let file = place.tree.outside().join("config.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let allow = "[hosts.box]\nallow = [\"incus\", \"host_process\"]\n";
    std::fs::write(&file, text.replacen("[hosts.box]\n", allow, 1)).unwrap();
    place.pikaci(&["run", "process", "--on", "box"]).code(0);
    let process = latest(&place);
    place.pikaci(&["run", "kept", "--on", "box", "--keep-on-failure"]).code(1);
    let kept = latest(&place);
    Some((place, kept, process))
}

#[test]
fn ctrl_c_ends_every_command_soon_that_waits_for_a_silent_host() {
    let name = "ctrl_c_ends_every_command_soon_that_waits_for_a_silent_host";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let Some((place, kept, process)) = with_runs_on_a_host(name, &rig, &sshd) else { return };
    let guests = place.project.instances().unwrap();
    let commands: [&[&str]; 7] = [
        &["reap"],
        &["reap", "--host", "box"],
        &["gc"],
        &["list", "--kept"],
        &["doctor", "box"],
        &["shell", &kept, "guest", "--", "sleep", "1000"],
        &["shell", &process, "build", "--", "sleep", "1000"],
    ];
    for at in [0, 150, 400, 900] {
        let accepted = || sshd.log().matches("Accepted publickey").count();
        let before = accepted();
        let mut started = start(&place, &commands);
        // All are connected, or done.
        while accepted() < before + commands.len()
            && started.iter_mut().any(|(_, child)| child.try_wait().unwrap().is_none())
        {
            pause(5);
        }
        pause(at);
        sshd.stop_sessions();
        interrupt(started, at);
        sshd.continue_sessions();
    }
    place.pikaci(&["reap"]).code(0);
    assert_eq!(place.project.instances().unwrap(), guests);
}

#[test]
fn a_silent_host_is_given_up_with_a_clear_error_by_every_command() {
    let name = "a_silent_host_is_given_up_with_a_clear_error_by_every_command";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let Some((place, kept, process)) = with_runs_on_a_host(name, &rig, &sshd) else { return };
    let commands: [&[&str]; 4] = [
        &["reap", "--host", "box"],
        &["doctor", "box"],
        &["shell", &kept, "guest", "--", "sleep", "1000"],
        &["shell", &process, "build", "--", "sleep", "1000"],
    ];
    let before = sshd.log().matches("Accepted publickey").count();
    let started = start(&place, &commands);
    while sshd.log().matches("Accepted publickey").count() < before + commands.len() {
        pause(5);
    }
    sshd.stop_sessions();
    // ssh finds out after a minute; what connects anew meets a host that answers.
    for (args, ended) in end(started, Duration::from_secs(150)) {
        if args[0] != "shell" && ended.code == Some(0) {
            // Done before the last of them was connected.
            continue;
        }
        if args.get(1) == Some(&process.as_str()) && ended.code == Some(255) {
            // It had begun before the last of them was connected, and what ssh says is its end.
            continue;
        }
        assert_eq!(ended.code, Some(3), "{args:?}: {ended:#?}");
        let told = format!("{}{}", ended.stdout, ended.stderr);
        assert!(told.contains("box") || told.contains("rig"), "{args:?}: {ended:#?}");
    }
    sshd.continue_sessions();
}

#[test]
fn ctrl_c_ends_every_command_soon_that_waits_for_an_incus_that_is_stopped() {
    let name = "ctrl_c_ends_every_command_soon_that_waits_for_an_incus_that_is_stopped";
    // It is stopped, for all who use it.
    let (Some(rig), Some(sshd)) = (Rig::own(name), ssh::Rig::start(name)) else { return };
    let Some(place) = Place::real(name, &rig, &sshd, TARGETS) else { return };
    place.pikaci(&["run", "kept", "--on", "local", "--keep-on-failure"]).code(1);
    let kept = latest(&place);
    let guests = place.project.instances().unwrap();
    assert_eq!(guests.len(), 1);
    let commands: [&[&str]; 6] = [
        &["reap"],
        &["gc"],
        &["list", "--kept"],
        &["doctor"],
        &["shell", &kept, "guest", "--", "sleep", "1000"],
        &["shell", &kept, "guest", "--fresh", "--", "sleep", "1000"],
    ];
    for at in [50, 200, 500, 1200] {
        let started = start(&place, &commands);
        pause(at);
        let paused = rig.pause_daemon().unwrap();
        interrupt(started, at);
        drop(paused);
    }
    // What was asked for when it was stopped may only be made now.
    let begun = SystemClock.monotonic();
    loop {
        place.pikaci(&["reap"]).code(0);
        if place.project.instances().unwrap() == guests {
            break;
        }
        let spent = SystemClock.monotonic().saturating_sub(begun);
        assert!(spent < Duration::from_secs(60), "{:?}", place.project.instances());
    }
}

#[test]
fn an_incus_that_is_stopped_is_given_up_with_a_clear_error_by_every_command() {
    let name = "an_incus_that_is_stopped_is_given_up_with_a_clear_error_by_every_command";
    let (Some(rig), Some(sshd)) = (Rig::own(name), ssh::Rig::start(name)) else { return };
    let Some(place) = Place::real(name, &rig, &sshd, TARGETS) else { return };
    place.pikaci(&["run", "kept", "--on", "local", "--keep-on-failure"]).code(1);
    let kept = latest(&place);
    let commands: [&[&str]; 6] = [
        &["reap"],
        &["gc"],
        &["list", "--kept"],
        &["doctor"],
        &["shell", &kept, "guest", "--", "true"],
        &["shell", &kept, "guest", "--fresh", "--", "true"],
    ];
    let paused = rig.pause_daemon().unwrap();
    let ended = end(start(&place, &commands), Duration::from_secs(150));
    drop(paused);
    for (args, ended) in ended {
        let told = format!("{}{}", ended.stdout, ended.stderr);
        // A collection goes on with everything else.
        assert_eq!(ended.code, Some(if args == ["gc"] { 0 } else { 3 }), "{args:?}: {ended:#?}");
        let socket = rig.socket().to_str().unwrap();
        assert!(told.contains(socket) && told.contains("systemctl restart incus"), "{args:?}: {ended:#?}");
    }
}
