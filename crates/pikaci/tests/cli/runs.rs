//! Runs of the real program: outputs, exit codes, what commands say about them afterwards.

use crate::common::{Ended, Tree};

/// A target for each way to end.
const TARGETS: &str = r#"
[targets.good]
default = true
[targets.good.jobs.one]
command = "echo first; echo second >&2"
[targets.good.jobs.two]
command = ["sh", "-c", "test -d \"$ARTIFACTS\""]
needs = ["one"]

[targets.bad.jobs.broken]
command = "printf '\\033[31mred\\033[0m\\n\\377\\n'; exit 3"
[targets.bad.jobs.after]
command = "true"
needs = ["broken"]

[targets.slow.jobs.sleeper]
command = "sleep 60"
timeout = "1s"

[targets.guest.jobs.vm]
command = "true"
runtime = "incus"

[targets.mixed.jobs.broken]
command = "false"
[targets.mixed.jobs.vm]
command = "true"
runtime = "tart"

[targets.silent.jobs.quiet]
command = "printf 'no newline'"
"#;

#[test]
fn a_run_prints_a_line_for_each_job_and_keeps_the_tree_clean() {
    let tree = Tree::with_targets(TARGETS);
    let ended = tree.run(&["run"]).code(0);
    let id = &tree.run_ids()[0];
    assert_eq!(ended.stdout, format!("{id} one passed\n{id} two passed\n"));
    assert_eq!(tree.git(&["status", "--porcelain"]), "");
}

#[test]
fn exit_codes_are_the_documented_ones() {
    let tree = Tree::with_targets(TARGETS);
    for (target, code, word) in [
        ("good", 0, "passed"),
        ("bad", 1, "failed"),
        ("slow", 1, "timed out"),
        ("guest", 3, "errored"),
        ("mixed", 3, "errored"),
    ] {
        for output in ["human", "json", "jsonl"] {
            let ended = tree.run(&["run", target, "--keep-going", "--output", output]).code(code);
            if output == "human" {
                assert!(ended.stderr.contains(&format!("{target} {word}")), "{ended:#?}");
            }
        }
    }
}

#[test]
fn a_failure_shows_the_last_lines_and_the_command_for_all_of_them() {
    let tree = Tree::with_targets(TARGETS);
    let ended = tree.run(&["run", "bad"]).code(1);
    insta::assert_snapshot!(ended.told(&tree), @r"
    AT run RUN: bad
    AT broken: started
    AT broken: failed: the command exited with code 3 (TIME)
      | red
      | \xff
      all of it: pikaci logs RUN --job broken
    AT after: skipped: not run: broken did not pass
    AT bad failed: 1 failed, 1 skipped in TIME
      broken failed: pikaci logs RUN --job broken
      repeat it: pikaci rerun RUN --failed
    ");
    let line = ended.stderr.lines().find_map(|line| line.trim().strip_prefix("all of it: pikaci ")).unwrap();
    let logs = tree.pikaci(&line.split(' ').collect::<Vec<_>>()).output().unwrap();
    assert_eq!(logs.stdout, b"== host ==\n\x1b[31mred\x1b[0m\n\xff\n");
}

#[test]
fn json_is_the_run_record_and_jsonl_the_four_kinds_of_events() {
    let tree = Tree::with_targets(TARGETS);
    let record = tree.run(&["run", "good", "--output", "json"]).code(0).json();
    assert_eq!(record["status"], "passed");
    assert_eq!(record["target_id"], "good");
    assert_eq!(record["jobs"].as_array().unwrap().len(), 2);
    let id = record["run_id"].as_str().unwrap();
    assert_eq!(tree.run(&["status", id, "--json"]).code(0).json(), record);

    let kinds = |args: &[&str]| -> Vec<String> {
        let ended = tree.run(args).code(0);
        let events =
            ended.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        events.map(|event| event["event"].as_str().unwrap().to_owned()).collect()
    };
    let classic = kinds(&["run", "good", "--output", "jsonl"]);
    let expected =
        ["run_started", "job_started", "job_finished", "job_started", "job_finished", "run_finished"];
    assert_eq!(classic, expected);
    let all = kinds(&["run", "good", "--output", "jsonl", "--events", "all"]);
    assert!(all.len() > classic.len() && all.contains(&"phase_finished".to_owned()), "{all:?}");
}

#[test]
fn a_rerun_sees_the_bytes_of_its_run() {
    let tree = Tree::with_targets("[targets.show.jobs.show]\ncommand = \"cat seen\"\n");
    tree.write("seen", "before");
    tree.run(&["run", "show"]).code(0);
    tree.write("seen", "after");
    let first = tree.run_ids()[0].clone();
    let record = tree.run(&["rerun", &first, "--output", "json"]).code(0).json();
    assert_eq!(record["rerun_of"], first.as_str());
    let again = record["run_id"].as_str().unwrap();
    assert_eq!(tree.run(&["logs", again]).code(0).stdout, "== host ==\nbefore");
    let snapshot = tree.run(&["snapshot", again]).code(0);
    let seen =
        std::fs::read_to_string(std::path::Path::new(snapshot.stdout.trim_end()).join("seen")).unwrap();
    assert_eq!(seen, "before");
    let printed = std::path::Path::new(snapshot.stdout.trim_end());
    assert_eq!(printed, printed.canonicalize().unwrap(), "the one name of the place");
}

#[test]
fn status_is_lines_that_scripts_read() {
    let tree = Tree::with_targets(TARGETS);
    tree.run(&["run", "bad"]).code(1);
    let id = &tree.run_ids()[0];
    let text = tree.run(&["status", id]).code(0).stdout;
    insta::assert_snapshot!(text.replace(id.as_str(), "RUN").replace(tree.root().to_str().unwrap(), "TREE"), @r"
    RUN bad failed
    plan=TREE/.jerichoci/runs/RUN/plan.json
    broken failed
    after skipped
    ");
}

#[test]
fn logs_are_bytes_under_headings_and_a_missing_log_is_an_error() {
    let tree = Tree::with_targets(TARGETS);
    tree.run(&["run", "silent"]).code(0);
    let id = &tree.run_ids()[0];
    assert_eq!(tree.run(&["logs", id]).code(0).stdout, "== host ==\nno newline");
    assert_eq!(
        tree.run(&["logs", id, "--kind", "host", "--job", "quiet"]).code(0).stdout,
        "== host ==\nno newline"
    );
    assert!(tree.run(&["logs", id, "--kind", "guest"]).code(5).stderr.contains("no guest log"));
    assert!(tree.run(&["logs", id, "--job", "nope"]).code(5).stderr.contains("it has: quiet"));
    let metadata = tree.run(&["logs", id, "--metadata-json", "--kind", "guest"]).code(0).json();
    assert_eq!(metadata["run_id"], id.as_str());
    assert_eq!(metadata["jobs"][0]["host_log_exists"], true);
    assert_eq!(metadata["jobs"][0]["host_log_bytes"], 10);
    assert_eq!(metadata["jobs"][0]["guest_log_exists"], false);
}

#[test]
fn list_is_newest_first_and_one_corrupt_run_breaks_nothing() {
    let tree = Tree::with_targets(TARGETS);
    assert_eq!(tree.run(&["list"]).code(0).stdout, "");
    tree.run(&["run", "good"]).code(0);
    tree.run(&["run", "bad"]).code(1);
    let id = tree.run_ids()[0].clone();
    let broken = tree.state_root().join("runs/20200101T000000Z-00000000");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(broken.join("run.json"), "{").unwrap();
    let ended = tree.run(&["list"]).code(0);
    let columns: Vec<Vec<&str>> = ended.stdout.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(columns.len(), 2, "{ended:#?}");
    assert!(columns.iter().all(|columns| columns.len() == 4), "{ended:#?}");
    assert_eq!(columns[0][..3], [id.as_str(), "failed", "bad"]);
    assert_eq!(columns[1][1..3], ["passed", "good"]);
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:#?}");
    assert!(ended.stderr.contains("20200101T000000Z-00000000"), "{ended:#?}");
}

#[test]
fn gc_says_what_went_and_a_dry_run_removes_nothing() {
    let tree = Tree::with_targets(TARGETS);
    for _ in 0..3 {
        tree.run(&["run", "good"]).code(0);
    }
    // Oldest first; ids alone tell no more than the second.
    let mut ids = tree.run_ids();
    ids.reverse();
    let expected = format!("removed_runs=2\n{}\n{}\n", ids[0], ids[1]);
    assert_eq!(tree.run(&["gc", "--keep-runs", "1", "--dry-run"]).code(0).stdout, expected);
    assert_eq!(tree.run_ids().len(), 3);
    assert_eq!(tree.run(&["gc", "--keep-runs", "1"]).code(0).stdout, expected);
    assert_eq!(tree.run_ids(), [ids[2].clone()]);
    assert_eq!(tree.run(&["gc"]).code(0).stdout, "removed_runs=0\n");
}

#[test]
fn cancelling_a_run_that_has_ended_says_so() {
    let tree = Tree::with_targets(TARGETS);
    tree.run(&["run", "good"]).code(0);
    let id = &tree.run_ids()[0];
    assert_eq!(tree.run(&["cancel", id]).code(0).stdout, format!("{id} had ended before\n"));
}

#[test]
fn the_state_root_comes_from_flag_then_environment_then_the_source_tree() {
    let tree = Tree::with_targets(TARGETS);
    let env = tree.outside().join("from-env");
    let run = |args: &[&str]| {
        let status = tree.pikaci(args).env("JERICHOCI_STATE_ROOT", &env).output().unwrap().status;
        assert!(status.success());
    };
    run(&["run", "good"]);
    assert!(env.join("runs").is_dir() && !tree.state_root().exists());
    run(&["run", "good", "--state-root", "../from-flag"]);
    assert!(tree.outside().join("from-flag/runs").is_dir());
    tree.write("sub/file", "");
    let mut below = tree.pikaci(&["run", "good"]);
    assert!(below.current_dir(tree.root().join("sub")).output().unwrap().status.success());
    assert!(tree.state_root().join("runs").is_dir(), "the default is at the top of the tree");
    let mut elsewhere = tree.pikaci(&["-C", tree.root().join("sub").to_str().unwrap(), "list"]);
    let output = elsewhere.current_dir("/").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 1);
}

#[test]
fn settings_are_recorded_with_their_origin() {
    let tree = Tree::with_targets(TARGETS);
    let mut command = tree.pikaci(&["run", "good", "--output", "json", "--inherit-env"]);
    let output = command.env("JERICHOCI_MAX_CONCURRENT_EXECUTES", "3").output().unwrap();
    let record: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let setting = |name: &str| {
        let all = record["settings"].as_array().unwrap();
        let found = all.iter().find(|setting| setting["name"] == name).unwrap();
        (found["value"].as_str().unwrap().to_owned(), found["origin"].as_str().unwrap().to_owned())
    };
    assert_eq!(setting("max_concurrent_executes"), ("3".to_owned(), "environment".to_owned()));
    assert_eq!(setting("inherit_env"), ("true".to_owned(), "flag".to_owned()));
    assert_eq!(setting("state_root").1, "default");
}

#[test]
fn jericho_smoke_passes_on_any_tree() {
    Tree::plain().run(&["run", "jericho-smoke"]).code(0);
    let tree = Tree::with_targets(TARGETS);
    tree.write("odd \n name \u{fc}", "");
    let output =
        tree.pikaci(&["run", "jericho-smoke"]).env("JERICHOCI_HOST_LOCAL_NIX_SHELL", "default").output();
    assert!(output.unwrap().status.success(), "never in a dev shell");
}

#[test]
fn latest_stands_for_the_newest_run() {
    let tree = Tree::with_targets(TARGETS);
    let none = tree.run(&["status", "latest"]).code(5);
    assert!(none.stderr.contains("there is no run in"), "{}", none.stderr);
    tree.run(&["run", "good"]).code(0);
    tree.run(&["run", "silent"]).code(0);
    let newest = tree.run(&["list"]).code(0).stdout.split('\t').next().unwrap().to_owned();
    assert_eq!(tree.run(&["status", "latest"]).code(0).stdout, tree.run(&["status", &newest]).code(0).stdout);
    assert_eq!(tree.run(&["logs", "latest"]).code(0).stdout, "== host ==\nno newline");
    tree.run(&["rerun", "latest"]).code(0);
}

#[test]
fn latest_is_never_an_older_run_because_the_newest_cannot_be_read() {
    let tree = Tree::with_targets(TARGETS);
    tree.run(&["run", "good"]).code(0);
    let damaged = tree.state_root().join("runs/29990101T000000Z-00000000");
    std::fs::create_dir(&damaged).unwrap();
    std::fs::write(damaged.join("run.json"), "{").unwrap();
    let ended = tree.run(&["status", "latest"]).code(3);
    assert!(ended.stderr.contains("29990101T000000Z-00000000 is damaged"), "{}", ended.stderr);
    // What is no run, and what is older, stands for nothing.
    let runs = tree.state_root().join("runs");
    std::fs::rename(&damaged, runs.join("zzz")).unwrap();
    std::fs::create_dir(runs.join("20000101T000000Z-00000000")).unwrap();
    tree.run(&["status", "latest"]).code(0);
}

/// Needs that are prepared first, one after the other, must not hold up the job that says so.
#[test]
fn a_target_of_the_catalog_that_asks_for_a_guest_ends_errored_and_says_so() {
    let tree = Tree::with_targets(TARGETS);
    for (target, why) in [
        ("pika-cloud-unit", "host pika-build"),
        ("pre-merge-pikachat-rust", "host pika-build"),
        ("android-sdk-probe", "host pika-build"),
        ("tart-env-probe", "the runtime tart is not built into this version"),
    ] {
        // Nothing is reached by this one, whatever the machine knows of hosts.
        let mut pikaci = tree.pikaci(&["run", target, "--catalog", "pika"]);
        pikaci.env("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_BINARY", "/bin/false");
        let ended = Ended::of(pikaci.output().unwrap()).code(3);
        assert!(ended.stderr.contains(why), "{target}: {}", ended.stderr);
    }
}
