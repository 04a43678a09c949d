//! The same operations on a host over SSH, with the real sshd.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jericho_host::{CancelToken, Command, SshConfig, SshHost};
use jericho_testkit::{incus::Rig, program, ssh};
use pika_cloud::ops::{Incus, Limits, OpsError, Patience, Progress, Silence, SocketHost as _, SshSockets};

use crate::common::{Record, assert_completed, assert_nothing_left, course, exit_code, script, spec};

fn host(sshd: &ssh::Rig, destination: &str) -> Arc<SshHost> {
    let mut config = SshConfig::new(destination);
    config.config_file = Some(sshd.config());
    config.env.set("PATH", "/usr/local/bin:/usr/bin:/bin");
    config.control_dir = sshd.control_dir();
    Arc::new(SshHost::new(config).unwrap())
}

fn incus(rig: &Rig, host: &Arc<SshHost>) -> Incus {
    let patience = Patience { reconnect: Duration::from_secs(60), ..Patience::default() };
    let sockets = Arc::new(SshSockets::new(Arc::clone(host)));
    Incus::new(sockets, rig.socket(), &CancelToken::new().unwrap()).with_patience(patience)
}

#[test]
fn a_guest_lives_on_a_host_over_ssh() {
    let name = "a_guest_lives_on_a_host_over_ssh";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let project = rig.project(4).unwrap();
    let host = host(&sshd, "rig");
    let plan = spec(&rig, &project, "remote").plan().unwrap();
    let mut record = Record::default();
    let outcome = incus(&rig, &host).run(&plan, &course("seq 1 20000"), &mut record).unwrap();
    assert_completed(&outcome);
    assert_eq!(record.text().lines().count(), 20_000);
    assert_nothing_left(&project);
}

#[test]
fn a_job_is_followed_on_after_its_master_connection_was_killed() {
    let name = "a_job_is_followed_on_after_its_master_connection_was_killed";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let project = rig.project(4).unwrap();
    let host = host(&sshd, "rig");
    let incus = incus(&rig, &host);
    let plan = spec(&rig, &project, "cut-off").plan().unwrap();
    let ensured = incus.ensure(&plan, &mut Silence).unwrap();
    let work = "echo up; until [ -e /tmp/go ]; do sleep 0.05; done; echo done; exit 4";
    let started = incus.start_detached(&plan, &script(work)).unwrap();
    let before = host.master_pid().unwrap();
    let (ended, record) = std::thread::scope(|scope| {
        let (told, printed) = std::sync::mpsc::channel();
        let followed = scope.spawn(|| {
            let mut record = Record::once_printed("up\n", move || told.send(()).unwrap());
            let (mut progress, limits) = (Progress::default(), Limits::default());
            let ended = incus.follow(&started, &plan.paths, &limits, &mut progress, &mut record).unwrap();
            (ended, record)
        });
        printed.recv().unwrap();
        sshd.kill_sessions();
        project.exec("cut-off", "touch /tmp/go").unwrap();
        followed.join().unwrap()
    });
    assert_eq!(exit_code(&ended), 4);
    assert_eq!(record.text(), "up\ndone\n");
    assert_ne!(host.master_pid(), Some(before), "the fault must have hit");
    incus.destroy(&ensured.instance).unwrap();
    assert_nothing_left(&project);
}

#[test]
fn what_ssh_will_never_do_is_told_at_once() {
    let name = "what_ssh_will_never_do_is_told_at_once";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start(name)) else { return };
    let error = incus(&rig, &host(&sshd, "rig-wrong-key")).server().unwrap_err();
    assert!(matches!(&error, OpsError::Unreachable { host, .. } if host == "rig-wrong-key"), "{error:?}");
    assert!(error.to_string().contains("rig-wrong-key"), "{error}");
}

/// Whether Incus answers somebody on its own host within a time.
fn answers(rig: &Rig, within: Duration) -> bool {
    let mut stream = UnixStream::connect(rig.socket()).unwrap();
    stream.set_read_timeout(Some(within)).unwrap();
    stream.write_all(b"GET /1.0 HTTP/1.1\r\nHost: incus\r\n\r\n").unwrap();
    stream.read(&mut [0; 12]).is_ok_and(|count| count > 0)
}

#[test]
fn a_connection_that_says_nothing_keeps_nobody_from_incus() {
    let name = "a_connection_that_says_nothing_keeps_nobody_from_incus";
    let (Some(rig), Some(sshd)) = (Rig::own(name), ssh::Rig::start(name)) else { return };
    let Some(runners) = program::guest_programs(name) else { return };
    let project = rig.project(4).unwrap();
    let (host, cancel) = (host(&sshd, "rig"), CancelToken::new().unwrap());
    let (program, work_dir) =
        (runners.join(std::env::consts::ARCH).join("jerichoci-incus-run"), project.make_dir("work").unwrap());
    let relay =
        move |socket: &Path| Command::new(&program).args(["relay", "--to"]).arg(socket).arg(&work_dir);
    let relayed = Arc::new(SshSockets::new(Arc::clone(&host)).with_relay(relay));
    let silent = relayed.connect(rig.socket(), &cancel).unwrap();
    assert!(answers(&rig, Duration::from_secs(60)), "nobody is kept waiting");
    let incus = Incus::new(relayed, rig.socket(), &cancel);
    incus.server().unwrap();
    drop((silent, incus));
    // Why there is a relay. Where this is no longer so, Incus looks at connections beside one another, and needs none.
    let sockets = SshSockets::new(host);
    let direct = sockets.connect(rig.socket(), &cancel).unwrap();
    let is_kept = || (0..50).any(|_| !answers(&rig, Duration::from_secs(1)));
    assert!(is_kept(), "Incus takes the next connection before this one has said anything");
    drop(direct);
    assert!(answers(&rig, Duration::from_secs(60)));
}
