//! The same operations on a host over SSH, with the real sshd.

use std::sync::Arc;
use std::time::Duration;

use jericho_host::{CancelToken, SshConfig, SshHost};
use jericho_testkit::{incus::Rig, ssh};
use pika_cloud::ops::{Incus, Limits, OpsError, Patience, Progress, Silence, SshSockets};

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
