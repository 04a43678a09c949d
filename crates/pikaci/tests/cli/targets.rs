//! The list of targets, and the schema of their file.

use crate::common::Tree;

const TARGETS: &str = r#"
[targets.check]
description = "What every change must pass"
default = true
trigger = "branch"
paths = ["src/**", "!**/*.md"]
jobs.fmt.command = "true"
jobs.test = { command = "echo ${n}", matrix = { n = ["one", "two"] }, needs = ["fmt"] }
[targets.nightly]
trigger = "nightly"
jobs.all = { command = "true", runtime = "incus" }
"#;

#[test]
fn targets_are_listed_with_all_that_is_said_about_them() {
    let tree = Tree::with_targets(TARGETS);
    insta::assert_snapshot!(tree.run(&["targets"]).code(0).stdout, @r"
    jericho-smoke  Whether this machine can run jobs: source, workspace, isolation
      jobs: source, workspace, isolation
      built in
    check          What every change must pass
      jobs: fmt, test.1, test.2
      default: `pikaci run` without a name
      trigger: branch
      paths: src/**, !**/*.md
    nightly
      jobs: all
      trigger: nightly
    ");
    let json = tree.run(&["targets", "--json"]).code(0).json();
    assert_eq!(json["schema_version"], 1);
    let check = json["targets"].as_array().unwrap().iter().find(|target| target["id"] == "check").unwrap();
    let mut check = check.clone();
    assert_eq!(check["file"], tree.root().join("jericho.toml").to_str().unwrap());
    check["file"] = "jericho.toml".into();
    insta::assert_snapshot!(serde_json::to_string_pretty(&check).unwrap(), @r#"
    {
      "id": "check",
      "description": "What every change must pass",
      "default": true,
      "trigger": "branch",
      "filters": [
        "src/**",
        "!**/*.md"
      ],
      "file": "jericho.toml",
      "jobs": [
        {
          "id": "fmt",
          "description": "fmt",
          "needs": [],
          "executor": "host_local"
        },
        {
          "id": "test.1",
          "description": "test (n=one)",
          "needs": [
            "fmt"
          ],
          "executor": "host_local"
        },
        {
          "id": "test.2",
          "description": "test (n=two)",
          "needs": [
            "fmt"
          ],
          "executor": "host_local"
        }
      ]
    }
    "#);
    assert!(!tree.state_root().exists(), "looking writes nothing");
}

#[test]
fn without_a_file_the_built_in_targets_are_listed() {
    let tree = Tree::plain();
    insta::assert_snapshot!(tree.run(&["targets"]).code(0).stdout, @r"
    jericho-smoke  Whether this machine can run jobs: source, workspace, isolation
      jobs: source, workspace, isolation
      built in
    ");
    tree.write("jericho.toml", "targts = 1");
    assert!(tree.run(&["targets"]).code(2).stderr.contains("did you mean `targets`?"));
}

#[test]
fn the_schema_is_printed_for_both_files() {
    let tree = Tree::plain();
    let schema = tree.run(&["schema"]).code(0).json();
    assert_eq!(schema["title"], "jericho.toml");
    let job = &schema["properties"]["targets"]["additionalProperties"]["properties"]["jobs"]["additionalProperties"];
    assert_eq!(job["required"], serde_json::json!(["command"]));
    assert_eq!(tree.run(&["schema", "--user"]).code(0).json()["title"], "config.toml");
}

#[test]
fn the_jobs_of_a_matrix_run_with_their_values() {
    let tree = Tree::with_targets(
        "[targets.t.jobs.say]\nmatrix = { word = [\"one\", \"two words\"] }\ncommand = \"echo [${word}] $JERICHO_MATRIX_WORD\"\n[targets.t.jobs.last]\nneeds = [\"say\"]\ncommand = \"true\"\n",
    );
    let record = tree.run(&["run", "t", "--output", "json"]).code(0).json();
    let jobs = record["jobs"].as_array().unwrap();
    let ids: Vec<&str> = jobs.iter().map(|job| job["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["say.1", "say.2", "last"]);
    let id = tree.run_ids()[0].clone();
    let log = tree.run(&["logs", &id, "--job", "say.2"]).code(0).stdout;
    assert!(log.contains("[two words] two words\n"), "{log}");
}
