//! The schema and the reader say the same, and the documentation says it too.

use std::fmt::Write as _;

use jsonschema::Validator;
use proptest::prelude::*;

use super::super::keys::{CACHE, JOB, KeySpec, SECRET, SETTINGS, STAGED, TARGET};
use super::super::{Declared, parse};
use super::*;
use crate::operator::Operator;
use crate::targets::{Origin, TargetError};

/// Every table of a file: what stands before its keys, and what a key may need beside it.
const TABLES: [(&TableSpec, &str, &str); 7] = [
    (&FILE, "", ""),
    (&SETTINGS, "[settings]\n", ""),
    (&TARGET, "[targets.t]\n", "[targets.t.jobs.a]\ncommand = 'x'\n"),
    (&JOB, "[targets.t.jobs.a]\n", "command = 'x'\n"),
    (
        &STAGED,
        "[targets.t.jobs.a]\ncommand = 'x'\n[targets.t.jobs.a.staged]\n",
        "deps = 'a'\nbuild = 'b'\nprefix = 'p'\n",
    ),
    (&CACHE, "[targets.t.jobs.a]\ncommand = 'x'\n[targets.t.jobs.a.caches.c]\n", "path = 'p'\n"),
    (&SECRET, "[targets.t.jobs.a]\ncommand = 'x'\n[[targets.t.jobs.a.secrets]]\n", "name = 'A'\n"),
];

const USER_TABLES: [(&TableSpec, &str, &str); 4] = [
    (&user::FILE, "", ""),
    (&user::HOST, "[hosts.h]\n", ""),
    (&user::INCUS, "[hosts.h.incus]\n", ""),
    (&user::SECRETS, "[secrets]\n", ""),
];

/// Values of every type, and some that look nearly right.
const VALUES: [&str; 24] = [
    "'x'",
    "''",
    "'1h'",
    "'4GiB'",
    "'local'",
    "'${x}'",
    "1",
    "0",
    "-1",
    "1000",
    "1.5",
    "true",
    "[]",
    "['x']",
    "['']",
    "[1]",
    "[['x']]",
    "[{}]",
    "{}",
    "{ x = 'y' }",
    "{ x = 1 }",
    "{ x = ['y'] }",
    "{ x = {} }",
    "{ '' = 'y' }",
];

fn validator(schema: &Value) -> Validator {
    jsonschema::draft7::new(schema).unwrap()
}

fn read(text: &str) -> Result<Declared, TargetError> {
    parse(text.as_bytes(), &Origin::BuiltIn, &[], None)
}

fn read_user(text: &str) -> Result<(), TargetError> {
    Operator::parse("config.toml", text.as_bytes()).map(drop)
}

fn as_json(text: &str) -> Value {
    serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap()
}

/// The file with a value for a key, without what it has for that key already.
fn with((_, before, beside): (&TableSpec, &str, &str), key: &KeySpec, value: &str) -> String {
    let header = beside.starts_with('[');
    let mut rest = String::new();
    for line in beside.lines().filter(|line| header || !line.starts_with(&format!("{} ", key.name))) {
        let _ = writeln!(rest, "{line}");
    }
    match key.name {
        // A table cannot be both.
        "jobs" if header => format!("{before}{} = {value}\n", key.name),
        _ => format!("{before}{} = {value}\n{rest}", key.name),
    }
}

/// What the two say of a text; they may differ only where the reader knows more.
#[track_caller]
fn agree(schema: &Validator, text: &str, read: Result<(), TargetError>) {
    let valid = schema.is_valid(&as_json(text));
    match read {
        Ok(()) => assert!(valid, "the schema refuses what is read:\n{text}"),
        Err(TargetError::Toml { problems, .. }) => {
            let shape = |message: &str| {
                message.contains(": expected ")
                    || message.contains("unknown key")
                    || message.contains("has no `")
            };
            if let Some(problem) = problems.iter().find(|problem| shape(&problem.message)) {
                assert!(!valid, "the schema takes what is refused: {problem}\n{text}");
            }
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn the_schema_and_the_reader_agree_on_every_key_and_every_type() {
    let schema = validator(&of_targets());
    for table in TABLES {
        for key in table.0.keys {
            for value in VALUES {
                let text = with(table, key, value);
                agree(&schema, &text, read(&text).map(drop));
            }
        }
    }
    let schema = validator(&of_user_file());
    for table in USER_TABLES {
        for key in table.0.keys {
            for value in VALUES {
                let text = with(table, key, value);
                agree(&schema, &text, read_user(&text));
            }
        }
    }
}

#[test]
fn every_key_of_the_table_is_read() {
    // No key has a date, so whoever reads it says so at its place.
    let told = |result: Result<(), TargetError>, text: &str, key: &KeySpec| {
        let Err(TargetError::Toml { problems, .. }) = result else { panic!("not read: {text}") };
        let line = 1 + text.lines().position(|line| line.starts_with(&format!("{} = 19", key.name))).unwrap();
        assert!(problems.iter().any(|problem| problem.line == line), "{problems:?}\n{text}");
    };
    for table in TABLES {
        for key in table.0.keys {
            let text = with(table, key, "1979-05-27");
            told(read(&text).map(drop), &text, key);
        }
    }
    for table in USER_TABLES {
        for key in table.0.keys {
            let text = with(table, key, "1979-05-27");
            told(read_user(&text), &text, key);
        }
    }
}

#[test]
fn words_that_a_key_can_have_are_those_of_the_schema() {
    for table in TABLES {
        for key in table.0.keys {
            let Shape::Word(words) = key.shape else { continue };
            for word in words {
                let text = with(table, key, &format!("'{word}'"));
                assert!(!read(&text).is_err_and(|error| error.to_string().contains("cannot be")), "{text}");
            }
        }
    }
}

#[test]
fn the_schemas_of_the_documentation_are_current() {
    for (schema, written, command) in [
        (of_targets(), include_str!("../../../../../../docs/jericho.schema.json"), "pikaci schema"),
        (of_user_file(), include_str!("../../../../../../docs/config.schema.json"), "pikaci schema --user"),
    ] {
        let current = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        assert!(current == written, "write it anew: {command}");
    }
}

/// The rows of a table of the documentation.
fn rows(spec: &TableSpec) -> String {
    spec.keys.iter().fold("| key | value | when absent |\n|---|---|---|\n".to_owned(), |mut rows, key| {
        let _ = writeln!(rows, "| `{}` | {} | {} |", key.name, key.about, key.absent);
        rows
    })
}

#[test]
fn the_tables_of_the_documentation_have_every_key() {
    let targets = include_str!("../../../../../../docs/targets.md");
    for (spec, _, _) in TABLES {
        let page = match std::ptr::eq(spec.keys, SETTINGS.keys) {
            true => include_str!("../../../../../../docs/configuration.md"),
            false => targets,
        };
        assert!(page.contains(&rows(spec)), "the documentation lacks:\n{}", rows(spec));
    }
    let configuration = include_str!("../../../../../../docs/configuration.md");
    for (spec, _, _) in USER_TABLES {
        assert!(configuration.contains(&rows(spec)), "the documentation lacks:\n{}", rows(spec));
    }
}

/// The TOML of a page, each with the line before it.
fn examples(page: &str) -> Vec<&str> {
    page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn the_examples_of_the_documentation_are_read_and_valid() {
    let schema = validator(&of_targets());
    let page = include_str!("../../../../../../docs/targets.md");
    let examples_of_targets: Vec<&str> =
        examples(page).into_iter().filter(|text| text.contains("[targets.")).collect();
    assert!(examples_of_targets.len() >= 9, "{}", examples_of_targets.len());
    for text in examples_of_targets {
        let problems = read(text).err().map(|error| error.to_string());
        assert_eq!(problems, None, "{text}");
        let errors: Vec<String> = schema.iter_errors(&as_json(text)).map(|error| error.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new(), "{text}");
    }
    let schema = validator(&of_user_file());
    let page = include_str!("../../../../../../docs/configuration.md");
    let of_user: Vec<&str> = examples(page).into_iter().filter(|text| text.contains("[hosts.")).collect();
    assert!(!of_user.is_empty());
    for text in of_user {
        assert_eq!(read_user(text).err().map(|error| error.to_string()), None, "{text}");
        assert!(schema.is_valid(&as_json(text)), "{text}");
    }
}

#[test]
fn a_schema_is_words_for_people_without_links() {
    assert_eq!(
        plain("a host of the [user's file](configuration.md), or `[x]`"),
        "a host of the user's file, or `[x]`"
    );
    for schema in [of_targets(), of_user_file()] {
        assert!(!schema.to_string().contains("]("), "{schema}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn what_the_schema_refuses_is_not_read(
        entries in prop::collection::vec((0..JOB.keys.len(), prop::sample::select(VALUES.to_vec())), 0..6),
    ) {
        let mut seen = std::collections::BTreeSet::new();
        let mut text = "[targets.t.jobs.a]\n".to_owned();
        for (key, value) in entries {
            let name = JOB.keys[key].name;
            if seen.insert(name) {
                let _ = writeln!(text, "{name} = {value}");
            }
        }
        agree(&validator(&of_targets()), &text, read(&text).map(drop));
    }
}
