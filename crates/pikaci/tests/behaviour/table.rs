//! The table of rules names tests that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Whether the source defines a test of this name.
fn has_test(text: &str, name: &str) -> bool {
    let needle = format!("fn {name}(");
    let Some(at) = text.find(&needle) else { return false };
    // What stands above: its attributes and, inside a macro, the blanks before `fn`.
    let mut above =
        text[..at].lines().rev().map(str::trim).take_while(|line| line.is_empty() || line.starts_with('#'));
    above.any(|line| line == "#[test]")
}

#[test]
fn every_test_that_the_table_of_rules_names_exists() {
    let root = jericho_testkit::crate_dir!().join("../..").canonicalize().unwrap();
    let table = fs::read_to_string(root.join("docs/behaviour.md")).unwrap();
    // `path::name`, in backquotes, where the path ends in `.rs`.
    let named: BTreeSet<(&str, &str)> =
        table.split('`').skip(1).step_by(2).filter_map(|code| code.split_once(".rs::")).collect();
    assert!(named.len() > 60, "{} tests are named", named.len());
    let mut missing = Vec::new();
    for (path, name) in &named {
        let text = fs::read_to_string(root.join(format!("{path}.rs"))).unwrap_or_default();
        if !has_test(&text, name) {
            missing.push(format!("{path}.rs::{name}"));
        }
    }
    assert_eq!(missing, Vec::<String>::new());
    let mut own = Vec::new();
    sources(&jericho_testkit::crate_dir!().join("tests/behaviour"), &mut own);
    let mut unnamed = Vec::new();
    for path in own {
        let text = fs::read_to_string(&path).unwrap();
        let file = path.strip_prefix(&root).unwrap_or(&path).to_string_lossy().into_owned();
        for (_, rest) in text.match_indices("#[test]\nfn ").map(|(at, found)| text.split_at(at + found.len()))
        {
            let name = rest.split('(').next().unwrap();
            if !table.contains(&format!("::{name}`")) {
                unnamed.push(format!("{file}::{name}"));
            }
        }
    }
    assert_eq!(unnamed, Vec::<String>::new(), "tests without a rule");
}
