//! What happens to a guest, its connection and its daemon, and how that is told.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jericho_host::{CancelReason, CancelToken};
use jericho_testkit::incus::Rig;
use pika_cloud::ops::{
    Ended, Incus, InstanceRef, Limits, Note, OpsError, Patience, Progress, Silence, SocketHost,
};

use crate::common::{
    Record, assert_completed, assert_nothing_left, course, exit_code, incus, incus_with, script, spec,
};

/// Prints `up`, then works until somebody makes `/tmp/go`.
const LONG: &str = "echo up; until [ -e /tmp/go ]; do sleep 0.05; done; echo done; exit 5";

#[test]
fn a_job_survives_its_client_and_a_daemon_that_is_killed_and_started_again() {
    let name = "a_job_survives_its_client_and_a_daemon_that_is_killed_and_started_again";
    let Some(rig) = Rig::own(name) else { return };
    let project = rig.project(4).unwrap();
    let plan = spec(&rig, &project, "survives").plan().unwrap();
    let started = {
        let incus = incus(&rig);
        incus.ensure(&plan, &mut Silence).unwrap();
        incus.start_detached(&plan, &script(LONG)).unwrap()
        // The client ends here.
    };
    let incus = incus(&rig);
    let first = rig.daemon().unwrap();
    let mut progress = Progress::default();
    let ended = std::thread::scope(|scope| {
        let (told, printed) = std::sync::mpsc::channel();
        let followed = scope.spawn(|| {
            let mut record = Record::once_printed("up\n", move || told.send(()).unwrap());
            let limits = Limits::default();
            let ended = incus.follow(&started, &plan.paths, &limits, &mut progress, &mut record).unwrap();
            (ended, record)
        });
        printed.recv().unwrap();
        rig.kill_daemon().unwrap();
        rig.start_daemon().unwrap();
        assert_ne!(rig.daemon().unwrap(), first, "the fault must have hit");
        project.exec("survives", "touch /tmp/go").unwrap();
        followed.join().unwrap()
    });
    let (ended, record) = ended;
    assert_eq!(exit_code(&ended), 5, "{record:?}");
    assert_eq!(record.text(), "up\ndone\n");
    assert!(record.notes.contains(&Note::OperationLost), "{:?}", record.notes);
    incus.destroy(&started.instance).unwrap();
    assert_nothing_left(&project);
}

#[test]
fn a_command_killed_while_the_daemon_was_away_is_not_waited_for_for_ever() {
    let name = "a_command_killed_while_the_daemon_was_away_is_not_waited_for_for_ever";
    let Some(rig) = Rig::own(name) else { return };
    let project = rig.project(4).unwrap();
    let plan = spec(&rig, &project, "orphan").plan().unwrap();
    let incus = incus(&rig);
    let ensured = incus.ensure(&plan, &mut Silence).unwrap();
    let started = incus.start_detached(&plan, &script(LONG)).unwrap();
    project.exec("orphan", "until [ -e /tmp/entry.pid ]; do sleep 0.05; done").unwrap();
    rig.kill_daemon().unwrap();
    rig.start_daemon().unwrap();

    let ended = std::thread::scope(|scope| {
        let followed = scope.spawn(|| {
            let (mut progress, limits) = (Progress::default(), Limits::default());
            incus.follow(&started, &plan.paths, &limits, &mut progress, &mut Silence).unwrap()
        });
        project.exec("orphan", "kill -9 $(cat /tmp/entry.pid)").unwrap();
        followed.join().unwrap()
    });
    assert!(matches!(ended, Ended::NoResult { exit_code: None, .. }), "{ended:?}");
    incus.destroy(&ensured.instance).unwrap();
    assert_nothing_left(&project);
}

/// Follows a guest that works for ever, does `fault` to it once it is up, and returns how it ended.
fn end_by(rig: &Rig, name: &str, fault: impl FnOnce(&Incus, &InstanceRef) + Send) -> (Ended, Record) {
    let project = rig.project(4).unwrap();
    let plan = spec(rig, &project, name).plan().unwrap();
    let incus = incus(rig);
    let ensured = incus.ensure(&plan, &mut Silence).unwrap();
    let started = incus.start_detached(&plan, &script(LONG)).unwrap();
    let ended = std::thread::scope(|scope| {
        let (told, printed) = std::sync::mpsc::channel();
        let followed = scope.spawn(|| {
            let mut record = Record::once_printed("up\n", move || told.send(()).unwrap());
            let (mut progress, limits) = (Progress::default(), Limits::default());
            let ended = incus.follow(&started, &plan.paths, &limits, &mut progress, &mut record).unwrap();
            (ended, record)
        });
        printed.recv().unwrap();
        fault(&incus, &ensured.instance);
        followed.join().unwrap()
    });
    incus.destroy(&ensured.instance).unwrap();
    assert_nothing_left(&project);
    ended
}

#[test]
fn a_stopped_instance_is_told_as_stopped() {
    let Some(rig) = Rig::up("a_stopped_instance_is_told_as_stopped") else { return };
    let (ended, _) = end_by(&rig, "stopped", |incus, instance| incus.stop(instance).unwrap());
    assert_eq!(ended, Ended::Stopped);
}

#[test]
fn a_deleted_instance_is_told_as_deleted() {
    let Some(rig) = Rig::up("a_deleted_instance_is_told_as_deleted") else { return };
    let (ended, _) = end_by(&rig, "deleted", |incus, instance| incus.destroy(instance).unwrap());
    // Between the two requests it is a stopped one.
    assert!(matches!(ended, Ended::Deleted | Ended::Stopped), "{ended:?}");
}

#[test]
fn a_command_that_is_killed_is_no_result_with_its_code() {
    let Some(rig) = Rig::up("a_command_that_is_killed_is_no_result_with_its_code") else { return };
    let (ended, _) = end_by(&rig, "killed", |_, instance| {
        let body = serde_json::json!({ "command": ["sh", "-c", "kill -9 $(cat /tmp/entry.pid)"],
            "record-output": true, "interactive": false, "wait-for-websocket": false });
        let path = format!("/1.0/instances/{}/exec?project={}", instance.name, instance.project);
        rig.ask("POST", &path, Some(&body)).unwrap();
    });
    assert_eq!(ended, Ended::NoResult { exit_code: Some(137), message: String::new() });
}

#[test]
fn a_missing_entry_program_is_no_result_and_says_so() {
    let Some(rig) = Rig::up("a_missing_entry_program_is_no_result_and_says_so") else { return };
    let project = rig.project(4).unwrap();
    let plan = spec(&rig, &project, "missing").with_entry_command("/nowhere/run").plan().unwrap();
    let mut course = course("true");
    course.launch.appear_within = Some(Duration::from_secs(1));
    let mut record = Record::default();
    let outcome = incus(&rig).run(&plan, &course, &mut record).unwrap();
    assert!(matches!(outcome.ended, Ended::NoResult { exit_code: Some(72), .. }), "{outcome:?}");
    assert!(String::from_utf8_lossy(&record.stderr).contains("no program /nowhere/run"), "{record:?}");
    assert_nothing_left(&project);
}

#[test]
fn cancelling_removes_the_guest() {
    let Some(rig) = Rig::up("cancelling_removes_the_guest") else { return };
    let project = rig.project(4).unwrap();
    let plan = spec(&rig, &project, "cancelled").plan().unwrap();
    let cancel = CancelToken::new().unwrap();
    let now = cancel.clone();
    let mut record = Record::once_printed("up\n", move || {
        now.cancel(CancelReason::Signal);
    });
    let error = incus_with(&rig, &cancel).run(&plan, &course(LONG), &mut record).unwrap_err();
    assert!(matches!(error, OpsError::Cancelled(CancelReason::Signal)), "{error:?}");
    assert_nothing_left(&project);
}

#[test]
fn cancelling_a_creation_removes_what_was_begun() {
    let Some(rig) = Rig::up("cancelling_a_creation_removes_what_was_begun") else { return };
    let project = rig.project(4).unwrap();
    // The creation may be over before it is cancelled: until one was not.
    let hit = (0..10).any(|_| {
        let plan = spec(&rig, &project, "begun").plan().unwrap();
        let cancel = CancelToken::new().unwrap();
        let ensured = std::thread::scope(|scope| {
            scope.spawn(|| {
                while project.instances().unwrap().is_empty() {}
                cancel.cancel(CancelReason::Signal);
            });
            incus_with(&rig, &cancel).ensure(&plan, &mut Silence)
        });
        match ensured {
            Err(OpsError::Cancelled(CancelReason::Signal)) => true,
            Ok(ensured) => {
                incus(&rig).destroy(&ensured.instance).unwrap();
                false
            }
            other => panic!("{other:?}"),
        }
    });
    assert!(hit, "the fault must have hit");
    assert_nothing_left(&project);
}

/// Holds back the request that creates an instance, once, and hands it to somebody else.
struct Holding {
    creation: Mutex<Option<Sender<Vec<u8>>>>,
    /// Hears of every answer that is passed on after that.
    answered: Sender<()>,
    /// Whether nothing is connected any more after that.
    is_last: bool,
}

impl std::fmt::Debug for Holding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Holding")
    }
}

impl Holding {
    fn host(is_last: bool) -> (Arc<Host>, Receiver<Vec<u8>>, Receiver<()>) {
        let ((creation, held), (answered, answers)) = (channel(), channel());
        let creation = Mutex::new(Some(creation));
        (Arc::new(Host(Arc::new(Self { creation, answered, is_last }))), held, answers)
    }

    fn has_held(&self) -> bool {
        self.creation.lock().unwrap().is_none()
    }

    /// Requests of one connection, each passed on when it is whole.
    fn pass_on(&self, mut from: UnixStream, mut to: UnixStream) -> io::Result<()> {
        let (mut request, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            let length = from.read(&mut piece)?;
            if length == 0 {
                return to.shutdown(std::net::Shutdown::Both);
            }
            request.extend_from_slice(&piece[..length]);
            if !is_whole(&request) {
                continue;
            }
            if request.starts_with(b"POST /1.0/instances?")
                && let Some(creation) = self.creation.lock().unwrap().take()
            {
                creation.send(request).unwrap();
                // The client gets no answer: it hears of its token, or of the end of the connection.
                return if self.is_last {
                    from.shutdown(std::net::Shutdown::Both)
                } else {
                    from.read(&mut piece).map(drop)
                };
            }
            to.write_all(&std::mem::take(&mut request))?;
        }
    }

    fn answer(&self, mut from: UnixStream, mut to: UnixStream) -> io::Result<()> {
        let mut piece = [0; 4096];
        loop {
            let length = from.read(&mut piece)?;
            if length == 0 {
                return to.shutdown(std::net::Shutdown::Both);
            }
            to.write_all(&piece[..length])?;
            if self.has_held() {
                let _ = self.answered.send(());
            }
        }
    }
}

/// Whether an HTTP request has its body.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    body.len() >= length.unwrap_or(0)
}

#[derive(Debug)]
struct Host(Arc<Holding>);

impl SocketHost for Host {
    fn socket_host(&self) -> &str {
        "holding"
    }

    fn connect(&self, path: &Path, _cancel: &CancelToken) -> io::Result<UnixStream> {
        if self.0.is_last && self.0.has_held() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (near, far) = UnixStream::pair()?;
        let daemon = UnixStream::connect(path)?;
        let (theirs, ours) = (far.try_clone()?, daemon.try_clone()?);
        let (there, back) = (Arc::clone(&self.0), Arc::clone(&self.0));
        std::thread::spawn(move || there.pass_on(theirs, ours));
        std::thread::spawn(move || back.answer(daemon, far));
        Ok(near)
    }
}

/// Hands a request that was held back to the daemon, and waits until that is done with it, well or badly.
fn deliver(rig: &Rig, request: &[u8]) {
    let mut daemon = UnixStream::connect(rig.socket()).unwrap();
    daemon.write_all(request).unwrap();
    let (mut answer, mut piece) = (String::new(), [0; 4096]);
    let operation = loop {
        if let Some((_, rest)) = answer.split_once("/1.0/operations/")
            && let Some((id, _)) = rest.split_once('"')
        {
            break id.to_owned();
        }
        let length = daemon.read(&mut piece).unwrap();
        assert_ne!(length, 0, "{answer}");
        answer.push_str(&String::from_utf8_lossy(&piece[..length]));
    };
    let _ = rig.ask("GET", &format!("/1.0/operations/{operation}/wait?timeout=20"), None);
}

#[test]
fn a_creation_that_is_cancelled_on_its_way_leaves_nothing() {
    let Some(rig) = Rig::up("a_creation_that_is_cancelled_on_its_way_leaves_nothing") else { return };
    let project = rig.project(4).unwrap();
    let plan = spec(&rig, &project, "late").plan().unwrap();
    let cancel = CancelToken::new().unwrap();
    let (host, held, answers) = Holding::host(false);
    let incus = Incus::new(host, rig.socket(), &cancel);
    let error = std::thread::scope(|scope| {
        let ensured = scope.spawn(|| incus.ensure(&plan, &mut Silence));
        let request = held.recv().unwrap();
        cancel.cancel(CancelReason::Signal);
        // It arrives after somebody has looked for what it makes.
        let _ = answers.recv_timeout(Duration::from_secs(1));
        deliver(&rig, &request);
        ensured.join().unwrap().unwrap_err()
    });
    assert!(matches!(error, OpsError::Cancelled(CancelReason::Signal)), "{error:?}");
    assert_nothing_left(&project);
}

#[test]
fn a_creation_whose_connection_is_lost_for_good_is_told_as_left_behind() {
    let name = "a_creation_whose_connection_is_lost_for_good_is_told_as_left_behind";
    let Some(rig) = Rig::up(name) else { return };
    let project = rig.project(4).unwrap();
    let plan = spec(&rig, &project, "lost").plan().unwrap();
    let (host, held, _answers) = Holding::host(true);
    let second = Duration::from_secs(1);
    let patience = Patience { first_contact: second, reconnect: second, ..Patience::default() };
    let lost = Incus::new(host, rig.socket(), &CancelToken::new().unwrap()).with_patience(patience);
    let error = lost.ensure(&plan, &mut Silence).unwrap_err();
    let OpsError::LeftBehind { instance, error, .. } = error else { panic!("{error:?}") };
    assert!(instance == "lost" && error.is_connection(), "{error:?}");
    // It was right: the request may have been carried out.
    let request = held.recv().unwrap();
    deliver(&rig, &request);
    assert_eq!(project.instances().unwrap(), ["lost"]);
    incus(&rig).destroy(&InstanceRef::of(&plan)).unwrap();
    assert_nothing_left(&project);
}

/// Cuts every connection after the daemon has said some thousand bytes on it (more than in one answer): somewhere in an
/// answer, whose request has been carried out.
#[derive(Debug)]
struct Cutting {
    after: u64,
    cuts: Arc<AtomicU32>,
}

impl SocketHost for Cutting {
    fn socket_host(&self) -> &str {
        "cutting"
    }

    fn connect(&self, path: &Path, _cancel: &CancelToken) -> io::Result<UnixStream> {
        let (near, far) = UnixStream::pair()?;
        let daemon = UnixStream::connect(path)?;
        let (mut from, mut to) = (far.try_clone()?, daemon.try_clone()?);
        std::thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Both);
        });
        let (after, cuts) = (self.after, Arc::clone(&self.cuts));
        std::thread::spawn(move || {
            let copied = io::copy(&mut io::Read::take(&daemon, after), &mut &far);
            if copied.is_ok_and(|copied| copied == after) {
                cuts.fetch_add(1, Ordering::Relaxed);
            }
            let _ = far.shutdown(std::net::Shutdown::Both);
            let _ = daemon.shutdown(std::net::Shutdown::Both);
        });
        Ok(near)
    }
}

#[test]
fn answers_that_are_cut_off_do_nothing_twice() {
    let Some(rig) = Rig::up("answers_that_are_cut_off_do_nothing_twice") else { return };
    let project = rig.project(8).unwrap();
    let mut hits = 0;
    for after in [6_000, 6_400, 6_800, 7_200, 7_600] {
        let cuts = Arc::new(AtomicU32::new(0));
        let host = Arc::new(Cutting { after, cuts: Arc::clone(&cuts) });
        let incus = Incus::new(host, rig.socket(), &CancelToken::new().unwrap());
        let plan = spec(&rig, &project, &format!("cut-{after}")).plan().unwrap();
        let mut record = Record::default();
        let outcome =
            incus.run(&plan, &course("echo once >>/tmp/count; cat /tmp/count"), &mut record).unwrap();
        assert_completed(&outcome);
        assert_eq!(record.text(), "once\n", "{after}");
        hits += cuts.load(Ordering::Relaxed);
        assert_nothing_left(&project);
    }
    assert!(hits >= 5, "the fault must have hit: {hits}");
}

#[test]
fn a_socket_that_does_not_exist_is_told_at_once_and_one_without_a_listener_after_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("no.socket");
    let local = || Arc::new(jericho_host::LocalHost::new());
    let cancel = CancelToken::new().unwrap();
    let error = Incus::new(local(), &nowhere, &cancel).server().unwrap_err();
    assert!(matches!(&error, OpsError::Unreachable { socket, .. } if *socket == nowhere), "{error:?}");

    let deserted = dir.path().join("deserted.socket");
    drop(std::os::unix::net::UnixListener::bind(&deserted).unwrap());
    let patience = Patience { first_contact: Duration::from_millis(100), ..Patience::default() };
    let error = Incus::new(local(), &deserted, &cancel).with_patience(patience).server().unwrap_err();
    assert!(matches!(&error, OpsError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("deserted.socket"), "{error}");
}

#[test]
fn a_socket_that_this_user_may_not_use_is_no_right() {
    let name = "a_socket_that_this_user_may_not_use_is_no_right";
    if !jericho_testkit::need::needs_ordinary_user(name) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    let cancel = CancelToken::new().unwrap();
    let incus = Incus::new(Arc::new(jericho_host::LocalHost::new()), &socket, &cancel);
    let error = incus.server().unwrap_err();
    assert!(matches!(error, OpsError::NoRights { .. }), "{error:?}");
}
