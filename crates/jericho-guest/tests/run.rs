//! One request, from its file to its result, by the real program.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use common::Rig;
use pika_cloud::LifecycleState::{Booted, Completed, Failed, Ready, Starting};
use pika_cloud::RuntimeResultStatus;
use serde_json::json;

#[test]
fn a_command_that_passes_leaves_all_files_and_its_output_twice() {
    let rig = Rig::new();
    let outcome = rig.run(&rig.request("echo one; echo two >&2; pwd"));
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    let result = rig.result();
    assert_eq!((result.status, result.exit_code), (RuntimeResultStatus::Completed, Some(0)));
    assert_eq!(result.message, "test passed");
    assert_eq!(rig.kinds(), [Booted, Starting, Ready, Completed]);
    let log = rig.log();
    assert_eq!(String::from_utf8(log.clone()).unwrap(), format!("one\ntwo\n{}\n", rig.work().display()));
    assert_eq!(outcome.stdout, log);
    assert_eq!(rig.detail("log"), json!({ "bytes": log.len(), "left_out": 0 }));
}

#[test]
fn the_runner_ends_with_the_code_of_the_command() {
    for (command, code, message) in [
        ("exit 7", 7, "test failed with exit code 7"),
        ("exit 2", 2, "test failed with exit code 2"),
        ("kill -9 $$", 137, "test was ended by signal 9"),
        ("no-such-program", 127, "test failed with exit code 127"),
    ] {
        let rig = Rig::new();
        assert_eq!(rig.run(&rig.request(command)).code, Some(code), "{command}");
        let result = rig.result();
        assert_eq!((result.exit_code, result.message.as_str()), (Some(code), message));
        assert_eq!(rig.detail("failure_kind"), "test_failure");
        assert_eq!(rig.kinds(), [Booted, Starting, Ready, Failed]);
    }
}

#[test]
fn a_request_that_breaks_a_rule_fails_where_its_paths_say() {
    for (key, value, told) in [
        ("nonsense", json!(1), "is of an unknown key"),
        ("timeout_secs", json!(true), "is of the wrong type"),
        ("schema_version", json!(4), "is not supported"),
        ("schema_version", json!(2), "is of a key of version 3"),
    ] {
        let rig = Rig::new();
        let mut request = rig.request("echo started > started");
        request[key] = value;
        let outcome = rig.run(&request);
        assert_eq!((outcome.code, outcome.stdout.as_slice()), (Some(2), b"".as_slice()));
        assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
        let result = rig.result();
        assert_eq!((result.status, result.exit_code), (RuntimeResultStatus::Failed, Some(2)));
        assert!(result.message.contains(told), "{}", result.message);
        assert_eq!(rig.detail("failure_kind"), "infrastructure");
        assert_eq!(rig.kinds(), [Failed]);
        assert!(!rig.work().join("started").exists());
    }
}

#[test]
fn what_keeps_a_command_from_being_started_is_no_failure_of_the_command() {
    type Change = fn(&Rig, &mut serde_json::Value);
    let changes: [(Change, &str); 5] = [
        (|rig, request| request["cwd"] = json!(rig.path("nowhere")), "cannot use the working directory"),
        (
            |rig, request| request["cwd"] = json!(rig.write_request(&json!({}))),
            "cannot use the working directory",
        ),
        (|rig, request| request["env_file"] = json!(rig.path("none")), "cannot be read"),
        (
            |rig, request| {
                let file = rig
                    .write_environment(&json!({ "schema_version": 1, "variables": { "PATH": "/nowhere" } }));
                request["env_file"] = json!(file);
            },
            "there is neither bash nor sh in /nowhere",
        ),
        (
            |rig, request| {
                let file =
                    rig.write_environment(&json!({ "schema_version": 1, "variables": { "PATH": "" } }));
                request["env_file"] = json!(file);
            },
            "there is neither bash nor sh: the PATH of the command is empty",
        ),
    ];
    for (change, told) in changes {
        let rig = Rig::new();
        let mut request = rig.request("true");
        change(&rig, &mut request);
        let outcome = rig.run(&request);
        assert_eq!(outcome.code, Some(2));
        assert!(rig.result().message.contains(told), "{}", rig.result().message);
        assert_eq!(rig.kinds(), [Booted, Failed]);
    }
}

#[test]
fn output_is_bytes() {
    let rig = Rig::new();
    let outcome = rig.run(&rig.request(r"printf '\377\376\000x\r\n'; printf 'no newline'"));
    assert_eq!(rig.log(), b"\xff\xfe\0x\r\nno newline");
    assert_eq!(outcome.stdout, rig.log());
}

#[test]
fn a_broken_pipe_ends_a_command_as_it_does_in_a_terminal() {
    let rig = Rig::new();
    rig.run(&rig.request(r"yes | head -n 1; echo ${PIPESTATUS[0]}"));
    assert_eq!(rig.log_text(), "y\n141\n");
}

#[test]
fn the_umask_of_whoever_starts_the_runner_is_not_that_of_the_command() {
    let rig = Rig::new();
    let mut request = rig.request("umask; echo 1 > file");
    request["artifact_globs"] = json!(["file"]);
    let mut sh = common::command("sh");
    sh.args(["-c", "umask 077; exec \"$0\" \"$1\""])
        .arg(jericho_testkit::built_program!("jerichoci-incus-run"));
    assert_eq!(common::outcome(sh.arg(rig.write_request(&request))).code, Some(0));
    assert_eq!(rig.log_text(), "0022\n");
    let artifact = fs::metadata(Path::new(&rig.paths.artifacts_dir).join("file")).unwrap();
    assert_eq!(artifact.permissions().mode() & 0o777, 0o644);
}

#[test]
fn a_command_sees_little_of_the_runner_s_environment() {
    let rig = Rig::new();
    let mut runner = common::runner(&[]);
    runner.env_clear().env("LANG", "C.UTF-8").env("SSH_AUTH_SOCK", "/s").env("TOKEN", "t");
    common::outcome(runner.arg(rig.write_request(&rig.request("env"))));
    let log = rig.log_text();
    let mut names: Vec<&str> = log.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.sort_unstable();
    let expected =
        ["ARTIFACTS", "HOME", "JERICHOCI_JOB", "LANG", "LOGNAME", "PATH", "PWD", "SHLVL", "USER", "_"];
    assert_eq!(names, expected);
    assert!(log.contains("/usr/bin:/sbin:/bin:/run/current-system/sw/bin"), "{log}");
}

#[test]
fn secrets_reach_the_command_and_nothing_else() {
    let rig = Rig::new();
    let file = rig.write_environment(&json!({
        "schema_version": 1,
        "variables": { "PLAIN": "visible", "TOKEN": "hunter22", "KEY": "correct horse\n", "JERICHOCI_JOB": "r/j/1" },
        "secrets": ["TOKEN"], "secret_files": ["KEY"],
    }));
    let script = "echo $PLAIN $TOKEN ${KEY-unset} $JERICHOCI_JOB; cat $KEY_FILE; stat -c %a $KEY_FILE; \
                  printf hunt; printf er22; echo; printf $TOKEN | base64; test ! -e ../env.json && echo gone; \
                  echo $KEY_FILE > ../key-file; test $TOKEN = hunter22";
    let mut request = rig.request(script);
    request["env_file"] = json!(file);
    let outcome = rig.run(&request);
    assert_eq!(outcome.code, Some(0));
    assert_eq!(rig.log_text(), "visible *** unset r/j/1\n***\n400\n***\n***\ngone\n");
    assert_eq!(outcome.stdout, rig.log());
    let key_file = fs::read_to_string(rig.path("key-file")).unwrap();
    assert!(!Path::new(key_file.trim()).parent().unwrap().exists(), "the secret file stayed");
    for entry in fs::read_dir(rig.path("state")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read(&path).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&text).contains("hunter22"), "{}", path.display());
    }
}

#[test]
fn an_environment_file_that_others_can_read_is_refused_and_removed() {
    let rig = Rig::new();
    let file = rig.write_environment(&json!({ "schema_version": 1, "variables": { "A": "hunter22" } }));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let mut request = rig.request("true");
    request["env_file"] = json!(file);
    assert_eq!(rig.run(&request).code, Some(2));
    assert!(rig.result().message.contains("can be read by others (mode 0644"), "{}", rig.result().message);
    assert!(!file.exists());
}

#[test]
fn artifacts_come_from_the_working_directory_and_links_out_of_it_do_not() {
    let rig = Rig::new();
    fs::write(rig.path("secret.xml"), "secret").unwrap();
    symlink("../secret.xml", rig.work().join("out.xml")).unwrap();
    let script = "mkdir -p a/b && echo 1 > a/b/x.xml && echo 2 > y.xml && echo 3 > y.txt && ln -s y.txt z.xml; \
                  echo own > $ARTIFACTS/own; exit 4";
    let mut request = rig.request(script);
    request["artifact_globs"] = json!(["**/*.xml", "!a/none"]);
    assert_eq!(rig.run(&request).code, Some(4));
    let artifacts = Path::new(&rig.paths.artifacts_dir);
    for (name, content) in [("a/b/x.xml", "1\n"), ("y.xml", "2\n"), ("z.xml", "3\n"), ("own", "own\n")] {
        assert_eq!(fs::read_to_string(artifacts.join(name)).unwrap(), content, "{name}");
    }
    assert!(fs::symlink_metadata(artifacts.join("out.xml")).is_err());
    let told = rig.detail("artifacts");
    assert_eq!((&told["files"], &told["bytes"]), (&json!(3), &json!(6)));
    assert_eq!(told["warnings"], json!(["out.xml: the link leads out of the working directory"]));
}

#[test]
fn what_a_command_puts_among_its_artifacts_stays_and_what_an_earlier_one_left_does_not() {
    let rig = Rig::new();
    let artifacts = Path::new(&rig.paths.artifacts_dir);
    let run = |script: &str| {
        let mut request = rig.request(script);
        request["artifact_globs"] = json!(["out.txt"]);
        assert_eq!(rig.run(&request).code, Some(0));
        fs::read_to_string(artifacts.join("out.txt")).unwrap()
    };
    assert_eq!(run("echo own >$ARTIFACTS/out.txt; echo copy >out.txt"), "own\n");
    let told = rig.detail("artifacts");
    assert_eq!((&told["files"], &told["own"]), (&json!(0), &json!(["out.txt"])));
    let why = "out.txt: the job has written a file of that name to $ARTIFACTS";
    assert_eq!(told["warnings"], json!([why]));
    // Started again in the same guest, what lies there is that of another attempt.
    assert_eq!(run("echo again >out.txt"), "again\n");
    let told = rig.detail("artifacts");
    assert_eq!((&told["files"], &told["own"]), (&json!(1), &json!(null)));
}

#[test]
fn a_second_request_goes_on_counting_and_forgets_the_first_result() {
    let rig = Rig::new();
    rig.run(&rig.request("echo first; exit 1"));
    assert_eq!(rig.run(&rig.request("echo second; test ! -e ../state/result.json")).code, Some(0));
    assert_eq!(rig.kinds(), [Booted, Starting, Ready, Failed, Booted, Starting, Ready, Completed]);
    assert_eq!(rig.log_text(), "second\n");
    assert_eq!(rig.result().exit_code, Some(0));
}

#[test]
fn a_second_runner_in_one_directory_touches_nothing() {
    let rig = Rig::new();
    let (started, go) = (rig.fifo("started"), rig.fifo("go"));
    let request = rig.request("echo > started; cat go; exit 5");
    let mut first = rig.start(&request);
    fs::read(&started).unwrap();
    let second = rig.run(&request);
    assert_eq!(second.code, Some(2));
    assert!(second.stderr.contains("another runner is at work"), "{}", second.stderr);
    fs::write(&go, "").unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(5));
    assert_eq!(rig.result().exit_code, Some(5));
    assert_eq!(rig.kinds(), [Booted, Starting, Ready, Failed], "of one runner");
}

#[test]
fn a_log_of_200_mb_takes_flat_memory_and_keeps_head_and_end() {
    const CAP: u64 = 100 << 20;
    let rig = Rig::new();
    let (written, go) = (rig.fifo("written"), rig.fifo("go"));
    let script =
        "echo head; head -c 200000000 /dev/zero | tr '\\0' x; echo > written; cat go; echo; echo end";
    let mut request = rig.request(script);
    request["log_cap_bytes"] = json!(CAP);
    let mut runner = rig.start(&request);
    fs::read(&written).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", runner.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 32 << 10, "{peak} KiB");
    let before = fs::metadata(&rig.paths.guest_log_path).unwrap().len();
    assert!(before <= CAP - (50 << 20), "{before}");
    fs::write(&go, "").unwrap();
    assert_eq!(runner.wait().unwrap().code(), Some(0));
    let log = rig.log();
    assert!(log.starts_with(b"head\nxxx") && log.ends_with(b"xxx\nend\n"));
    let marker = b"\n[jerichoci] the log is over its limit: ";
    let at = usize::try_from(CAP - (50 << 20)).unwrap();
    assert_eq!(&log[at..at + marker.len()], marker);
    assert!(log.len() as u64 <= CAP + 200);
    assert_eq!(rig.detail("log")["left_out"], json!(200_000_010 - CAP));
    let left = fs::read_dir(Path::new(&rig.paths.logs_dir)).unwrap().count();
    assert_eq!(left, 1, "segments of the log stayed");
}
