//! The guest run request: strict, and all problems at once.

use pika_cloud::{IncusGuestRunRequest, ParseError};
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
fn only_version_2_is_taken() {
    assert_eq!(problems(&with("schema_version", json!(2))), [""; 0]);
    for other in [0, 1, 3, u64::MAX] {
        assert_eq!(
            problems(&with("schema_version", json!(other))),
            [format!("schema_version: {other} is not supported (allowed: 2)")]
        );
    }
    for wrong in [json!("2"), json!(2.0), json!(true), json!(null), json!(-2), json!([2])] {
        let expected = format!("schema_version: {wrong} is of the wrong type (allowed: 2)");
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
      schema_version: is missing (allowed: 2)
      command: is missing (allowed: a shell command)
      timeout_secs: is missing (allowed: a whole number of seconds above 0)
      run_as_root: is missing (allowed: true or false)
    ");
    let document = json!({ "schema_version": 1, "command": " ", "timeout_secs": true, "user": "x" });
    insta::assert_snapshot!(IncusGuestRunRequest::parse(document.to_string().as_bytes()).unwrap_err(), @r#"
    the guest run request has 5 problems:
      user: "x" is of an unknown key (allowed: schema_version, command, timeout_secs, run_as_root)
      schema_version: 1 is not supported (allowed: 2)
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
