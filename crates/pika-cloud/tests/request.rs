//! The guest run request: strict, and all problems at once.

use pika_cloud::{GuestRunOptions, GuestRuntime, IncusGuestRunRequest, ParseError, RuntimePaths};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The problems of a request, as lines of text; none when it is sound.
fn problems(document: &Value) -> Vec<String> {
    problems_of(&document.to_string())
}

fn problems_of(text: &str) -> Vec<String> {
    let parsed = IncusGuestRunRequest::parse(text.as_bytes());
    let through_serde = serde_json::from_str::<IncusGuestRunRequest>(text);
    assert_eq!(parsed.is_ok(), through_serde.is_ok(), "both ways to read agree: {text}");
    match parsed {
        Ok(_) => Vec::new(),
        Err(ParseError::Invalid(errors)) => errors.iter().map(ToString::to_string).collect(),
        Err(error) => panic!("{error}"),
    }
}

/// A sound request with one key changed.
fn with(key: &str, value: Value) -> Value {
    let mut document =
        json!({ "schema_version": 2, "command": "true", "timeout_secs": 600, "run_as_root": false });
    document[key] = value;
    document
}

#[test]
fn only_versions_2_and_3_are_taken() {
    for known in [2, 3] {
        assert_eq!(problems(&with("schema_version", json!(known))), [""; 0]);
    }
    for other in [0, 1, 4, u64::from(u32::MAX) + 3, u64::MAX] {
        assert_eq!(
            problems(&with("schema_version", json!(other))),
            [format!("schema_version: {other} is not supported (allowed: 2 or 3)")]
        );
    }
    // Of another version nobody knows what belongs into it.
    let newer = json!({ "schema_version": 4, "program": "true", "limits": {} });
    assert_eq!(problems(&newer), ["schema_version: 4 is not supported (allowed: 2 or 3)"]);
    for wrong in [json!("2"), json!(2.0), json!(true), json!(null), json!(-2), json!([2])] {
        let expected = format!("schema_version: {wrong} is of the wrong type (allowed: 2 or 3)");
        assert_eq!(problems(&with("schema_version", wrong)), [expected]);
    }
}

#[test]
fn a_command_is_text_that_is_not_blank() {
    for good in ["x", " x", "a\nb", "é", "'"] {
        assert_eq!(problems(&with("command", json!(good))), [""; 0]);
    }
    for blank in ["", " ", "\n\t"] {
        let expected = format!("command: {} is blank (allowed: a shell command)", json!(blank));
        assert_eq!(problems(&with("command", json!(blank))), [expected]);
    }
    let nul = problems(&with("command", json!("a\0b")));
    assert_eq!(nul, [r#"command: "a\u0000b" has a NUL character (allowed: a shell command)"#]);
    for wrong in [json!(1), json!(null), json!(["true"])] {
        assert_eq!(problems(&with("command", wrong)).len(), 1);
    }
}

#[test]
fn a_timeout_is_a_whole_number_above_0_and_no_bool() {
    for good in [1, 600, u64::MAX] {
        assert_eq!(problems(&with("timeout_secs", json!(good))), [""; 0]);
    }
    assert_eq!(
        problems(&with("timeout_secs", json!(0))),
        ["timeout_secs: 0 is no time (allowed: a whole number of seconds above 0)"]
    );
    for wrong in [json!(true), json!(false), json!(1.5), json!(600.0), json!(-1), json!("600"), json!(null)] {
        let expected = format!(
            "timeout_secs: {wrong} is of the wrong type (allowed: a whole number of seconds above 0)"
        );
        assert_eq!(problems(&with("timeout_secs", wrong)), [expected]);
    }
}

#[test]
fn run_as_root_is_a_bool() {
    for good in [true, false] {
        assert_eq!(problems(&with("run_as_root", json!(good))), [""; 0]);
    }
    for wrong in [json!(0), json!(1), json!("true"), json!(null)] {
        let expected = format!("run_as_root: {wrong} is of the wrong type (allowed: true or false)");
        assert_eq!(problems(&with("run_as_root", wrong)), [expected]);
    }
}

#[test]
fn unknown_and_repeated_keys_are_problems() {
    assert_eq!(
        problems(&with("timeout", json!(1))),
        ["timeout: 1 is of an unknown key (allowed: schema_version, command, timeout_secs, run_as_root)"]
    );
    let text = r#"{"schema_version":2,"command":"a","command":"b","timeout_secs":1,"run_as_root":false}"#;
    assert_eq!(problems_of(text), [r#"command: "b" is of a repeated key (allowed: each key once)"#]);
}

#[test]
fn all_problems_of_a_request_are_told_at_once() {
    let error = IncusGuestRunRequest::parse(b"{}").unwrap_err();
    insta::assert_snapshot!(error, @r"
    the guest run request has 4 problems:
      schema_version: is missing (allowed: 2 or 3)
      command: is missing (allowed: a shell command)
      timeout_secs: is missing (allowed: a whole number of seconds above 0)
      run_as_root: is missing (allowed: true or false)
    ");
    let document = json!({ "schema_version": 3, "command": " ", "timeout_secs": true, "user": "x" });
    insta::assert_snapshot!(IncusGuestRunRequest::parse(document.to_string().as_bytes()).unwrap_err(), @r#"
    the guest run request has 4 problems:
      user: "x" is of an unknown key (allowed: schema_version, command, timeout_secs, run_as_root, env_file, cwd, uid, gid, artifact_globs, grace_secs, log_cap_bytes, runtime, paths)
      command: " " is blank (allowed: a shell command)
      timeout_secs: true is of the wrong type (allowed: a whole number of seconds above 0)
      run_as_root: is missing (allowed: true or false)
    "#);
}

#[test]
fn what_is_no_object_is_told_as_such() {
    for text in ["", "[]", "null", "2", "{", r#"{"command":}"#, "{} x", "\u{feff}{}"] {
        let error = IncusGuestRunRequest::parse(text.as_bytes()).unwrap_err();
        assert!(matches!(error, ParseError::Json { .. }), "{text:?}: {error}");
    }
    assert!(matches!(IncusGuestRunRequest::parse(b"\xff\xfe"), Err(ParseError::Json { .. })));
}

#[test]
fn a_request_that_breaks_a_rule_cannot_be_made() {
    let errors = IncusGuestRunRequest::new(" ", 0, true).unwrap_err();
    assert_eq!(errors.len(), 2);
}

/// A sound request of version 3 with one key more.
fn option(key: &str, value: Value) -> Value {
    let mut document = with("schema_version", json!(3));
    document[key] = value;
    document
}

#[test]
fn version_3_takes_options_and_version_2_does_not() {
    for (key, value) in [
        ("env_file", json!("/run/env.json")),
        ("cwd", json!("/workspace/snapshot")),
        ("uid", json!(1000)),
        ("gid", json!(0)),
        ("artifact_globs", json!(["target/**/*.xml", "!target/debug/**"])),
        ("grace_secs", json!(0)),
        ("log_cap_bytes", json!(1)),
        ("runtime", json!("incus")),
        ("paths", json!({})),
    ] {
        assert_eq!(problems(&option(key, value.clone())), [""; 0]);
        assert_eq!(problems(&option(key, json!(null))), [""; 0], "null is as good as absent");
        let [problem] = problems(&with(key, value)).try_into().unwrap();
        assert!(problem.contains("is of a key of version 3"), "{problem}");
    }
}

#[test]
fn options_of_the_wrong_kind_are_told() {
    for (key, value, expected) in [
        ("env_file", json!("env"), r#"env_file: "env" is relative (allowed: an absolute path without `..`)"#),
        (
            "cwd",
            json!("/a/../b"),
            r#"cwd: "/a/../b" has a `..` component (allowed: an absolute path without `..`)"#,
        ),
        ("cwd", json!(7), "cwd: 7 is of the wrong type (allowed: an absolute path without `..`)"),
        (
            "uid",
            json!(u32::MAX),
            "uid: 4294967295 is the number of nobody at all (allowed: a whole number from 0 to 4294967294)",
        ),
        ("uid", json!(-1), "uid: -1 is of the wrong type (allowed: a whole number from 0 to 4294967294)"),
        ("uid", json!(0), "uid: 0 is root, and run_as_root is false (allowed: another user, or no uid)"),
        (
            "gid",
            json!(4294967296_u64),
            "gid: 4294967296 is of the wrong type (allowed: a whole number from 0 to 4294967294)",
        ),
        (
            "artifact_globs",
            json!("x"),
            r#"artifact_globs: "x" is of the wrong type (allowed: a list of globs)"#,
        ),
        (
            "artifact_globs",
            json!(["x", "../y"]),
            r#"artifact_globs[1]: "../y" has a `.` or `..` component (allowed: a glob of files below the working directory)"#,
        ),
        (
            "grace_secs",
            json!(1.5),
            "grace_secs: 1.5 is of the wrong type (allowed: a whole number of seconds)",
        ),
        ("log_cap_bytes", json!(0), "log_cap_bytes: 0 is no size (allowed: a whole number of bytes above 0)"),
        (
            "runtime",
            json!("tart"),
            r#"runtime: "tart" is of the wrong type (allowed: incus or host_process)"#,
        ),
        (
            "paths",
            json!(["/a"]),
            r#"paths: ["/a"] is of the wrong type (allowed: an object of the eight paths)"#,
        ),
    ] {
        assert_eq!(problems(&option(key, value)), [expected]);
    }
}

#[test]
fn the_user_of_a_root_command_is_root() {
    let mut document = option("uid", json!(1000));
    document["run_as_root"] = json!(true);
    assert_eq!(
        problems(&document),
        ["uid: 1000 is not root, and run_as_root is true (allowed: 0, or no uid)"]
    );
    document["uid"] = json!(0);
    assert_eq!(problems(&document), [""; 0]);
}

#[test]
fn a_guest_has_canonical_paths_and_a_host_process_says_its_own() {
    let own = serde_json::to_value(RuntimePaths::in_dir("/w/runs/r/jobs/j/")).unwrap();
    assert_eq!(own["guest_log_path"], "/w/runs/r/jobs/j/logs/guest.log");
    let lines = problems(&option("paths", own.clone()));
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].contains("is not the canonical path"), "{lines:?}");

    let mut host = option("runtime", json!("host_process"));
    let missing = problems(&host);
    assert_eq!(
        missing,
        [
            "paths: is missing (allowed: the paths of a host process)",
            "cwd: is missing (allowed: the working directory of a host process)",
        ]
    );
    host["cwd"] = json!("/w/tree");
    host["paths"] = own.clone();
    assert_eq!(problems(&host), [""; 0]);

    host["paths"]["log_path"] = json!("/w/x");
    host["paths"]["status_path"] = json!("/w/runs/r/jobs/jj/status.json");
    let lines = problems(&host);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with(r#"paths.log_path: "/w/x" is of an unknown key"#), "{lines:?}");
    assert!(lines[1].contains("is outside state_dir"), "{lines:?}");
}

#[test]
fn options_are_written_as_they_were_made() {
    let options = GuestRunOptions {
        env_file: Some("/run/e".into()),
        uid: Some(7),
        artifact_globs: vec!["a/*".into()],
        runtime: GuestRuntime::HostProcess,
        cwd: Some("/w".into()),
        paths: Some(RuntimePaths::in_dir("/s")),
        ..GuestRunOptions::default()
    };
    let request = IncusGuestRunRequest::with_options("true", 1, false, options.clone()).unwrap();
    assert_eq!(request.schema_version(), 3);
    let value = serde_json::to_value(&request).unwrap();
    let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "schema_version",
            "command",
            "timeout_secs",
            "run_as_root",
            "env_file",
            "cwd",
            "uid",
            "artifact_globs",
            "runtime",
            "paths"
        ]
    );
    assert_eq!(serde_json::from_value::<IncusGuestRunRequest>(value).unwrap().options(), &options);
    let plain = serde_json::to_value(IncusGuestRunRequest::new("true", 1, false).unwrap()).unwrap();
    assert_eq!((plain["schema_version"].clone(), plain.as_object().unwrap().len()), (json!(2), 4));
}

proptest! {
    #[test]
    fn what_is_written_is_what_is_read(command in ".*\\S.*", timeout_secs in 1_u64.., run_as_root: bool) {
        prop_assume!(!command.contains('\0'));
        let request = IncusGuestRunRequest::new(&command, timeout_secs, run_as_root).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("guest-request.json");
        request.write(&path).unwrap();
        let read = IncusGuestRunRequest::load(&path).unwrap();
        prop_assert_eq!(read.command(), command);
        prop_assert_eq!(read.timeout_secs(), timeout_secs);
        prop_assert_eq!(read.run_as_root(), run_as_root);
    }
}
