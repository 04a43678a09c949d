//! However a job ends, nothing of it stays but its files, and these are whole.

mod common;

use std::fs;
use std::io::Read as _;
use std::path::Path;

use common::{Rig, odd_seconds, running, signal, wait_for_end};
use jericho_testkit::children::{ENDLESS, LEAVERS};
use pika_cloud::LifecycleState::{Booted, Failed, Ready, Starting};
use rustix::process::Signal;
use serde_json::json;

/// A script of the testkit whose sleeps can be told from those of others.
fn with_seconds(script: &str, seconds: &str) -> String {
    script
        .replace("sleep 300", &format!("sleep {seconds}"))
        .replace("$s 300", &format!("$s {seconds}"))
        .replace("$(command -v sleep) 300", &format!("$(command -v sleep) {seconds}"))
}

#[test]
fn a_time_limit_ends_everything_however_hard_it_is_to_end() {
    std::thread::scope(|scope| {
        for child in ENDLESS {
            scope.spawn(move || {
                let rig = Rig::new();
                let seconds = odd_seconds();
                let mut request = rig.request(&with_seconds(child.script, &seconds));
                request["timeout_secs"] = json!(1);
                request["grace_secs"] = json!(1);
                assert_eq!(rig.run(&request).code, Some(124), "{}", child.name);
                let result = rig.result();
                assert_eq!((result.exit_code, result.message.as_str()), (Some(124), "timed out after 1s"));
                assert_eq!(rig.detail("failure_kind"), "timeout");
                assert_eq!(rig.log_text().lines().next(), Some("ready"), "{}", child.name);
                assert_eq!(running(&seconds), [""; 0], "{}", child.name);
                assert_eq!(rig.kinds(), [Booted, Starting, Ready, Failed]);
            });
        }
    });
}

#[test]
fn what_a_command_leaves_behind_is_ended_and_named() {
    std::thread::scope(|scope| {
        for child in LEAVERS {
            scope.spawn(move || {
                let rig = Rig::new();
                let seconds = odd_seconds();
                assert_eq!(rig.run(&rig.request(&with_seconds(child.script, &seconds))).code, Some(3));
                let leaked = rig.detail("leaked");
                let text = leaked.to_string();
                assert!(text.contains(&seconds), "{}: {text}", child.name);
                assert_eq!(running(&seconds), [""; 0], "{}", child.name);
            });
        }
    });
}

#[test]
fn a_grandchild_without_session_environment_and_output_does_not_escape() {
    let rig = Rig::new();
    let seconds = odd_seconds();
    let script = format!(
        "s=$(command -v sleep); (setsid env -i $s {seconds} </dev/null >/dev/null 2>&1 & \
         until grep -q {seconds} /proc/$!/cmdline; do :; done); echo left"
    );
    assert_eq!(rig.run(&rig.request(&script)).code, Some(0));
    assert_eq!(rig.log_text(), "left\n");
    assert_eq!(running(&seconds), [""; 0]);
    assert!(rig.detail("leaked").to_string().contains(&seconds));
}

#[test]
fn term_to_the_runner_ends_the_job_and_writes_the_result() {
    let rig = Rig::new();
    let (started, seconds) = (rig.fifo("started"), odd_seconds());
    let script = format!("trap 'echo ending; exit 0' TERM; setsid sleep {seconds} & echo > started; wait");
    let mut runner = rig.start(&rig.request(&script));
    fs::read(&started).unwrap();
    signal(&runner, Signal::TERM);
    assert_eq!(runner.wait().unwrap().code(), Some(143));
    let result = rig.result();
    assert_eq!((result.exit_code, result.message.as_str()), (Some(143), "cancelled: a signal asked to end"));
    assert_eq!(rig.detail("failure_kind"), "cancelled");
    assert_eq!(rig.log_text(), "ending\n", "the command had its grace");
    assert_eq!(running(&seconds), [""; 0]);
    assert_eq!(rig.kinds(), [Booted, Starting, Ready, Failed]);
}

#[test]
fn a_second_signal_does_not_wait_for_the_grace() {
    let rig = Rig::new();
    let started = rig.fifo("started");
    let mut request = rig.request("trap '' TERM; echo > started; while :; do sleep 300; done");
    request["grace_secs"] = json!(3600);
    let mut runner = rig.start(&request);
    fs::read(&started).unwrap();
    signal(&runner, Signal::TERM);
    signal(&runner, Signal::INT);
    assert_eq!(runner.wait().unwrap().code(), Some(143));
    assert_eq!(rig.detail("failure_kind"), "cancelled");
}

#[test]
fn cancel_ends_a_runner_and_its_job() {
    for options in [&[][..], &["--force"]] {
        let rig = Rig::new();
        let (started, seconds) = (rig.fifo("started"), odd_seconds());
        let mut request =
            rig.request(&format!("trap '' TERM; echo > started; sleep {seconds}; sleep {seconds}"));
        request["grace_secs"] = json!(if options.is_empty() { 1 } else { 3600 });
        let mut runner = rig.start(&request);
        fs::read(&started).unwrap();
        let cancel = rig.cancel(options);
        assert_eq!((cancel.code, cancel.stderr.as_str()), (Some(0), ""));
        assert_eq!(rig.detail("failure_kind"), "cancelled");
        assert_eq!(running(&seconds), [""; 0]);
        assert_eq!(runner.wait().unwrap().code(), Some(143));
        assert_eq!(rig.cancel(&[]).code, Some(0), "again it is nothing to do");
        assert_eq!(rig.kinds(), [Booted, Starting, Ready, Failed]);
    }
}

#[test]
fn a_killed_runner_owes_a_result_that_cancel_writes() {
    let rig = Rig::new();
    let (started, seconds) = (rig.fifo("started"), odd_seconds());
    let mut request = rig.request(&format!("sleep {seconds} & echo $$ > started; wait"));
    request["env_file"] = json!(rig.write_environment(&json!({
        "schema_version": 1, "variables": { "JERICHOCI_JOB": format!("r/j/{seconds}"), "KEY": "hunter22" },
        "secret_files": ["KEY"],
    })));
    let mut runner = rig.start(&request);
    fs::read(&started).unwrap();
    signal(&runner, Signal::KILL);
    runner.wait().unwrap();
    assert!(!Path::new(&rig.paths.result_path).exists());
    let cancel = rig.cancel(&[]);
    assert_eq!((cancel.code, cancel.stderr.as_str()), (Some(0), ""));
    let result = rig.result();
    assert_eq!((result.exit_code, rig.detail("failure_kind")), (None, json!("interrupted")));
    let names = fs::read_dir(rig.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["request.json", "state", "work"], "its secrets are gone too");
    assert_eq!(running(&seconds), [""; 0]);
    // Whether it came to tell that the command ran is a matter of luck.
    let kinds: Vec<_> = rig.kinds().into_iter().filter(|kind| *kind != Ready).collect();
    assert_eq!(kinds, [Booted, Starting, Failed]);
}

#[test]
fn a_request_that_nobody_ran_has_nothing_to_cancel() {
    let rig = Rig::new();
    rig.write_request(&rig.request("true"));
    assert_eq!(rig.cancel(&[]).code, Some(0));
    assert!(!rig.path("state").exists());
}

#[test]
fn nobody_who_reads_the_output_slowly_or_not_at_all_holds_up_the_command() {
    let rig = Rig::new();
    let ended = rig.fifo("ended");
    let request = rig.write_request(&rig.request("head -c 3000000 /dev/zero; echo > ended"));
    let mut runner = common::runner(&[]).arg(request).stdout(std::process::Stdio::piped()).spawn().unwrap();
    // Nobody has read anything when the command has ended; then all of it is still there.
    fs::read(&ended).unwrap();
    let mut all = Vec::new();
    runner.stdout.take().unwrap().read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), 3_000_000);
    assert_eq!(runner.wait().unwrap().code(), Some(0));

    let rig = Rig::new();
    let request = rig.write_request(&rig.request("head -c 3000000 /dev/zero; exit 6"));
    let mut runner = common::runner(&[]).arg(request).stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(runner.stdout.take());
    assert_eq!(runner.wait().unwrap().code(), Some(6), "a reader that has gone is no failure");
    assert_eq!(rig.log().len(), 3_000_000);
}

#[test]
fn a_runner_in_the_background_says_who_it_is_and_outlives_its_starter() {
    let rig = Rig::new();
    let (started, go) = (rig.fifo("started"), rig.fifo("go"));
    let request = rig.write_request(&rig.request("echo > started; cat go; echo output; exit 9"));
    // This returns although the runner goes on: it holds neither output.
    let outcome = common::outcome(common::runner(&["--detach"]).arg(request));
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    let text = String::from_utf8(outcome.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    let identity: jericho_host::sys::ProcessIdentity = serde_json::from_value(told.clone()).unwrap();
    assert!(jericho_host::sys::is_alive(&identity).unwrap());
    let pid = identity.pid.cast_signed();
    let session = rustix::process::getsid(rustix::process::Pid::from_raw(pid)).unwrap();
    assert_eq!(session.as_raw_nonzero().get(), pid, "it leads a session of its own");
    let kept: serde_json::Value =
        serde_json::from_slice(&fs::read(rig.path("state/runner.json")).unwrap()).unwrap();
    assert_eq!(kept, told);
    fs::read(&started).unwrap();
    // The end of the session that started it is not its own.
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), Signal::HUP).unwrap();
    fs::write(&go, "").unwrap();
    wait_for_end(pid);
    assert_eq!(rig.result().exit_code, Some(9));
    assert_eq!(rig.log_text(), "output\n");
    assert_eq!(fs::read_to_string(rig.path("state/logs/runner.log")).unwrap(), "");
}

#[test]
fn what_is_wrong_with_a_request_is_told_before_the_background() {
    let rig = Rig::new();
    let mut request = rig.request("true");
    request["cwd"] = json!(rig.path("nowhere"));
    let outcome = common::outcome(common::runner(&["--detach"]).arg(rig.write_request(&request)));
    assert_eq!((outcome.code, outcome.stdout.as_slice()), (Some(2), b"".as_slice()));
    assert!(outcome.stderr.contains("cannot use the working directory"), "{}", outcome.stderr);
    assert_eq!(rig.result().exit_code, Some(2));

    let garbage = rig.path("garbage.json");
    for text in ["", "{", "[]", "{\"schema_version\":9}"] {
        fs::write(&garbage, text).unwrap();
        let outcome = common::outcome(common::runner(&["--detach"]).arg(&garbage));
        assert_eq!((outcome.code, outcome.stdout.as_slice()), (Some(2), b"".as_slice()), "{text}");
        assert!(outcome.stderr.contains("cannot use the request"), "{}", outcome.stderr);
    }
    let outcome = common::outcome(common::runner(&["--detach"]).arg(rig.path("none")));
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.stderr.contains("cannot read the request"), "{}", outcome.stderr);
}

#[test]
fn orphans_that_have_ended_are_reaped_while_the_command_runs() {
    let rig = Rig::new();
    // Each is left by its parent, and ends; the last line counts what nobody has reaped.
    let script = "for i in $(seq 40); do (setsid sh -c 'echo $$ >> pids' &); done; \
                  until test $(wc -l < pids) = 40; do :; done; \
                  for try in $(seq 200); do left=0; for pid in $(cat pids); do \
                  test -e /proc/$pid && left=$((left + 1)); done; test $left = 0 && break; sleep 0.05; done; \
                  echo left $left";
    assert_eq!(rig.run(&rig.request(script)).code, Some(0));
    assert_eq!(rig.log_text(), "left 0\n");
}
