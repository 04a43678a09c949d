//! An Incus that misbehaves: says things that are no answers, says nothing, or is just ending.
#![cfg(feature = "ops")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jericho_host::{CancelReason, CancelToken, LocalHost};
use pika_cloud::ops::{Incus, InstanceRef, Labels, OpsError, Patience, Silence};
use pika_cloud::{RuntimeIdentity, RuntimeIncus, RuntimeSpec};

/// What is said to one request.
#[derive(Debug, Clone)]
enum Say {
    /// These bytes, and then the connection is closed.
    Bytes(String),
    /// An HTTP answer with this body.
    Answer(u16, String),
    /// Nothing, as long as the client stays.
    Nothing,
}

/// A socket that says one thing after the other, the last one again and again.
struct Liar {
    dir: tempfile::TempDir,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Liar {
    fn saying(script: &[Say]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (script, requests) = (script.to_vec(), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (script, requests) = (script.clone(), Arc::clone(&requests));
                std::thread::spawn(move || serve(&stream.unwrap(), &script, &requests));
            }
        });
        Self { dir, asked }
    }

    fn incus(&self, cancel: &CancelToken) -> Incus {
        let socket: PathBuf = self.dir.path().join("s");
        Incus::new(Arc::new(LocalHost::new()), socket, cancel).with_patience(Patience {
            first_contact: Duration::from_millis(500),
            reconnect: Duration::from_millis(500),
            request: Duration::from_millis(200),
            operation: Duration::from_secs(2),
            full: Duration::from_secs(1),
        })
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Reads requests off one connection and says what is due.
fn serve(stream: &UnixStream, script: &[Say], asked: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if first.is_empty() {
                first = line.trim().to_owned();
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink()).unwrap();
        let number = {
            let mut asked = asked.lock().unwrap();
            asked.push(first);
            asked.len() - 1
        };
        let mut writer = stream;
        match script.get(number).or(script.last()).unwrap() {
            Say::Bytes(bytes) => {
                let _ = writer.write_all(bytes.as_bytes());
                return;
            }
            Say::Answer(status, body) => {
                let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                if writer.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
            Say::Nothing => {
                let _ = reader.read(&mut [0]);
                return;
            }
        }
    }
}

fn sync(metadata: &str) -> Say {
    Say::Answer(200, format!(r#"{{"type":"sync","status_code":200,"metadata":{metadata}}}"#))
}

fn error(http: u16, code: u16, message: &str) -> Say {
    Say::Answer(
        http,
        format!(r#"{{"type":"error","error_code":{code},"error":"{message}","metadata":null}}"#),
    )
}

const TRUSTED: &str = r#"{"auth":"trusted","environment":{"server_version":"6.0.4"}}"#;

fn token() -> CancelToken {
    CancelToken::new().unwrap()
}

#[test]
fn a_daemon_that_is_shutting_down_is_asked_again() {
    let closed = error(500, 500, "Failed to begin transaction: sql: database is closed");
    for down in [error(503, 503, "Shutting down"), closed] {
        let liar = Liar::saying(&[down.clone(), down, sync(TRUSTED)]);
        let server = liar.incus(&token()).server().unwrap();
        assert_eq!(server.environment.server_version, "6.0.4");
        assert_eq!(liar.asked().len(), 3);
    }
}

#[test]
fn a_daemon_that_stays_down_is_given_up() {
    let liar = Liar::saying(&[error(503, 503, "Shutting down")]);
    assert!(liar.incus(&token()).server().is_err());
    assert!(liar.asked().len() > 2, "{:?}", liar.asked());
}

#[test]
fn a_connection_that_breaks_or_says_nothing_is_lost_in_the_end() {
    let halves = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"type\":";
    for say in [
        Say::Bytes(String::new()),
        Say::Bytes(halves.into()),
        Say::Bytes("SSH-2.0-OpenSSH\r\n".into()),
        Say::Nothing,
    ] {
        let liar = Liar::saying(std::slice::from_ref(&say));
        let error = liar.incus(&token()).server().unwrap_err();
        // What never answered was not lost, and is told with its socket.
        let answered = matches!(&say, Say::Bytes(bytes) if bytes.starts_with("HTTP"));
        match answered {
            true => assert!(matches!(error, OpsError::Lost { .. }), "{say:?}: {error:?}"),
            false => assert!(matches!(error, OpsError::Unreachable { .. }), "{say:?}: {error:?}"),
        }
        assert!(liar.asked().len() >= 2, "it is asked again: {say:?}");
        assert!(error.is_connection());
    }
    // And one that comes back is not.
    let liar = Liar::saying(&[Say::Nothing, Say::Bytes(halves.into()), sync(TRUSTED)]);
    liar.incus(&token()).server().unwrap();
}

#[test]
fn what_is_no_answer_of_incus_is_told_as_such_and_not_asked_again() {
    for body in [
        "",
        "<html>",
        "{}",
        "[1]",
        r#"{"type":"sync","metadata":17}"#,
        r#"{"type":"new"}"#,
        r#"{"type":"async","metadata":{}}"#,
    ] {
        let liar = Liar::saying(&[Say::Answer(200, body.to_owned())]);
        let error = liar.incus(&token()).server().unwrap_err();
        assert!(matches!(error, OpsError::Garbled { .. }), "{body}: {error:?}");
        assert_eq!(liar.asked().len(), 1);
    }
}

#[test]
fn who_is_not_trusted_has_no_right() {
    let liar = Liar::saying(&[sync(r#"{"auth":"untrusted","environment":{}}"#)]);
    let said = liar.incus(&token()).server().unwrap_err();
    assert!(matches!(said, OpsError::NoRights { .. }), "{said:?}");
    let liar = Liar::saying(&[error(403, 403, "not authorized")]);
    let said = liar.incus(&token()).list("p", &Labels::new()).unwrap_err();
    assert!(matches!(&said, OpsError::NoRights { reason, .. } if reason == "not authorized"), "{said:?}");
}

#[test]
fn a_failed_wait_is_a_failure_though_its_http_status_is_200() {
    let begun = Say::Answer(202, r#"{"type":"async","metadata":{"id":"op-1"}}"#.to_owned());
    let there = sync(r#"{"name":"i","status":"Stopped","created_at":""}"#);
    let liar = Liar::saying(&[begun, error(200, 500, "no memory"), there]);
    let instance = InstanceRef { project: "p".into(), name: "i".into() };
    let said = liar.incus(&token()).start(&instance).unwrap_err();
    assert!(matches!(&said, OpsError::Failed { message, .. } if message == "no memory"), "{said:?}");
}

#[test]
fn cancelling_ends_a_request_that_is_not_answered() {
    let liar = Liar::saying(&[Say::Nothing]);
    let cancel = token();
    let patience = Patience { request: Duration::from_secs(600), ..Patience::default() };
    let incus = liar.incus(&cancel).with_patience(patience);
    let asked = Arc::clone(&liar.asked);
    let error = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| incus.server().unwrap_err());
        while asked.lock().unwrap().is_empty() {
            std::thread::yield_now();
        }
        cancel.cancel(CancelReason::Signal);
        waiting.join().unwrap()
    });
    assert!(matches!(error, OpsError::Cancelled(CancelReason::Signal)), "{error:?}");
}

#[test]
fn an_invalid_name_of_a_label_is_not_sent() {
    let liar = Liar::saying(&[sync("{}")]);
    let plan = RuntimeSpec::new(RuntimeIdentity::named("i"), RuntimeIncus::new("p", "default", "a"))
        .with_label("a", "1")
        .with_label("user.a", "2")
        .plan()
        .unwrap();
    assert!(liar.incus(&token()).ensure(&plan, &mut Silence).is_err());
    assert!(liar.asked().iter().all(|request| !request.starts_with("POST")), "{:?}", liar.asked());
}
