//! What a job sees of who called.

use std::collections::BTreeMap;

use crate::common::{Ended, Tree, Way, each_way};
use serde_json::Value;

const TARGETS: &str = r#"
[targets.env.jobs.env]
command = ["env", "-0"]
env = { DECLARED = "yes" }
[targets.git.jobs.git]
command = "git rev-parse --show-toplevel 2>/dev/null && exit 9; git init -q . && git rev-parse --show-toplevel"
"#;

const SECRETS: &[(&str, &str)] = &[
    ("SSH_AUTH_SOCK", "/tmp/agent"),
    ("SSH_AGENT_PID", "1"),
    ("GITHUB_TOKEN", "hidden"),
    ("AWS_SECRET_ACCESS_KEY", "hidden"),
    ("CARGO_REGISTRY_TOKEN", "hidden"),
    ("GIT_AUTHOR_EMAIL", "hidden"),
    ("LD_PRELOAD", ""),
    ("BASH_ENV", "/nonexistent"),
    ("CARGO_TARGET_DIR", "/nonexistent/target"),
];

fn run(way: Way, more: &[&str]) -> (Value, BTreeMap<String, String>) {
    let tree = Tree::new(way, TARGETS);
    let mut args = vec!["run", "env", "--output", "json"];
    args.extend(more);
    let mut pikaci = tree.pikaci(&args);
    pikaci.envs(SECRETS.iter().copied()).env("LANG", "C.UTF-8").env("TERM", "dumb");
    let record = Ended::of(pikaci.output().unwrap()).code(0).json();
    let log = tree.host_log(record["run_id"].as_str().unwrap(), "env");
    let text = String::from_utf8(log).unwrap();
    let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    (record, text.split('\0').filter_map(pair).collect())
}

/// What is recorded about a setting: its value and where it came from.
fn setting(record: &Value, name: &str) -> (String, String) {
    let all = record["settings"].as_array().unwrap();
    let found = all.iter().find(|setting| setting["name"] == name).unwrap();
    let word = |key: &str| found[key].as_str().unwrap().to_owned();
    (word("value"), word("origin"))
}

#[test]
fn jobs_see_no_secret_and_no_ssh_agent_of_the_caller() {
    each_way(|way| {
        let (record, seen) = run(way, &[]);
        for (name, value) in SECRETS {
            assert_ne!(seen.get(*name).map(String::as_str), Some(*value), "{name}");
        }
        assert!(!seen.contains_key("SSH_AUTH_SOCK") && !seen.contains_key("GITHUB_TOKEN"), "{seen:#?}");
        for name in
            ["PATH", "HOME", "LANG", "TERM", "DECLARED", "ARTIFACTS", "CARGO_HOME", "CARGO_TARGET_DIR"]
        {
            assert!(seen.contains_key(name), "{name}: {seen:#?}");
        }
        assert_eq!(setting(&record, "inherit_env"), ("false".into(), "default".into()));
        let recorded = record["jobs"][0]["environment"].to_string();
        assert!(recorded.contains("DECLARED") && !recorded.contains("GITHUB_TOKEN"), "{recorded}");
        assert!(!record.to_string().contains("hidden"), "names are recorded, never values");
    });
}

#[test]
fn inherit_env_passes_everything_and_is_recorded() {
    let (record, seen) = run(Way::usual(), &["--inherit-env"]);
    assert_eq!(seen.get("SSH_AUTH_SOCK").map(String::as_str), Some("/tmp/agent"));
    assert_eq!(seen.get("GITHUB_TOKEN").map(String::as_str), Some("hidden"));
    assert_ne!(seen["CARGO_TARGET_DIR"], "/nonexistent/target", "what the engine promises stays");
    assert_eq!(setting(&record, "inherit_env"), ("true".into(), "flag".into()));
    let recorded = record["jobs"][0]["environment"].to_string();
    assert!(recorded.contains("GITHUB_TOKEN") && !recorded.contains("hidden"), "{recorded}");
}

#[test]
fn git_inside_a_job_does_not_find_the_users_repository() {
    each_way(|way| {
        let tree = Tree::new(way, TARGETS);
        let record = tree.record_of(&["run", "git"]);
        assert_eq!(record["status"], "passed", "{record:#}");
        let log = tree.host_log(record["run_id"].as_str().unwrap(), "git");
        let top = String::from_utf8(log).unwrap();
        assert!(top.starts_with(tree.state_root().to_str().unwrap()), "{top}");
    });
}

#[test]
fn no_value_of_the_environment_is_in_the_arguments_of_any_process() {
    let tree = Tree::with(
        "[targets.show.jobs.show]\ncommand = \"cat /proc/*/cmdline | tr '\\\\0' ' '\"\nenv = { KEY = \"very-secret\" }\n",
    );
    let record = tree.record_of(&["run", "show"]);
    assert_eq!(record["jobs"].as_array().unwrap().len(), 1, "{record:#}");
    let log = tree.host_log(record["run_id"].as_str().unwrap(), "show");
    assert!(!String::from_utf8_lossy(&log).contains("very-secret"));
}
