//! `explain`: each lane with its reason, in the situations that repositories are found in.

use crate::common::{Ended, Tree};

const TARGETS: &str = r#"
[targets.docs]
description = "The documentation"
paths = ["docs/**", "!**/*.tmp"]
trigger = "branch"
[targets.docs.jobs.one]
command = "true"

[targets.source]
[targets.source.jobs.one]
command = "true"

[targets.names]
paths = ["Grüße/*.txt", "ä ö/**"]
trigger = "branch"
[targets.names.jobs.one]
command = "true"

[targets.weekly]
[targets.weekly.jobs.one]
command = "true"
"#;

const LANES: &str = r#"
nightly_schedule_utc = "03:30"

[[branch.lanes]]
target = "source"
title = "All of the source"
concurrency_group = "builder"
paths = ["src/**", "old/**", "gone/**"]

[[nightly.lanes]]
target = "weekly"
paths = []
"#;

/// A repository with lanes on `main`, and a branch `work` that has nothing of its own yet.
fn tree() -> Tree {
    let tree = Tree::with_targets(TARGETS);
    tree.write("ci/forge-lanes.toml", LANES);
    tree.write("old/a", "some words that a rename is known by\n");
    tree.commit("lanes");
    tree.git(&["checkout", "-q", "-b", "work"]);
    tree
}

/// The document.
fn explain(tree: &Tree, args: &[&str]) -> serde_json::Value {
    tree.run(&[&["explain", "--json"], args].concat()).code(0).json()
}

/// `lane: reason` for each lane of a branch.
fn reasons(document: &serde_json::Value) -> Vec<String> {
    let lanes = document["lanes"].as_array().unwrap();
    let lanes = lanes.iter().filter(|lane| lane["trigger"] == "branch");
    lanes
        .map(|lane| {
            let text = |key: &str| lane[key].as_str().unwrap_or("-");
            assert_eq!(text("decision") == "skip", text("reason") == "no_path_matched", "{lane}");
            format!("{}: {} {} {}", text("id"), text("reason"), text("file"), text("pattern"))
        })
        .collect()
}

const NONE: &str = "no_path_matched - -";

#[test]
fn on_a_clean_branch_three_commits_ahead_lanes_run_exactly_where_its_files_match() {
    let tree = tree();
    tree.write("docs/a.md", "");
    tree.commit("one");
    tree.write("README", "");
    tree.commit("two");
    tree.write("docs/b.tmp", "");
    tree.commit("three");
    tree.git(&["checkout", "-q", "main"]);
    tree.write("src/not-of-the-branch", "");
    tree.commit("main goes on");
    tree.git(&["checkout", "-q", "work"]);
    let document = explain(&tree, &["--base", "main"]);
    let expected = [
        format!("source: {NONE}"),
        "docs: path_matched docs/a.md docs/**".to_owned(),
        format!("names: {NONE}"),
    ];
    assert_eq!(reasons(&document), expected);
    let files = serde_json::json!(["README", "docs/a.md", "docs/b.tmp"]);
    assert_eq!(document["changes"]["files"], files);
    // What it says is what a run does.
    for (target, status) in [("docs", "passed"), ("source", "skipped"), ("names", "skipped")] {
        let ran = tree.run(&["run", target, "--base", "main"]).code(0);
        assert!(ran.stdout.trim_end().ends_with(status), "{ran:#?}");
    }
}

#[test]
fn on_a_dirty_tree_lanes_run_exactly_where_its_files_match() {
    let tree = tree();
    tree.write("src/untracked", "");
    tree.write("jericho.toml", format!("{TARGETS}\n# edited\n"));
    let document = explain(&tree, &["--base", "HEAD~1"]);
    assert_eq!(document["changes"]["work_tree"], true);
    let document = explain(&tree, &["--base", "main"]);
    // The work tree differs from the head, but the branch is where its base is.
    assert_eq!(document["changes"]["kind"], "known");
    let expected = [
        "source: path_matched src/untracked src/**".to_owned(),
        format!("docs: {NONE}"),
        format!("names: {NONE}"),
    ];
    assert_eq!(reasons(&document), expected);
    tree.git(&["add", "-A"]);
    assert_eq!(reasons(&explain(&tree, &["--base", "main"])), expected);
    // Up to a commit, what is not committed does not count.
    let document = explain(&tree, &["--base", "main~1", "--head", "main"]);
    let definition = "source: definition_changed ci/forge-lanes.toml -";
    assert!(reasons(&document).iter().any(|reason| reason.contains("old/a old/**")), "{document:#}");
    assert_eq!(document["changes"]["work_tree"], false);
    tree.write("ci/forge-lanes.toml", LANES.replace("gone/**", "went/**"));
    std::fs::remove_file(tree.root().join("src/untracked")).unwrap();
    tree.git(&["rm", "-q", "--cached", "src/untracked"]);
    assert_eq!(reasons(&explain(&tree, &["--base", "main"]))[0], definition);
}

#[test]
fn both_names_of_a_renamed_file_and_names_in_any_script_count() {
    let tree = tree();
    std::fs::create_dir_all(tree.root().join("docs")).unwrap();
    tree.git(&["mv", "old/a", "docs/a"]);
    tree.write("Grüße/日本.txt", "");
    tree.write("ä ö/\"quoted\"\tname", "");
    for committed in [false, true] {
        if committed {
            tree.commit("all of it");
        }
        let expected = [
            "source: path_matched old/a old/**",
            "docs: path_matched docs/a docs/**",
            "names: path_matched Grüße/日本.txt Grüße/*.txt",
        ];
        assert_eq!(reasons(&explain(&tree, &["--base", "main"])), expected, "committed: {committed}");
    }
    let text = tree.run(&["explain", "names", "--base", "main"]).code(0).stdout;
    assert!(text.contains("Grüße/日本.txt changed and matches Grüße/*.txt"), "{text}");
}

#[test]
fn the_patterns_without_a_file_are_those_of_the_commit_that_is_asked_about() {
    let tree = tree();
    tree.write("gone/a", "");
    tree.commit("gone is here");
    std::fs::remove_dir_all(tree.root().join("old")).unwrap();
    tree.commit("old is gone");
    let without = |args: &[&str]| {
        let document = explain(&tree, &[&["source"], args].concat());
        let patterns = document["warnings"].as_array().unwrap().iter();
        patterns.map(|warning| warning["pattern"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(without(&[]), ["src/**", "old/**"]);
    assert_eq!(without(&["--head", "work~1"]), ["src/**"]);
    assert_eq!(without(&["--head", "main"]), ["src/**", "gone/**"]);
    assert!(!tree.state_root().exists(), "explaining leaves nothing behind");
}

#[test]
fn a_tree_in_which_ci_is_something_else_has_no_lanes_and_no_problem() {
    let tree = Tree::with_targets(TARGETS);
    tree.write("ci", "a file");
    assert_eq!(explain(&tree, &[])["lanes"].as_array().unwrap().len(), 5);
    std::fs::remove_file(tree.root().join("ci")).unwrap();
    std::fs::create_dir_all(tree.root().join("ci/forge-lanes.toml")).unwrap();
    insta::assert_snapshot!(tree.run(&["explain"]).code(2).told(&tree), @r"
    error: TREE/ci/forge-lanes.toml is a directory, not a file
      hint: forge-lanes.toml is a file that people write; move the other thing away
    ");
    std::fs::remove_dir(tree.root().join("ci/forge-lanes.toml")).unwrap();
    tree.write("ci/forge-lanes.toml", b"a = \"\xff\"");
    insta::assert_snapshot!(tree.run(&["explain"]).code(2).told(&tree), @r"
    error: ci/forge-lanes.toml:1:6: the byte 0xff is not UTF-8; save the file as UTF-8
      hint: mend that, and run again; nothing was started
    ");
}

#[test]
fn started_in_a_subdirectory_it_says_the_same() {
    let tree = tree();
    tree.write("src/deep/a", "");
    let above = explain(&tree, &["--base", "main"]);
    let mut below = tree.pikaci(&["explain", "--json", "--base", "main"]);
    below.current_dir(tree.root().join("src/deep"));
    assert_eq!(Ended::of(below.output().unwrap()).code(0).json(), above);
    assert_eq!(reasons(&above)[0], "source: path_matched src/deep/a src/**");
}

#[test]
fn without_a_base_every_lane_runs_and_says_why() {
    let all = |document: &serde_json::Value, why: &str| {
        assert_eq!(document["changes"]["kind"], "unknown", "{document:#}");
        let said = document["changes"]["why"].as_str().unwrap();
        assert!(said.contains(why), "{said} has no {why}");
        for lane in document["lanes"].as_array().unwrap() {
            assert_eq!(lane["decision"], "run", "{lane:#}");
        }
        assert_eq!(
            reasons(document),
            ["source: no_change_list - -", "docs: no_change_list - -", "names: no_change_list - -"]
        );
    };
    let tree = tree();
    all(&explain(&tree, &[]), "the repository has no remote");
    tree.git(&["checkout", "-q", "main"]);
    all(&explain(&tree, &["--base", "main"]), "is the head itself");
    tree.git(&["checkout", "-q", "--orphan", "other"]);
    all(&explain(&tree, &["--base", "main"]), "there is no commit yet");
    tree.commit("unrelated");
    all(&explain(&tree, &["--base", "main"]), "no common history");
    let plain = Tree::plain();
    plain.write("jericho.toml", TARGETS);
    plain.write("ci/forge-lanes.toml", LANES);
    all(&explain(&plain, &[]), "not in a git repository");
}

#[test]
fn an_empty_change_list_runs_every_lane_and_says_so() {
    let tree = tree();
    let document = explain(&tree, &["--base", "main"]);
    assert_eq!(
        reasons(&document),
        ["source: nothing_changed - -", "docs: nothing_changed - -", "names: nothing_changed - -"]
    );
    let text = tree.run(&["explain", "--base", "main"]).code(0).stdout;
    assert!(text.contains("runs whatever its path filters say: nothing differs from main"), "{text}");
}

#[test]
fn a_detached_head_is_compared_as_a_branch_is() {
    let tree = tree();
    tree.write("src/a", "");
    tree.commit("source");
    tree.git(&["checkout", "-q", "--detach"]);
    assert_eq!(reasons(&explain(&tree, &["--base", "main"]))[0], "source: path_matched src/a src/**");
}

/// A clone of `tree` beside it.
fn clone(tree: &Tree, name: &str, options: &[&str]) -> String {
    let to = tree.outside().join(name).to_str().unwrap().to_owned();
    let from = format!("file://{}", tree.root().display());
    tree.git(&[&["clone", "-q"], options, &[&from, &to]].concat());
    to
}

#[test]
fn a_clone_is_compared_with_the_default_branch_of_its_upstream() {
    let tree = tree();
    tree.git(&["checkout", "-q", "main"]);
    let full = clone(&tree, "full", &[]);
    tree.git(&["-C", &full, "checkout", "-q", "-b", "mine"]);
    std::fs::create_dir(format!("{full}/docs")).unwrap();
    std::fs::write(format!("{full}/docs/x"), "").unwrap();
    tree.git(&["-C", &full, "add", "-A"]);
    tree.git(&["-C", &full, "commit", "-q", "-m", "mine"]);
    let document = tree.run(&["-C", &full, "explain", "--json"]).code(0).json();
    assert_eq!(document["changes"]["base"], "refs/remotes/origin/main");
    assert_eq!(reasons(&document)[1], "docs: path_matched docs/x docs/**");
}

#[test]
fn a_shallow_clone_without_the_merge_base_runs_every_lane_and_says_why() {
    let tree = tree();
    tree.write("src/a", "");
    tree.commit("source");
    tree.git(&["checkout", "-q", "main"]);
    tree.write("b", "");
    tree.commit("main goes on");
    let shallow = clone(&tree, "shallow", &["--depth", "1", "--no-single-branch", "--branch", "work"]);
    let document = tree.run(&["-C", &shallow, "explain", "--json"]).code(0).json();
    let why = document["changes"]["why"].as_str().unwrap();
    assert!(why.contains("this clone is shallow"), "{why}");
    assert_eq!(reasons(&document)[0], "source: no_change_list - -");
}

#[test]
fn a_forge_asks_with_two_commits_and_reads_a_document() {
    let tree = tree();
    tree.write("src/a", "");
    tree.commit("source");
    tree.git(&["checkout", "-q", "main"]);
    let answer =
        tree.run(&["explain", "--base", "main", "--head", "work", "--trigger", "branch", "--json"]).code(0);
    assert_eq!(answer.stderr, "");
    let mut text = answer.stdout;
    for commit in ["main", "work"] {
        text = text.replace(tree.git(&["rev-parse", commit]).trim_end(), &format!("<{commit}>"));
    }
    insta::assert_snapshot!(text, @r#"
    {
      "schema_version": 1,
      "trigger": "branch",
      "nightly_schedule_utc": "03:30",
      "changes": {
        "kind": "known",
        "why": null,
        "base": "main",
        "merge_base": "<main>",
        "head": "<work>",
        "work_tree": false,
        "files": [
          "src/a"
        ]
      },
      "lanes": [
        {
          "id": "source",
          "title": "All of the source",
          "target": "source",
          "trigger": "branch",
          "staged": false,
          "concurrency_group": "builder",
          "decision": "run",
          "reason": "path_matched",
          "file": "src/a",
          "pattern": "src/**",
          "message": "runs: src/a changed and matches src/**",
          "paths": [
            "src/**",
            "old/**",
            "gone/**"
          ]
        },
        {
          "id": "docs",
          "title": "docs",
          "target": "docs",
          "trigger": "branch",
          "staged": false,
          "concurrency_group": null,
          "decision": "skip",
          "reason": "no_path_matched",
          "file": null,
          "pattern": null,
          "message": "skipped: 1 file changed against main, and no path filter matches (of 2)",
          "paths": [
            "docs/**",
            "!**/*.tmp"
          ]
        },
        {
          "id": "names",
          "title": "names",
          "target": "names",
          "trigger": "branch",
          "staged": false,
          "concurrency_group": null,
          "decision": "skip",
          "reason": "no_path_matched",
          "file": null,
          "pattern": null,
          "message": "skipped: 1 file changed against main, and no path filter matches (of 2)",
          "paths": [
            "Grüße/*.txt",
            "ä ö/**"
          ]
        }
      ],
      "warnings": [
        {
          "kind": "pattern_matches_no_file",
          "pattern": "gone/**",
          "lanes": [
            "source"
          ],
          "message": "the pattern `gone/**` matches no file today"
        },
        {
          "kind": "pattern_matches_no_file",
          "pattern": "docs/**",
          "lanes": [
            "docs"
          ],
          "message": "the pattern `docs/**` matches no file today"
        },
        {
          "kind": "pattern_matches_no_file",
          "pattern": "!**/*.tmp",
          "lanes": [
            "docs"
          ],
          "message": "the pattern `!**/*.tmp` matches no file today"
        },
        {
          "kind": "pattern_matches_no_file",
          "pattern": "Grüße/*.txt",
          "lanes": [
            "names"
          ],
          "message": "the pattern `Grüße/*.txt` matches no file today"
        },
        {
          "kind": "pattern_matches_no_file",
          "pattern": "ä ö/**",
          "lanes": [
            "names"
          ],
          "message": "the pattern `ä ö/**` matches no file today"
        }
      ]
    }
    "#);
    let nightly = explain(&tree, &["--trigger", "nightly"]);
    let lanes: Vec<_> = nightly["lanes"].as_array().unwrap().iter().map(|lane| &lane["id"]).collect();
    assert_eq!(lanes, ["weekly"]);
    assert_eq!(nightly["lanes"][0]["reason"], "no_filters");
}

#[test]
fn people_are_shown_the_base_the_files_and_patterns_without_a_file() {
    let tree = tree();
    tree.write("src/a", "");
    let answer = tree.run(&["explain", "--base", "main"]).code(0);
    let head = tree.git(&["rev-parse", "--short=12", "main"]);
    insta::assert_snapshot!(answer.stdout.replace(head.trim_end(), "COMMIT"), @r"
    base     main, merge base COMMIT
    head     the work tree on COMMIT
    changed  1 file
      src/a

    source         runs: src/a changed and matches src/**
    weekly         runs: it has no path filters
    docs           skipped: 1 file changed against main, and no path filter matches (of 2)
    names          skipped: 1 file changed against main, and no path filter matches (of 2)
    jericho-smoke  runs: it has no path filters
    ");
    insta::assert_snapshot!(answer.stderr, @r"
    warning: the pattern `gone/**` matches no file today (source)
    warning: the pattern `docs/**` matches no file today (docs)
    warning: the pattern `!**/*.tmp` matches no file today (docs)
    warning: the pattern `Grüße/*.txt` matches no file today (names)
    warning: the pattern `ä ö/**` matches no file today (names)
    ");
}

#[test]
fn what_cannot_be_explained_is_an_error_that_says_what_to_do() {
    let tree = tree();
    let told = |args: &[&str], code| tree.run(&[&["explain"], args].concat()).code(code).told(&tree);
    insta::assert_snapshot!(told(&["dosc"], 5), @r"
    error: no target is called `dosc`
      hint: did you mean `pikaci explain docs`?
    ");
    insta::assert_snapshot!(told(&["--base", "nowhere"], 2), @r"
    error: --base is `nowhere`, which is no commit in this repository
      hint: git fetch, when a remote has it; or leave --base out, for the upstream's default branch
    ");
    insta::assert_snapshot!(told(&["--head", "nowhere"], 2), @r"
    error: --head is `nowhere`, which is no commit in this repository
      hint: git fetch, when a remote has it; or leave --head out, for the work tree
    ");
    tree.write("ci/forge-lanes.toml", "[[branch.lanes]]\ntarget = 'docs'\npaths = ['x']\n");
    insta::assert_snapshot!(told(&[], 2), @r"
    error: ci/forge-lanes.toml:3:9: target `docs` has `paths` of its own in jericho.toml; write them in one of the two files
      hint: mend that, and run again; nothing was started
    ");
}

#[test]
fn the_catalog_is_there_for_who_asks_for_it_and_for_nobody_else() {
    let tree = Tree::with_targets("[targets.own.jobs.one]\ncommand = 'true'");
    let count = |args: &[&str]| explain(&tree, args)["lanes"].as_array().unwrap().len();
    assert_eq!(count(&[]), 2);
    assert_eq!(count(&["--catalog", "pika"]), 43);
    assert_eq!(count(&["--catalog", "pika", "--trigger", "branch"]), 12);
    tree.run(&["run", "pika-actionlint"]).code(5);
    tree.write(
        "ci/forge-lanes.toml",
        "catalog = 'pika'\n[[branch.lanes]]\ntarget = 'pre-merge-rmp'\npaths = ['x']",
    );
    assert_eq!(count(&["--trigger", "branch"]), 1);
    assert_eq!(count(&[]), 43);
    // What the lane file is silent about is no lane, and keeps what the catalog says of people's own targets.
    let document = explain(&tree, &["pre-merge-apple-deterministic", "pre-merge-pika-rust"]);
    assert_eq!(document["lanes"][1]["paths"].as_array().unwrap().len(), 15, "{document:#}");
    assert_eq!(document["lanes"][0]["trigger"], "none");
    // A name in both is an error.
    tree.write("jericho.toml", "[targets.pika-actionlint.jobs.one]\ncommand = 'true'");
    insta::assert_snapshot!(tree.run(&["explain"]).code(2).told(&tree), @r"
    error: jericho.toml:1:10: target `pika-actionlint` is built in; choose another name
      hint: mend that, and run again; nothing was started
    ");
}

#[test]
fn the_prepared_outputs_of_a_staged_target_are_machine_readable() {
    let tree = Tree::plain();
    let told = |args: &[&str], code| tree.run(&[&["staged-linux-target-info"], args].concat()).code(code);
    insta::assert_snapshot!(told(&["pre-merge-rmp"], 0).stdout, @r#"
    target_id=pre-merge-rmp
    target_description="RMP project generation smoke"
    payload_workspace-deps_installable=.#ci.x86_64-linux.rmpWorkspaceDeps
    payload_workspace-build_installable=.#ci.x86_64-linux.rmpWorkspaceBuild
    "#);
    insta::assert_snapshot!(told(&["pre-merge-pika-followup", "--json"], 0).stdout, @r#"
    {
      "target_id": "pre-merge-pika-followup",
      "target_description": "non-test checks for the app lane",
      "shared_prepare_node_prefix": "pika-followup-linux-rust",
      "shared_prepare_description": "Build workspace-deps and workspace-build of pika-followup-linux-rust",
      "workspace_deps_output_name": "ci.x86_64-linux.pikaFollowupWorkspaceDeps",
      "workspace_build_output_name": "ci.x86_64-linux.pikaFollowupWorkspaceBuild",
      "workspace_output_system": "x86_64-linux",
      "workspace_deps_installable": ".#ci.x86_64-linux.pikaFollowupWorkspaceDeps",
      "workspace_build_installable": ".#ci.x86_64-linux.pikaFollowupWorkspaceBuild"
    }
    "#);
    insta::assert_snapshot!(told(&["pre-merge-rpm"], 5).stderr, @r"
    error: no staged target is called `pre-merge-rpm`, in the Pika catalog or in jericho.toml
      hint: pikaci staged-linux-target-info pre-merge-rmp
    ");
    insta::assert_snapshot!(told(&["pika-actionlint"], 5).stderr, @r"
    error: target `pika-actionlint` has no prepared outputs of its own
      hint: the staged targets are: pre-merge-pika-rust, pre-merge-pika-followup, pre-merge-agent-contracts, pre-merge-notifications, pre-merge-fixture-rust, pre-merge-rmp, pre-merge-pikachat-rust, pre-merge-pikachat-typescript, pre-merge-pikachat-openclaw-e2e
    ");
}
#[test]
fn the_prepared_outputs_of_a_target_of_the_tree_are_machine_readable_too() {
    let tree = Tree::plain();
    tree.write(
        "jericho.toml",
        "[targets.mine]\ndescription = 'Mine'\n\
         [targets.mine.jobs.one]\ncommand = 'run-one'\nruntime = 'incus'\n\
         staged = { deps = 'ci.aarch64-linux.myDeps', build = 'ci.aarch64-linux.myBuild', prefix = 'my-linux' }\n\
         [targets.plain.jobs.one]\ncommand = 'true'\n",
    );
    let told = |args: &[&str], code| tree.run(&[&["staged-linux-target-info"], args].concat()).code(code);
    insta::assert_snapshot!(told(&["mine", "--json"], 0).stdout, @r#"
    {
      "target_id": "mine",
      "target_description": "Mine",
      "shared_prepare_node_prefix": "my-linux",
      "shared_prepare_description": "Build workspace-deps and workspace-build of my-linux",
      "workspace_deps_output_name": "ci.aarch64-linux.myDeps",
      "workspace_build_output_name": "ci.aarch64-linux.myBuild",
      "workspace_output_system": "aarch64-linux",
      "workspace_deps_installable": ".#ci.aarch64-linux.myDeps",
      "workspace_build_installable": ".#ci.aarch64-linux.myBuild"
    }
    "#);
    assert!(told(&["plain"], 5).stderr.starts_with("error: no staged target is called `plain`"));
    // The catalog is known without the tree.
    tree.write("jericho.toml", "[");
    told(&["pre-merge-rmp"], 0);
    told(&["mine"], 2);
}
