//! The plan: ids, order, dependencies and documents of every kind of job.

use std::path::Path;

use jerichoci::model::id::RunId;
use jerichoci::model::job::{
    GuestCommand, IncusRuntimeConfig, JobPlacement, JobRuntimeConfig, JobSpec, TartRuntimeConfig,
};
use jerichoci::model::staged::{
    StagedLinuxCommandConfig, StagedLinuxRustPayloadRole, StagedLinuxRustTargetPayloadSpec,
    StagedLinuxSnapshotProfile,
};
use jerichoci::run::layout::Layout;
use jerichoci::run::plan::{PlanInputs, plan};
use jerichoci::run::request::RequestError;
use serde_json::{Value, json};

fn shell(id: &str, needs: &[&str]) -> JobSpec {
    let command = GuestCommand::HostShellCommand { command: "make 'all'".into() };
    let mut job = JobSpec::host_process(id, command);
    job.needs = needs.iter().map(ToString::to_string).collect();
    job
}

fn staged(id: &str, prefix: &str) -> JobSpec {
    let payload = |role, name: &str| StagedLinuxRustTargetPayloadSpec { role, output_name: name.into() };
    let mut job = shell(id, &[]);
    job.timeout_secs = 600;
    job.writable_workspace = false;
    job.placement = JobPlacement::RemoteSsh { host: "h".into() };
    job.runtime = JobRuntimeConfig::Incus(IncusRuntimeConfig::default());
    job.staged = Some(StagedLinuxCommandConfig {
        prefix: prefix.into(),
        profile: StagedLinuxSnapshotProfile::Rust,
        deps: payload(StagedLinuxRustPayloadRole::WorkspaceDeps, "ci.x.deps"),
        build: payload(StagedLinuxRustPayloadRole::WorkspaceBuild, "ci.x.build"),
        wrapper: format!("run-{id}"),
    });
    job
}

fn bound(jobs: &[JobSpec]) -> Value {
    let run_id: RunId = "20260401T120000Z-0a1b2c3d".parse().unwrap();
    let layout = Layout::new("/s").run(&run_id);
    let record = plan(jobs).unwrap().bind(&PlanInputs {
        run_id: &run_id,
        created_at: "2026-04-01T12:00:00Z".parse().unwrap(),
        target_id: Some("t"),
        target_description: None,
        layout: &layout,
        snapshot_dir: Path::new("/s/runs/20260401T120000Z-0a1b2c3d/snapshot"),
    });
    serde_json::to_value(record).unwrap()
}

fn ids(record: &Value) -> Vec<&str> {
    record["nodes"].as_array().unwrap().iter().map(|node| node["id"].as_str().unwrap()).collect()
}

#[test]
fn prepare_nodes_come_first_and_a_shared_prefix_is_built_once() {
    let record = bound(&[staged("a", "p"), shell("h", &[]), staged("b", "q"), staged("c", "p")]);
    assert_eq!(
        ids(&record),
        [
            "prepare-p-workspace-deps",
            "prepare-p-workspace-build",
            "prepare-a-runner",
            "prepare-q-workspace-deps",
            "prepare-q-workspace-build",
            "prepare-b-runner",
            "prepare-c-runner",
            "execute-a",
            "execute-h",
            "execute-b",
            "execute-c",
        ]
    );
    let run = "/s/runs/20260401T120000Z-0a1b2c3d";
    assert_eq!(
        record["nodes"][1],
        json!({
            "kind": "prepare", "id": "prepare-p-workspace-build", "description": "Build workspace-build of p",
            "executor": "host_local", "placement": "local", "runtime": "host_process",
            "depends_on": ["prepare-p-workspace-deps"],
            "prepare": {
                "type": "nix_build", "installable": format!("path:{run}/snapshot#ci.x.build"), "output_name": "ci.x.build",
                "residency": "remote_authoritative_staged_linux",
                "handoff": { "protocol": "nix_store_path_v1", "exposures": [
                    { "kind": "host_symlink_mount", "path": format!("{run}/jobs/a/staged-linux-rust/workspace-build"), "access": "read_only" },
                    { "kind": "host_symlink_mount", "path": format!("{run}/jobs/c/staged-linux-rust/workspace-build"), "access": "read_only" },
                ] },
            },
        })
    );
    assert_eq!(
        record["nodes"][2],
        json!({
            "kind": "prepare", "id": "prepare-a-runner", "description": "Check that an instance can be made for a",
            "executor": "host_local", "placement": "local", "runtime": "host_process", "depends_on": [],
            "prepare": { "type": "remote_linux_vm_backend", "backend": "incus" },
        })
    );
    assert_eq!(
        record["nodes"][10],
        json!({
            "kind": "execute", "id": "execute-c", "description": "c", "executor": "remote_linux_vm",
            "placement": "remote_ssh", "runtime": "incus",
            "depends_on": ["prepare-p-workspace-deps", "prepare-p-workspace-build", "prepare-c-runner"],
            "execute": { "type": "vm_command", "command": "/staged/linux-rust/workspace-build/bin/run-c",
                "run_as_root": false, "timeout_secs": 600, "writable_workspace": false },
        })
    );
}

#[test]
fn the_document_has_the_documented_head() {
    let mut record = bound(&[]);
    record["nodes"] = Value::Null;
    assert_eq!(
        record.to_string(),
        r#"{"schema_version":1,"run_id":"20260401T120000Z-0a1b2c3d","target_id":"t","target_description":null,"created_at":"2026-04-01T12:00:00+00:00","scope":"post_host_setup_and_snapshot","preconditions":["host_setup_complete","workspace_snapshot_created"],"nodes":null}"#
    );
}

#[test]
fn a_host_job_keeps_its_raw_command_and_a_guest_job_gets_the_compiled_one() {
    let mut tart = shell("vm", &["host", "host"]);
    tart.command = GuestCommand::ShellCommandAsRoot { command: "id -u".into() };
    tart.runtime = JobRuntimeConfig::Tart(TartRuntimeConfig::default());
    let mut argv = shell("argv", &[]);
    argv.command = GuestCommand::Argv { argv: vec!["ls".into(), "a b".into()] };
    let record = bound(&[tart, shell("host", &[]), argv]);
    assert_eq!(
        record["nodes"][0]["execute"],
        json!({ "type": "vm_command", "command": "bash --noprofile --norc -lc 'id -u'", "run_as_root": true,
            "timeout_secs": 3600, "writable_workspace": true })
    );
    assert_eq!(record["nodes"][0]["executor"], "tart_local");
    assert_eq!(record["nodes"][0]["depends_on"], json!(["execute-host"]));
    assert_eq!(
        record["nodes"][1]["execute"],
        json!({ "type": "host_command", "command": "make 'all'", "timeout_secs": 3600, "writable_workspace": true })
    );
    assert_eq!(record["nodes"][2]["execute"]["command"], "ls 'a b'");
}

#[test]
fn a_staged_host_job_runs_the_wrapper_where_its_output_becomes_visible() {
    let mut job = staged("a", "p");
    job.placement = JobPlacement::Local;
    job.runtime = JobRuntimeConfig::default();
    let record = bound(&[job]);
    assert_eq!(ids(&record), ["prepare-p-workspace-deps", "prepare-p-workspace-build", "execute-a"]);
    assert_eq!(
        record["nodes"][2]["execute"]["command"],
        "/s/runs/20260401T120000Z-0a1b2c3d/jobs/a/staged-linux-rust/workspace-build/bin/run-a"
    );
}

#[test]
fn a_need_must_be_a_job_of_the_run() {
    assert_eq!(
        plan(&[shell("a", &["b"])]).unwrap_err(),
        RequestError::UnknownNeed { job: "a".into(), need: "b".into() }
    );
}

#[test]
fn jobs_that_wait_for_each_other_are_named_in_a_circle() {
    let jobs = [
        shell("x", &["a"]),
        shell("a", &["b"]),
        shell("b", &["c"]),
        shell("c", &["d", "a"]),
        shell("d", &[]),
    ];
    let error = plan(&jobs).unwrap_err();
    assert_eq!(error.to_string(), "jobs need each other in a circle: a -> b -> c -> a");
    assert_eq!(plan(&[shell("a", &["a"])]).unwrap_err(), RequestError::Cycle(vec!["a".into(), "a".into()]));
}

#[test]
fn a_long_chain_is_planned_without_recursion() {
    let jobs: Vec<JobSpec> = (0..10_000)
        .map(|index| {
            let mut job = shell(&format!("j{index}"), &[]);
            if index + 1 < 10_000 {
                job.needs = vec![format!("j{}", index + 1)];
            }
            job
        })
        .collect();
    assert_eq!(plan(&jobs).unwrap().nodes().len(), 10_000);
}

#[test]
fn what_cannot_be_run_is_refused_before_anything_happens() {
    assert_eq!(
        plan(&[shell("a", &[]), shell("a", &[])]).unwrap_err(),
        RequestError::DuplicateJob("a".into())
    );
    let mut root = shell("a", &[]);
    root.command = GuestCommand::ShellCommandAsRoot { command: "id".into() };
    assert_eq!(plan(&[root]).unwrap_err(), RequestError::RootOnHost("a".into()));
    let mut nul = shell("a", &[]);
    nul.command = GuestCommand::Script { script: "a\0".into() };
    assert_eq!(plan(&[nul]).unwrap_err(), RequestError::NulInCommand("a".into()));
    let mut other = staged("b", "p");
    other.staged.as_mut().unwrap().deps.output_name = "else".into();
    assert!(matches!(plan(&[staged("a", "p"), other]).unwrap_err(), RequestError::StagedConflict { .. }));
    for bad in ["../x", "a/b", ""] {
        assert!(matches!(plan(&[staged("a", bad)]).unwrap_err(), RequestError::Id(_)), "{bad}");
        let mut job = staged("a", "p");
        job.staged.as_mut().unwrap().wrapper = bad.into();
        assert!(matches!(plan(&[job]).unwrap_err(), RequestError::Id(_)), "{bad}");
    }
}
