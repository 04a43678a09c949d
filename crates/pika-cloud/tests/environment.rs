//! The environment of a guest's command.

use pika_cloud::{GuestEnvironment, ParseError};
use serde_json::{Value, json};

fn parsed(document: &Value) -> Result<GuestEnvironment, ParseError> {
    GuestEnvironment::parse(document.to_string().as_bytes())
}

#[test]
fn the_frozen_sample_loads_and_is_written_as_the_same_value() {
    let sample = include_str!("fixtures/guest-environment.json");
    let environment = GuestEnvironment::parse(sample.as_bytes()).unwrap();
    let written: Value = serde_json::from_slice(&environment.to_json().unwrap()).unwrap();
    assert_eq!(written, serde_json::from_str::<Value>(sample).unwrap());
    assert_eq!(environment.secret_values().collect::<Vec<_>>(), ["correct horse", "battery staple\n"]);
    assert_eq!(format!("{environment:?}"), r#"["CI", "NPM_TOKEN", "SSH_KEY"]"#);
}

#[test]
fn a_secret_is_a_variable_that_can_be_masked() {
    let document = json!({
        "schema_version": 1, "variables": { "A=": "x", "B": "x\0y", "SHORT": "abc", "C/D": "long enough" },
        "secrets": ["SHORT", "NONE"], "secret_files": ["C/D"],
    });
    let Err(ParseError::Invalid(errors)) = parsed(&document) else { panic!() };
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            r#"variables: "A=" is no name of a variable (allowed: a name without `=` and NUL)"#,
            r#"variables: "B" has a value with a NUL (allowed: text without NUL)"#,
            r#"secrets: "NONE" is no variable (allowed: a name of `variables`)"#,
            r#"secret_files: "C/D" has a `/` (allowed: a name that a file can have)"#,
            r#"secrets: "SHORT" has a value too short to be masked (allowed: 4 bytes or more)"#,
        ]
    );
}

#[test]
fn unknown_keys_and_versions_are_refused_and_no_value_is_shown() {
    assert!(matches!(
        parsed(&json!({ "schema_version": 2 })),
        Err(ParseError::SchemaVersion { found: 2, .. })
    ));
    for document in [
        json!({ "schema_version": 1, "secret": ["hunter22"] }),
        json!({ "schema_version": 1, "variables": { "A": ["hunter22"] } }),
        json!({ "schema_version": 1, "variables": "hunter22" }),
    ] {
        let error = parsed(&document).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("hunter"), "{error}");
    }
}
