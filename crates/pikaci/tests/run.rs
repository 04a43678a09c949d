//! `pikaci run` and `pikaci rerun`: outputs, exit codes, path filters, settings.

mod common;

use common::{Sandbox, run_id};

const TARGETS: &str = r#"
[targets.good.jobs.one]
command = "echo out of one"

[targets.mixed.jobs.first]
command = "true"
[targets.mixed.jobs.bad]
needs = ["first"]
command = "seq 1 30; printf '\\033[31mred\\n'; exit 3"
[targets.mixed.jobs.late]
needs = ["bad"]
command = "true"

[targets.slow.jobs.slow]
command = "sleep 600"
timeout = "1s"

[targets.filtered]
paths = ["docs/**"]
[targets.filtered.jobs.one]
command = "true"
"#;

#[test]
fn human_output_is_a_line_a_job_and_the_rest_is_on_standard_error() {
    let sandbox = Sandbox::with(TARGETS);
    let said = sandbox.run(&["run", "mixed"]);
    let id = run_id(&said);
    assert_eq!(said.out, format!("{id} first passed\n{id} bad failed\n{id} late skipped\n"));
    assert_eq!(said.code, Some(1));
    assert!(said.err.starts_with(&format!("{id}: mixed\n")), "{}", said.err);
    assert!(said.err.contains("  | 30\n  | \\x1b[31mred\n"), "{}", said.err);
    assert!(!said.err.contains("| 11\n"), "20 lines at most: {}", said.err);
    assert!(said.err.contains(&format!("pikaci logs {id} --job bad\n")), "{}", said.err);
    assert!(said.err.contains("(1 passed, 1 failed, 1 skipped)"), "{}", said.err);
    assert!(said.err.ends_with(&format!("the same again: pikaci rerun {id}\n")), "{}", said.err);
    assert!(!said.err.contains('\u{1b}'));
}

#[test]
fn commands_in_hints_reach_the_same_state_root() {
    let sandbox = Sandbox::with(TARGETS);
    let said = sandbox.run(&["--state-root", "a state", "run", "mixed"]);
    let id = run_id(&said);
    let hint = format!("pikaci logs {id} --job bad --state-root 'a state'");
    assert!(said.err.contains(&hint), "{}", said.err);
    let line = hint.replacen("pikaci", env!("CARGO_BIN_EXE_pikaci"), 1);
    let shown = sandbox.command("sh").args(["-c", &line]).output().expect("sh runs");
    assert!(shown.stdout.ends_with(b"red\n") || shown.stdout.windows(4).any(|w| w == b"red\n"), "{shown:?}");
}

#[test]
fn json_output_is_the_record_and_nothing_else() {
    let sandbox = Sandbox::with(TARGETS);
    let (record, said) = sandbox.record(&["run", "good"]);
    assert_eq!(said.code, Some(0));
    assert!(said.out.starts_with("{\n  \"run_id\": ") && said.out.ends_with("\n}\n"), "{}", said.out);
    assert_eq!((&record["status"], &record["target_id"]), (&"passed".into(), &"good".into()));
    let status = sandbox.run(&["status", "--json", record["run_id"].as_str().expect("an id")]);
    assert_eq!(status.out, said.out, "what is stored is what was told");
}

#[test]
fn jsonl_output_has_the_four_known_kinds_and_all_when_asked() {
    let sandbox = Sandbox::with(TARGETS);
    let kinds = |args: &[&str]| -> Vec<String> {
        let said = sandbox.run(args);
        assert_eq!(said.code, Some(0), "{said:?}");
        said.out
            .lines()
            .map(|line| {
                let event: serde_json::Value = serde_json::from_str(line).expect("one document a line");
                event["event"].as_str().expect("a kind").to_owned()
            })
            .collect()
    };
    let classic = ["run_started", "job_started", "job_finished", "run_finished"];
    assert_eq!(kinds(&["run", "good", "--output", "jsonl"]), classic);
    let all = kinds(&["run", "good", "--output", "jsonl", "--events", "all"]);
    assert!(all.iter().any(|kind| kind == "phase_finished"), "{all:?}");
    assert_eq!((all.first(), all.last()), (Some(&classic[0].to_owned()), Some(&classic[3].to_owned())));
}

#[test]
fn exit_codes_say_what_happened_in_every_output() {
    let sandbox = Sandbox::with(TARGETS);
    for output in ["human", "json", "jsonl"] {
        for (target, code) in [("good", 0), ("mixed", 1), ("slow", 1)] {
            let said = sandbox.run(&["run", target, "--output", output]);
            assert_eq!(said.code, Some(code), "{target} {output}: {said:?}");
        }
    }
    let said = sandbox.run(&["run", "slow"]);
    assert!(said.err.contains("slow: timed out"), "{}", said.err);
}

#[test]
fn a_job_whose_directory_is_in_the_way_is_not_the_fault_of_the_job() {
    let sandbox = Sandbox::with("[targets.t.jobs.j]\ncommand = [\"/no/such/program\"]\n");
    let (record, said) = sandbox.record(&["run", "t"]);
    assert_eq!(record["jobs"][0]["status"], "failed", "{said:?}");
    let code = if record["jobs"][0]["failure_kind"] == "infrastructure" { 3 } else { 1 };
    assert_eq!(said.code, Some(code), "{said:?}");
}

#[test]
fn keep_going_runs_what_does_not_need_the_failure() {
    let sandbox = Sandbox::with(
        "[targets.t.jobs.bad]\ncommand = \"false\"\n[targets.t.jobs.other]\ncommand = \"true\"\n",
    );
    let statuses = |args: &[&str]| -> Vec<String> {
        let (record, _) = sandbox.record(args);
        let jobs = record["jobs"].as_array().expect("jobs");
        jobs.iter().map(|job| job["status"].as_str().expect("a status").to_owned()).collect()
    };
    assert_eq!(statuses(&["run", "t", "-j", "1"]), ["failed", "skipped"]);
    assert_eq!(statuses(&["run", "t", "-j", "1", "--keep-going"]), ["failed", "passed"]);
}

#[test]
fn a_target_with_path_filters_runs_or_is_recorded_as_skipped() {
    let sandbox = Sandbox::with(TARGETS);
    let (record, said) = sandbox.record(&["run", "filtered"]);
    assert_eq!(record["status"], "passed");
    assert!(said.err.contains("runs whatever has changed: the repository has no remote"), "{}", said.err);

    sandbox.git(&["switch", "--quiet", "-c", "topic"]);
    let (record, _) = sandbox.record(&["run", "filtered", "--base", "main"]);
    assert_eq!(record["status"], "passed");
    assert_eq!(record["message"], "runs because nothing differs from main");

    sandbox.write("other.txt", "x");
    let (record, said) = sandbox.record(&["run", "filtered", "--base", "main"]);
    assert_eq!((&record["status"], said.code), (&"skipped".into(), Some(0)));
    assert_eq!(record["message"], "none of 1 changed file since main matches 1 path filter");
    assert_eq!(record["changed_files"], serde_json::json!(["other.txt"]));
    assert_eq!(record["filters"], serde_json::json!(["docs/**"]));
    let human = sandbox.run(&["run", "filtered", "--base", "main"]);
    assert_eq!(human.out, format!("{} filtered skipped\n", run_id(&human)));
    assert_eq!(human.code, Some(0));

    let again = sandbox.run(&["rerun", &run_id(&human)]);
    assert_eq!(again.out, format!("{} filtered skipped\n", run_id(&again)));

    sandbox.write("docs/a/b.md", "x");
    let base = [("JERICHOCI_BASE_REF", "main")];
    let said = sandbox.run_with(&base, &["run", "filtered"]);
    assert!(said.err.contains("runs because docs/a/b.md matches docs/**"), "{}", said.err);
}

#[test]
fn a_rerun_sees_the_same_bytes_and_the_same_jobs() {
    let sandbox = Sandbox::with("[targets.t.jobs.j]\ncommand = \"cat input\"\n");
    sandbox.write("input", "before\n");
    let first = run_id(&sandbox.run(&["run", "t"]));
    sandbox.write("input", "after\n");
    sandbox.write("jericho.toml", "[targets.t.jobs.j]\ncommand = \"false\"\n");
    let said = sandbox.run(&["rerun", &first]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains(&format!("t, again as in {first}")), "{}", said.err);
    let logs = sandbox.run(&["logs", &run_id(&said), "--raw"]);
    assert_eq!(logs.out, "before\n");
    let tree = sandbox.run(&["snapshot", &first]);
    let tree = tree.out.trim_end().replace("$ROOT", &sandbox.root().display().to_string());
    assert_eq!(std::fs::read(std::path::Path::new(&tree).join("input")).expect("a file"), b"before\n");
}

#[test]
fn settings_are_recorded_with_their_origin() {
    let sandbox = Sandbox::with(TARGETS);
    let variables = [("JERICHOCI_MAX_CONCURRENT_EXECUTES", "3")];
    let said = sandbox.run_with(&variables, &["run", "good", "--output", "json", "--state-root", "../state"]);
    let record: serde_json::Value = serde_json::from_str(&said.out).expect("a record");
    let of = |name: &str| {
        let settings = record["settings"].as_array().expect("settings");
        let setting = settings.iter().find(|setting| setting["name"] == name).expect(name);
        format!("{} {}", setting["value"].as_str().expect("text"), setting["origin"].as_str().expect("text"))
    };
    assert_eq!(of("max_concurrent_executes"), "3 environment");
    assert_eq!(of("state_root"), "$ROOT/state flag");
    assert_eq!(of("inherit_env"), "false default");
    assert!(sandbox.root().join("state/runs").is_dir());
    assert!(!sandbox.state_root().exists());
}

#[test]
fn the_source_root_is_the_top_of_the_work_tree_also_from_below() {
    let sandbox = Sandbox::with(TARGETS);
    sandbox.write("deep/er/file", "");
    for args in [&["-C", "deep/er", "run", "good"][..], &["run", "good", "-C", "deep/er"]] {
        let (record, _) = sandbox.record(args);
        assert_eq!(record["source_root"], "$ROOT/src");
    }
    assert!(sandbox.state_root().join("runs").is_dir());
}

#[test]
fn a_hook_of_another_repository_does_not_move_the_source_root() {
    let sandbox = Sandbox::with(TARGETS);
    let said = sandbox.run_with(&[("GIT_DIR", "/nowhere"), ("GIT_WORK_TREE", "/")], &["run", "good"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(sandbox.state_root().join("runs").is_dir());
}

#[test]
fn a_tree_without_git_runs_and_says_so() {
    let sandbox = Sandbox::without_git(TARGETS);
    let said = sandbox.run(&["run", "good"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.err.contains("note: $ROOT/src is taken as it is, without git: not a git repository"),
        "{}",
        said.err
    );
}

#[test]
fn the_old_name_of_a_variable_is_a_warning() {
    let sandbox = Sandbox::with(TARGETS);
    let said = sandbox.run_with(&[("PIKACI_STATE_ROOT", "/nowhere")], &["list"]);
    assert_eq!(said.err, "warning: PIKACI_STATE_ROOT is not read; its name is JERICHOCI_STATE_ROOT now\n");
    assert_eq!(said.code, Some(0));
}

#[test]
fn the_environment_reaches_jobs_only_on_request() {
    let sandbox = Sandbox::with("[targets.t.jobs.j]\ncommand = \"echo x${SECRET_OF_CALLER-}x\"\n");
    for (flags, seen) in [(&["run", "t"][..], "xx\n"), (&["run", "t", "--inherit-env"], "xsx\n")] {
        let said = sandbox.run_with(&[("SECRET_OF_CALLER", "s")], flags);
        let logs = sandbox.run(&["logs", &run_id(&said), "--raw"]);
        assert_eq!(logs.out, seen, "{flags:?}");
    }
}
