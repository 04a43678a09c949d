//! `pikaci plan`.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::Stdio;

use crate::common::{Tree, command, steady};

const TARGETS: &str = r#"
[targets.check]
description = "What \"every\" change must pass"
paths = ["src/**", "!**/*.md"]
default = true
trigger = "branch"

[targets.check.jobs.test]
needs = ["fmt"]
command = """
echo one
echo two
"""
timeout = "1h30m"
group = "one-db"

[targets.check.jobs.fmt]
description = "Formatting"
command = ["echo", "a b"]
timeout = "5m"

[groups]
one-db = 2
"#;

#[test]
fn a_plan_shows_jobs_in_an_order_in_which_they_may_start_and_writes_nothing() {
    let tree = Tree::with_targets(TARGETS);
    let ended = tree.run(&["plan"]).code(0);
    insta::assert_snapshot!(ended.stdout, @r#"
    check: What "every" change must pass
    would run: whatever its path filters say: no change list: the repository has no remote
    filters: src/**  !**/*.md
    trigger: branch

    2 jobs:
      1. fmt: Formatting
         local host_process; at most 5m
         $ echo 'a b'
      2. test
         local host_process; at most 1h30m; after fmt; group one-db (2 at once)
         $ echo one …
    "#);
    assert_eq!(ended.stderr, "");
    for form in ["json", "dot"] {
        tree.run(&["plan", "check", "--output", form]).code(0);
    }
    assert!(!tree.state_root().exists());
}

#[test]
fn a_plan_of_staged_jobs_shows_what_is_built_for_them_where_and_who_gets_it() {
    let targets = r#"
[targets.staged]
default = true
[targets.staged.jobs.there]
command = "run-it"
on = "builder"
runtime = "incus"
staged = { deps = "ci.d", build = "ci.b", prefix = "p" }
[targets.staged.jobs.here]
command = "run-it"
staged = { deps = "ci.d", build = "ci.b", prefix = "q" }
"#;
    let tree = Tree::with_targets(targets);
    tree.write("config.toml", "[hosts.builder]\nssh = \"builder\"\n");
    let text = tree.run(&["--config", "config.toml", "plan"]).code(0).stdout;
    let prepared: Vec<&str> = text.lines().skip_while(|line| *line != "prepared first:").take(6).collect();
    insta::assert_snapshot!(prepared.join("\n"), @"
    prepared first:
      prepare-p-workspace-deps: nix build ci.d on builder, where it stays; 1 job gets a link to it, and waits for it
      prepare-p-workspace-build: nix build ci.b on builder, where it stays, after prepare-p-workspace-deps; 1 job gets a link to it, and waits for it
      prepare-there-runner: check incus on builder; 1 job waits for it
      prepare-q-workspace-deps: nix build ci.d; 1 job gets a link to it, and waits for it
      prepare-q-workspace-build: nix build ci.b, after prepare-q-workspace-deps; 1 job gets a link to it, and waits for it
    ");
    let dot = tree.run(&["--config", "config.toml", "plan", "--output", "dot"]).code(0).stdout;
    assert!(dot.contains("prepare-p-workspace-deps\\nnix build ci.d on builder, where it stays\""), "{dot}");
}

#[test]
fn a_plan_says_whether_the_filters_select_the_target_and_by_which_file() {
    let tree = Tree::with_targets(TARGETS);
    let selection =
        || tree.run(&["plan", "--base", "main", "--output", "json"]).code(0).json()["selection"].clone();
    tree.git(&["switch", "-qc", "feature"]);
    tree.write("docs/a.md", "x");
    assert_eq!(
        selection(),
        serde_json::json!({
            "runs": false, "reason": "no_path_matched",
            "why": "skipped: 1 file changed against main, and no path filter matches (of 2)",
            "base": "main", "changed_files": 1,
        })
    );
    let text = tree.run(&["plan", "--base", "main"]).code(0).stdout;
    assert!(text.contains("\nwould be skipped: 1 file changed against main"), "{text}");
    tree.write("src/a.rs", "x");
    assert_eq!(
        selection(),
        serde_json::json!({
            "runs": true, "reason": "path_matched", "why": "runs: src/a.rs changed and matches src/**",
            "base": "main", "changed_files": 2, "matched": { "file": "src/a.rs", "pattern": "src/**" },
        })
    );
    let ended = tree.run(&["plan", "--base", "nonsense"]).code(2);
    assert!(ended.stderr.contains("--base is `nonsense`"), "{}", ended.stderr);
}

#[test]
fn the_nodes_of_a_plan_are_those_of_the_run_but_for_what_only_a_run_has() {
    let tree = Tree::with_targets(TARGETS);
    let plan = tree.run(&["plan", "--output", "json"]).code(0).json();
    assert_eq!(plan["run_id"], serde_json::Value::Null);
    assert_eq!(plan["created_at"], serde_json::Value::Null);
    assert_eq!(plan["groups"], serde_json::json!({ "one-db": 2 }));
    tree.run(&["run"]).code(0);
    let run = tree.state_root().join("runs").join(&tree.run_ids()[0]);
    let recorded = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(run.join(name)).unwrap()).unwrap()
    };
    let of_the_run = recorded("plan.json");
    for field in ["schema_version", "target_id", "target_description", "scope", "preconditions", "nodes"] {
        assert_eq!(plan[field], of_the_run[field], "{field}");
    }
    assert_eq!(plan["jobs"], recorded("spec.json")["jobs"]);
}

#[test]
fn an_unknown_target_is_named_with_the_nearest_one() {
    let tree = Tree::with_targets(TARGETS);
    let ended = tree.run(&["plan", "chek"]).code(5);
    assert!(ended.stderr.contains("no target is called `chek`"), "{}", ended.stderr);
    assert!(steady(&ended.stderr, &tree).contains("check"), "{}", ended.stderr);
}

/// The statements of a graph: what graphviz would read, by the part of its grammar that is used.
fn statements(dot: &str) -> Vec<String> {
    let body = dot.trim().strip_suffix('}').unwrap();
    let (head, body) = body.split_once('{').unwrap();
    assert!(head.starts_with("digraph \""), "{head}");
    let (mut all, mut statement, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for character in body.chars() {
        match character {
            '"' if !escaped => quoted = !quoted,
            ';' if !quoted => {
                all.push(std::mem::take(&mut statement).trim().to_owned());
                continue;
            }
            _ => {}
        }
        escaped = character == '\\' && !escaped;
        statement.push(character);
    }
    assert!(!quoted && statement.trim().is_empty(), "{statement}");
    all
}

#[test]
fn the_graph_has_a_box_for_each_node_and_an_arrow_for_each_need() {
    let tree = Tree::with_targets(TARGETS);
    let dot = tree.run(&["plan", "--output", "dot"]).code(0).stdout;
    let all: BTreeSet<String> = statements(&dot).into_iter().collect();
    assert!(all.contains(r#""execute-fmt" -> "execute-test""#), "{all:#?}");
    assert!(all.contains(r#"label="What \"every\" change must pass""#), "{all:#?}");
    assert_eq!(all.iter().filter(|statement| statement.starts_with(r#""execute-"#)).count(), 3, "{all:#?}");
}

#[test]
fn graphviz_draws_the_graph() {
    let tree = Tree::with_targets(TARGETS);
    let dot = tree.run(&["plan", "--output", "dot"]).code(0).stdout;
    let mut graphviz = command("dot".as_ref());
    graphviz.arg("-Tsvg").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match graphviz.spawn() {
        // Not one of the programs that the tests install; the grammar is checked above.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        child => child.unwrap(),
    };
    child.stdin.take().unwrap().write_all(dot.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let svg = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{:?}", output.stderr);
    assert!(
        svg.contains(">test</text>") && svg.contains("execute&#45;fmt&#45;&gt;execute&#45;test"),
        "{svg}"
    );
}
