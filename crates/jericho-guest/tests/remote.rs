//! What an engine on another machine asks of the runner: a view of a shared tree, news of a request, files.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use jericho_testkit::built_program;
use jericho_testkit::need::needs_root;
use serde_json::{Value, json};

mod common;

use common::{Outcome, Rig, command, outcome, runner, wait_for_end};

/// A frame: its first line without the last number, and its bytes.
type Frame = (String, Vec<u8>);

fn frames(mut text: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while !text.is_empty() {
        let end = text.iter().position(|byte| *byte == b'\n').unwrap();
        let line = std::str::from_utf8(&text[..end]).unwrap();
        let (head, bytes) = line.rsplit_once(' ').unwrap();
        let (body, rest) = text[end + 1..].split_at(bytes.parse().unwrap());
        frames.push((head.to_owned(), body.to_vec()));
        text = rest;
    }
    frames
}

/// The log that frames tell, from byte `offset` on without a gap, and the names of the others.
#[track_caller]
fn log_and_others(frames: &[Frame], offset: u64) -> (Vec<u8>, Vec<String>) {
    let (mut log, mut others) = (Vec::new(), Vec::new());
    for (head, body) in frames {
        match head.strip_prefix("log ") {
            Some(at) => {
                assert_eq!(at, (offset + log.len() as u64).to_string());
                log.extend_from_slice(body);
            }
            None => others.push(head.clone()),
        }
    }
    (log, others)
}

fn follow(rig: &Rig, options: &[&str]) -> Outcome {
    outcome(runner(&["follow"]).args(options).arg(rig.path("request.json")))
}

/// Starts a request in the background. Its process id.
fn detach(rig: &Rig, request: &Value, view: Option<&Value>) -> Result<i32, Outcome> {
    detach_by(runner(&[]), rig, request, view)
}

fn detach_by(
    mut command: std::process::Command,
    rig: &Rig,
    request: &Value,
    view: Option<&Value>,
) -> Result<i32, Outcome> {
    let request = rig.write_request(request);
    command.arg("--detach");
    if let Some(view) = view {
        fs::write(rig.path("view.json"), view.to_string()).unwrap();
        command.arg("--view").arg(rig.path("view.json"));
    }
    let outcome = outcome(command.arg(request));
    if outcome.code != Some(0) {
        return Err(outcome);
    }
    let told: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    Ok(i32::try_from(told["pid"].as_i64().unwrap()).unwrap())
}

fn tree(rig: &Rig) -> PathBuf {
    let tree = rig.path("tree");
    fs::create_dir_all(tree.join("sub")).unwrap();
    fs::write(tree.join("sub/a"), "shared\n").unwrap();
    fs::write(tree.join("marker"), "").unwrap();
    tree
}

#[test]
fn a_view_is_written_to_and_the_tree_stays_as_it_is() {
    let rig = Rig::new();
    let tree = tree(&rig);
    let mut request = rig.request(
        "cat sub/a; test ! -e marker; echo own > sub/a; mkdir new; echo left > new/b; rm -f marker; cat sub/a",
    );
    let cwd = rig.path("view");
    request["cwd"] = json!(cwd);
    request["artifact_globs"] = json!(["new/**"]);
    let view = json!({ "schema_version": 1, "tree": tree, "hidden": ["marker"] });
    wait_for_end(detach(&rig, &request, Some(&view)).unwrap_or_else(|outcome| panic!("{}", outcome.stderr)));
    assert_eq!(rig.result().exit_code, Some(0), "{}", rig.log_text());
    assert_eq!(rig.log_text(), "shared\nown\n");
    assert_eq!(fs::read_to_string(rig.path("state/artifacts/new/b")).unwrap(), "left\n");
    assert_eq!(fs::read_to_string(tree.join("sub/a")).unwrap(), "shared\n");
    assert!(tree.join("marker").exists() && !tree.join("new").exists());
    if rustix::process::geteuid().is_root() {
        // Nobody else has seen it.
        assert_eq!(fs::read_dir(&cwd).unwrap().count(), 0);
    }
}

#[test]
fn who_runs_a_request_is_known_before_its_view_is_there() {
    let rig = Rig::new();
    let tree = tree(&rig);
    let mut request = rig.request("cat sub/a");
    request["cwd"] = json!(rig.path("view"));
    let request = rig.write_request(&request);
    // Read by the runner when it makes the view, which waits for its end.
    let view = rig.fifo("view.json");
    let mut command = runner(&["--detach", "--view"]);
    command.arg(&view).arg(request).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut starter = command.spawn().unwrap();
    let mut end = fs::File::options().write(true).open(&view).unwrap();
    let known: Value = serde_json::from_slice(&fs::read(rig.path("state/runner.json")).unwrap()).unwrap();
    write!(end, "{}", json!({ "schema_version": 1, "tree": tree })).unwrap();
    drop(end);
    let mut told = String::new();
    starter.stdout.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(starter.wait().unwrap().success());
    assert_eq!(serde_json::from_str::<Value>(&told).unwrap(), known);
    wait_for_end(i32::try_from(known["pid"].as_i64().unwrap()).unwrap());
    assert_eq!(rig.log_text(), "shared\n");
}

#[test]
fn a_cache_is_seen_in_the_view_and_one_that_is_locked_is_waited_for() {
    let rig = Rig::new();
    let tree = tree(&rig);
    let (started, go) = (rig.fifo("started"), rig.fifo("go"));
    let cache = json!({ "dir": rig.path("cache"), "lock": rig.path("cache.lock"), "path": "var/cache" });
    let view = json!({ "schema_version": 1, "tree": tree, "caches": [cache] });
    let mut request = rig.request(&format!(
        "echo first > var/cache/file; echo > {}; cat {}",
        started.display(),
        go.display()
    ));
    request["cwd"] = json!(rig.path("view"));
    let first = detach(&rig, &request, Some(&view)).unwrap_or_else(|outcome| panic!("{}", outcome.stderr));
    fs::read(&started).unwrap();

    let other = Rig::new();
    let mut request = other.request("cat var/cache/file");
    request["cwd"] = json!(other.path("view"));
    let second = detach(&other, &request, Some(&view)).unwrap_or_else(|outcome| panic!("{}", outcome.stderr));
    assert!(!other.kinds().contains(&pika_cloud::LifecycleState::Starting), "it waits for the cache");
    fs::write(&go, "").unwrap();
    wait_for_end(first);
    wait_for_end(second);
    assert_eq!(other.log_text(), "first\n");
    assert_eq!(fs::read_to_string(rig.path("cache/file")).unwrap(), "first\n");

    // Somebody who waits can be told to end.
    let held = jericho_host::lock::FileLock::try_exclusive(&rig.path("cache.lock")).unwrap().unwrap();
    request["cwd"] = json!(other.path("third"));
    let third = detach(&other, &request, Some(&view)).unwrap_or_else(|outcome| panic!("{}", outcome.stderr));
    assert_eq!(other.cancel(&[]).code, Some(0));
    wait_for_end(third);
    assert!(other.result().message.contains("cancelled"), "{}", other.result().message);
    drop(held);
}

#[test]
fn a_cache_is_not_put_where_a_link_or_a_file_of_the_source_leads() {
    // Mounted where that is possible, else linked to from a copy.
    for lesser in [false, true] {
        if lesser && !needs_root("a_cache_is_not_put_where_a_link_or_a_file_of_the_source_leads") {
            continue;
        }
        for (place, found) in [
            ("nm/cache", "nm"),
            ("nm/new/deeper", "nm"),
            ("sub/in/cache", "sub/in"),
            ("nm", "nm"),
            ("sub/a/x", "sub/a"),
            ("sub/a", "sub/a"),
        ] {
            let rig = Rig::new();
            let (tree, shared) = (tree(&rig), rig.path("shared"));
            fs::create_dir_all(shared.join("cache")).unwrap();
            fs::write(shared.join("cache/precious"), "precious\n").unwrap();
            for link in ["nm", "sub/in"] {
                symlink(&shared, tree.join(link)).unwrap();
            }
            let cache = json!({ "dir": rig.path("cache"), "lock": rig.path("lock"), "path": place });
            let view = json!({ "schema_version": 1, "tree": tree, "caches": [cache] });
            let mut request = rig.request("true");
            request["cwd"] = json!(rig.path("view"));
            let program = built_program!("jerichoci-incus-run");
            let mut command = command(if lesser { "setpriv".into() } else { program.clone() });
            if lesser {
                command.args(["--bounding-set=-sys_admin", "--"]).arg(program);
            }
            if let Ok(pid) = detach_by(command, &rig, &request, Some(&view)) {
                wait_for_end(pid);
            }
            let message = rig.result().message;
            let why = format!("the source tree has a file or link {found}");
            assert!(message.contains(&why), "{place}: {message}");
            let left = fs::read_to_string(shared.join("cache/precious"));
            assert_eq!(left.ok().as_deref(), Some("precious\n"), "{place}");
            assert_eq!(fs::read_dir(&shared).unwrap().count(), 1, "{place}");
            assert_eq!(fs::read_dir(shared.join("cache")).unwrap().count(), 1, "{place}");
        }
    }
}

#[test]
fn what_a_cache_holds_of_another_source_is_older_than_every_file_of_the_view() {
    // As cargo does: what was built before the source changed is built again.
    let build = "test -e var/cache/built -a ! sub/a -nt var/cache/built && echo fresh || cp sub/a var/cache/built; \
                 cat var/cache/built";
    let host = Rig::new();
    let trees = ["one", "two"].map(|name| {
        let tree = host.path(name);
        fs::create_dir_all(tree.join("sub")).unwrap();
        fs::write(tree.join("sub/a"), format!("{name}\n")).unwrap();
        (name, tree)
    });
    let cache = json!({ "dir": host.path("cache"), "lock": host.path("cache.lock"), "path": "var/cache" });
    let expected = ["one\n", "fresh\none\n", "two\n", "fresh\ntwo\n", "one\n", "fresh\none\n"];
    for (run, log) in expected.into_iter().enumerate() {
        let (name, tree) = &trees[run / 2 % 2];
        let view = json!({ "schema_version": 1, "tree": tree, "caches": [cache], "source": name });
        let rig = Rig::new();
        let mut request = rig.request(build);
        request["cwd"] = json!(rig.path("view"));
        wait_for_end(
            detach(&rig, &request, Some(&view)).unwrap_or_else(|outcome| panic!("{}", outcome.stderr)),
        );
        assert_eq!((run, rig.log_text().as_str()), (run, log));
    }
}

#[test]
fn of_several_caches_the_one_that_met_another_source_last_decides() {
    let build =
        "test -e second/built -a ! a -nt second/built && echo fresh || cp a second/built; cat second/built";
    for both in [["first", "second"], ["second", "first"]] {
        let host = Rig::new();
        for source in ["one", "two"] {
            fs::create_dir_all(host.path(source)).unwrap();
            fs::write(host.path(source).join("a"), format!("{source}\n")).unwrap();
        }
        let cache = |name: &str| json!({ "dir": host.path(name), "lock": host.path(&format!("{name}.lock")), "path": name });
        let both = both.map(cache);
        let second = [cache("second")];
        // The first cache knows nothing of the second source.
        let runs: [(&str, &[Value], &str); 4] = [
            ("one", &both, "one\n"),
            ("two", &second, "two\n"),
            ("one", &both, "one\n"),
            ("one", &both, "fresh\none\n"),
        ];
        for (number, (source, caches, log)) in runs.into_iter().enumerate() {
            let view =
                json!({ "schema_version": 1, "tree": host.path(source), "caches": caches, "source": source });
            let rig = Rig::new();
            let mut request = rig.request(build);
            request["cwd"] = json!(rig.path("view"));
            wait_for_end(
                detach(&rig, &request, Some(&view)).unwrap_or_else(|outcome| panic!("{}", outcome.stderr)),
            );
            assert_eq!((number, rig.log_text().as_str()), (number, log));
        }
    }
}

#[test]
fn a_view_that_cannot_be_made_is_no_failure_of_the_command() {
    let rig = Rig::new();
    let mut request = rig.request("true");
    request["cwd"] = json!(rig.path("view"));
    for (view, why) in [
        (json!({ "schema_version": 1, "tree": rig.path("none") }), "cannot make a view of"),
        (json!({ "schema_version": 7, "tree": "/" }), "version 7"),
    ] {
        let Err(outcome) = detach(&rig, &request, Some(&view)) else { panic!("{view}") };
        assert!(outcome.stderr.contains(why), "{}", outcome.stderr);
        let result = rig.result();
        assert!(result.message.contains(why), "{}", result.message);
        assert_eq!(result.details.unwrap()["failure_kind"], "infrastructure");
    }
}

#[test]
fn whoever_follows_hears_log_events_and_result_from_where_it_has_left_off() {
    let rig = Rig::new();
    rig.run(&rig.request("echo one; echo two; exit 3"));
    let all = frames(&follow(&rig, &[]).stdout);
    let expected =
        (b"one\ntwo\n".to_vec(), ["event 1", "event 2", "event 3", "event 4", "result"].map(str::to_owned));
    assert_eq!(log_and_others(&all, 0), (expected.0, expected.1.to_vec()));
    let result: Value = serde_json::from_slice(&all.last().unwrap().1).unwrap();
    assert_eq!(result["exit_code"], 3);
    let rest = frames(&follow(&rig, &["--offset", "4", "--seq", "3"]).stdout);
    assert_eq!(
        log_and_others(&rest, 4),
        (b"two\n".to_vec(), ["event 4", "result"].map(str::to_owned).to_vec())
    );
}

#[test]
fn news_come_as_they_happen_and_whoever_has_heard_enough_goes() {
    let rig = Rig::new();
    let go = rig.fifo("go");
    let pid = detach(&rig, &rig.request("echo begun; cat go; echo over"), None);
    let pid = pid.unwrap_or_else(|outcome| panic!("{}", outcome.stderr));
    let mut follower = command(jericho_testkit::built_program!("jerichoci-incus-run"));
    follower.arg("follow").arg(rig.path("request.json")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let (mut stays, mut goes) = (follower.spawn().unwrap(), follower.spawn().unwrap());
    // It goes while nothing happens.
    drop(goes.stdin.take());
    assert!(goes.wait().unwrap().success());
    let mut told = BufReader::new(stays.stdout.take().unwrap());
    let mut text = Vec::new();
    while !text.ends_with(b"begun\n") {
        assert!(told.read_until(b'\n', &mut text).unwrap() > 0, "{}", String::from_utf8_lossy(&text));
    }
    fs::write(&go, "").unwrap();
    told.read_to_end(&mut text).unwrap();
    assert!(stays.wait().unwrap().success());
    wait_for_end(pid);
    let (log, others) = log_and_others(&frames(&text), 0);
    assert_eq!(
        (log.as_slice(), others.last().map(String::as_str)),
        (b"begun\nover\n".as_slice(), Some("result"))
    );
}

#[test]
fn a_runner_that_was_killed_is_told_and_nobody_waits_for_it() {
    let rig = Rig::new();
    let started = rig.fifo("started");
    let pid = detach(&rig, &rig.request("echo begun; echo > started; sleep 300"), None);
    let pid = pid.unwrap_or_else(|outcome| panic!("{}", outcome.stderr));
    fs::read(&started).unwrap();
    let mut follower = runner(&["follow"]);
    follower.arg(rig.path("request.json")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut follower = follower.spawn().unwrap();
    let mut told = BufReader::new(follower.stdout.take().unwrap());
    let mut text = Vec::new();
    while !text.ends_with(b"begun\n") {
        assert!(told.read_until(b'\n', &mut text).unwrap() > 0, "{}", String::from_utf8_lossy(&text));
    }
    let process = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    told.read_to_end(&mut text).unwrap();
    assert!(follower.wait().unwrap().success());
    let (log, others) = log_and_others(&frames(&text), 0);
    assert_eq!((log.as_slice(), others.last().map(String::as_str)), (b"begun\n".as_slice(), Some("gone")));
    assert_eq!(rig.cancel(&["--force"]).code, Some(0));
    assert_eq!(frames(&follow(&rig, &[]).stdout).last().unwrap().0, "result");
}

#[test]
fn files_are_sent_with_their_modes_and_nothing_else_is() {
    let rig = Rig::new();
    let dir = rig.work();
    fs::create_dir(dir.join("sub")).unwrap();
    fs::write(dir.join("sub/run"), "#!").unwrap();
    fs::set_permissions(dir.join("sub/run"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(dir.join("empty"), "").unwrap();
    fs::set_permissions(dir.join("empty"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("/etc/passwd", dir.join("link")).unwrap();
    rig.fifo("pipe");
    let export = |dir: &Path, options: &[&str]| -> Vec<(String, String)> {
        let outcome = outcome(runner(&["export"]).args(options).arg(dir));
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        let text = |body| String::from_utf8(body).unwrap();
        frames(&outcome.stdout).into_iter().map(|(head, body)| (head, text(body))).collect()
    };
    let pair = |head: &str, body: &str| (head.to_owned(), body.to_owned());
    let (empty, run) = (format!("file {} 5", 0o640), format!("file {} 7", 0o755));
    assert_eq!(
        export(&dir, &[]),
        [
            pair(&empty, "empty"),
            pair("warning", "link: is no file"),
            pair("warning", "pipe: is no file"),
            pair(&run, "sub/run#!"),
            pair("end 2 2", ""),
        ]
    );
    let limited = export(&dir, &["--files", "1"]);
    assert_eq!(limited.last().unwrap().0, "end 1 0");
    assert!(limited.iter().any(|(_, body)| body.starts_with("1 files were left out")), "{limited:?}");
    let limited = export(&dir, &["--bytes", "1"]);
    assert_eq!(limited.last().unwrap().0, "end 1 0");
    assert_eq!(export(&rig.path("none"), &[]), [pair("end 0 0", "")]);
}

/// A relay before a socket that the test listens at.
struct Relay {
    child: std::process::Child,
    path: PathBuf,
    target: UnixListener,
}

impl Relay {
    fn start(dir: &Path) -> Self {
        let _ = fs::remove_file(dir.join("target"));
        let target = UnixListener::bind(dir.join("target")).unwrap();
        let mut command = runner(&["relay", "--to"]);
        command.arg(dir.join("target")).arg(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut path = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut path).unwrap();
        // That it connects shows that the socket is there.
        drop(target.accept().unwrap());
        Self { child, path: PathBuf::from(path.trim_end()), target }
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.path).unwrap()
    }

    /// A stream that the test takes, with what came first.
    fn accept(&self) -> (UnixStream, String) {
        let (mut stream, _) = self.target.accept().unwrap();
        let mut first = [0; 8];
        stream.read_exact(&mut first).unwrap();
        (stream, String::from_utf8(first.to_vec()).unwrap())
    }

    /// Ends its input, and returns its exit code.
    fn end(mut self) -> Option<i32> {
        drop(self.child.stdin.take());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_relay_connects_when_there_is_something_to_say() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Relay::start(dir.path());
    let (mut silent, mut slow, mut third) = (relay.connect(), relay.connect(), relay.connect());
    // Incus looks at eight bytes.
    slow.write_all(b"slow567").unwrap();
    third.write_all(b"third678").unwrap();
    assert_eq!(relay.accept().1, "third678");
    slow.write_all(b"8").unwrap();
    assert_eq!(relay.accept().1, "slow5678");
    silent.write_all(b"silent78").unwrap();
    let (mut stream, first) = relay.accept();
    assert_eq!(first, "silent78");
    stream.write_all(b"answer").unwrap();
    let mut answer = [0; 6];
    silent.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"answer");
    assert_eq!(relay.end(), Some(0));
}

#[test]
fn a_relay_carries_both_ways_and_each_end_for_itself() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Relay::start(dir.path());
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut client = relay.connect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, first) = relay.accept();
            let mut all = first.into_bytes();
            stream.read_to_end(&mut all).unwrap();
            // The end of what was sent is not that of the answer.
            stream.write_all(&all).unwrap();
        });
        client.write_all(b"12345678").unwrap();
        client.write_all(&bytes).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut back = Vec::new();
        client.read_to_end(&mut back).unwrap();
        assert_eq!(back.len(), bytes.len() + 8);
        assert!(back[8..] == bytes[..]);
    });
    // Fewer bytes than Incus looks at, and an end: it is Incus' to say what that is.
    let mut short = relay.connect();
    short.write_all(b"abc").unwrap();
    short.shutdown(std::net::Shutdown::Write).unwrap();
    let mut said = String::new();
    relay.target.accept().unwrap().0.read_to_string(&mut said).unwrap();
    assert_eq!(said, "abc");
    // Nobody at the other end any more.
    let mut gone = relay.connect();
    gone.write_all(b"12345678").unwrap();
    drop(relay.accept());
    assert_eq!(gone.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(relay.end(), Some(0));
}

#[test]
fn relays_of_one_work_dir_do_not_meet_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let sockets = || {
        let mut names: Vec<PathBuf> =
            fs::read_dir(dir.path().join("relay")).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    };
    let mut killed = Relay::start(dir.path());
    assert_eq!(fs::metadata(dir.path().join("relay")).unwrap().permissions().mode() & 0o777, 0o700);
    killed.child.kill().unwrap();
    killed.child.wait().unwrap();
    assert_eq!(sockets(), [killed.path.clone()]);
    let (one, another) = (Relay::start(dir.path()), Relay::start(dir.path()));
    let mut expected = [one.path.clone(), another.path.clone()];
    expected.sort();
    assert_eq!(sockets(), expected, "that of the killed one is gone");
    assert_eq!(one.end(), Some(0));
    another.connect().write_all(b"12345678").unwrap();
    assert_eq!(another.accept().1, "12345678");
    assert_eq!(another.end(), Some(0));
    assert_eq!(sockets(), [] as [PathBuf; 0]);
}

#[test]
fn a_relay_that_cannot_do_its_part_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let ended = outcome(runner(&["relay", "--to", "/nowhere/socket"]).arg(dir.path()));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("cannot connect to /nowhere/socket: "), "{}", ended.stderr);
    let long = dir.path().join("a".repeat(100));
    fs::create_dir(&long).unwrap();
    let _target = UnixListener::bind(dir.path().join("target")).unwrap();
    let ended = outcome(runner(&["relay", "--to"]).arg(dir.path().join("target")).arg(&long));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("the path is too long for a socket"), "{}", ended.stderr);
    // No link leads out of the work dir.
    symlink("/tmp", dir.path().join("relay")).unwrap();
    let ended = outcome(runner(&["relay", "--to"]).arg(dir.path().join("target")).arg(dir.path()));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
}
