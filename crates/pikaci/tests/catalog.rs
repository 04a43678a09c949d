//! The tables of the Pika catalog say what its fixture says, which is read here without them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jerichoci::model::job::{GuestCommand, JobRuntimeConfig, JobSpec};
use jerichoci::model::staged::StagedLinuxRustPayloadRole;
use jerichoci::run::plan::{NodeWork, PlannedCommand, compile_job, plan};
use pikaci::catalog::{PikaStagedLinuxLane, PikaStagedLinuxTarget, PikaStagedLinuxTargetInfoJson, targets};
use pikaci::lanes::branch_lane_paths_for_staged_target;
use pikaci::operator::Operator;
use pikaci::targets::{Catalog, CatalogChoice, Origin, TargetSpec};
use toml::{Table, Value};

fn fixture(name: &str) -> PathBuf {
    jericho_testkit::crate_dir!().join("tests/fixtures").join(name)
}

fn facts() -> Table {
    std::fs::read_to_string(fixture("catalog.toml")).unwrap().parse().unwrap()
}

fn rows<'t>(facts: &'t Table, name: &str) -> Vec<&'t Table> {
    facts[name].as_array().unwrap().iter().map(|row| row.as_table().unwrap()).collect()
}

fn text<'t>(row: &'t Table, key: &str) -> &'t str {
    row.get(key).unwrap_or_else(|| panic!("{key} in {row}")).as_str().unwrap()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect()
}

/// Checks that a row has no key that is not looked at here.
#[track_caller]
fn only(row: &Table, keys: &[&str]) {
    let unknown: Vec<&String> = row.keys().filter(|key| !keys.contains(&key.as_str())).collect();
    assert!(unknown.is_empty(), "{unknown:?} of {row}");
}

/// The catalog in a tree that has nothing.
fn catalog() -> Catalog {
    let empty = tempfile::tempdir().unwrap();
    Catalog::load_for(empty.path(), Some(CatalogChoice::Pika), &Operator::default()).unwrap()
}

fn word<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).unwrap().as_str().unwrap().to_owned()
}

#[test]
fn every_field_of_every_target_is_that_of_the_fixture() {
    let facts = facts();
    let catalog = catalog();
    let specs: Vec<&TargetSpec> = catalog.iter().filter(|target| target.origin == Origin::Catalog).collect();
    let expected = rows(&facts, "target");
    assert_eq!((specs.len(), expected.len()), (41, 41));
    for (spec, row) in specs.iter().zip(expected) {
        let known = [
            "id",
            "title",
            "description",
            "ci_trigger",
            "concurrency_group",
            "concurrency_group_rule",
            "staged",
            "jobs",
            "filters",
        ];
        only(row, &known);
        let id = text(row, "id");
        assert_eq!(spec.id, id);
        assert_eq!(spec.title.as_deref(), Some(text(row, "title")), "{id}");
        assert_eq!(spec.description.as_deref(), Some(text(row, "description")), "{id}");
        assert_eq!(spec.trigger.word(), text(row, "ci_trigger"), "{id}");
        assert_eq!(
            spec.concurrency_group.as_deref().unwrap_or_default(),
            text(row, "concurrency_group"),
            "{id}"
        );
        assert_eq!(spec.filters.patterns(), texts(&row["filters"]), "{id}");
        assert!(!spec.default, "{id}");
        let jobs: Vec<&str> = spec.jobs.iter().map(|job| job.id.as_str()).collect();
        assert_eq!(jobs, texts(&row["jobs"]), "{id}");
        let staged = PikaStagedLinuxTarget::from_id(id);
        assert_eq!(Some(staged.is_some()), row["staged"].as_bool(), "{id}");
        assert_eq!(staged.is_some(), text(row, "concurrency_group_rule") == "staged_linux_target", "{id}");

        let lane = catalog.lanes().iter().find(|lane| lane.target == id);
        assert_eq!(lane.is_some(), text(row, "ci_trigger") != "none", "{id}");
        if let Some(lane) = lane {
            assert_eq!((lane.id.as_str(), lane.title.as_str()), (id, text(row, "title")));
            assert_eq!(lane.staged, staged.is_some(), "{id}");
            assert_eq!(lane.trigger, spec.trigger, "{id}");
            assert_eq!(lane.concurrency_group, spec.concurrency_group, "{id}");
            assert_eq!(lane.filters.patterns(), spec.filters.patterns(), "{id}");
        }
        if let Some(staged) = staged {
            assert_eq!(branch_lane_paths_for_staged_target(staged), texts(&row["filters"]));
        }
    }
    assert_eq!(catalog.lanes().nightly_schedule_utc(), Some("08:00"));
    assert_eq!(catalog.group_widths().get("tart-vm"), Some(&2), "one Mac runs two VMs");
    let vms = catalog.iter().flat_map(|target| &target.jobs).filter(|job| job.groups == ["tart-vm"]);
    assert!(vms.count() > 10);
}

/// All jobs in the order of their first use.
fn jobs() -> Vec<JobSpec> {
    let mut jobs: Vec<JobSpec> = Vec::new();
    for job in targets().into_iter().flat_map(|target| target.jobs) {
        match jobs.iter().find(|known| known.id == job.id) {
            Some(known) => assert_eq!(*known, job, "one job, two meanings"),
            None => jobs.push(job),
        }
    }
    jobs
}

#[test]
fn every_field_of_every_job_is_that_of_the_fixture() {
    let facts = facts();
    let lanes = rows(&facts, "staged_lane");
    let expected = rows(&facts, "job");
    let jobs = jobs();
    assert_eq!((jobs.len(), expected.len()), (51, 51));
    for (job, row) in jobs.iter().zip(expected) {
        let known = [
            "id",
            "description",
            "placement",
            "runtime",
            "executor",
            "timeout_secs",
            "writable_workspace",
            "guest_role",
            "staged_lane",
            "snapshot_profile",
            "effective_command",
            "guest_command",
            "used_by",
            "tart",
        ];
        only(row, &known);
        let id = text(row, "id");
        assert_eq!(job.id, id);
        assert_eq!(job.description, text(row, "description"), "{id}");
        assert_eq!(word(&job.placement.kind()), text(row, "placement"), "{id}");
        assert_eq!(word(&job.runtime.kind()), text(row, "runtime"), "{id}");
        assert_eq!(job.execution().executor_label(), text(row, "executor"), "{id}");
        assert_eq!(i64::try_from(job.timeout_secs).ok(), row["timeout_secs"].as_integer(), "{id}");
        assert_eq!(Some(job.writable_workspace), row["writable_workspace"].as_bool(), "{id}");
        let users: Vec<String> = targets()
            .into_iter()
            .filter(|target| target.jobs.iter().any(|used| used.id == job.id))
            .map(|target| target.id)
            .collect();
        assert_eq!(users, texts(&row["used_by"]), "{id}");
        match &job.runtime {
            JobRuntimeConfig::Incus(config) => {
                assert_eq!(
                    config.guest_role.map(|role| word(&role)).as_deref(),
                    Some(text(row, "guest_role"))
                );
            }
            JobRuntimeConfig::Tart(config) => {
                let tart = row["tart"].as_table().unwrap();
                only(tart, &["host_setup", "mount_host_rust_toolchain"]);
                assert_eq!(Some(config.host_setup.is_some()), tart["host_setup"].as_bool(), "{id}");
                let mounted = tart["mount_host_rust_toolchain"].as_bool();
                assert_eq!(Some(config.mount_host_rust_toolchain), mounted, "{id}");
            }
            JobRuntimeConfig::HostProcess(_) => assert!(!row.contains_key("guest_role"), "{id}"),
        }
        assert_eq!(job.staged.is_some(), row.contains_key("staged_lane"), "{id}");
        if let Some(staged) = &job.staged {
            assert_eq!(word(&staged.profile), text(row, "snapshot_profile"), "{id}");
            let lane = lanes.iter().find(|lane| text(lane, "lane") == text(row, "staged_lane")).unwrap();
            assert!(texts(&lane["jobs"]).contains(&id));
            let compiled = compile_job(job, "/staged/linux-rust/workspace-build").unwrap();
            assert_eq!(compiled.line, text(row, "effective_command"), "{id}");
            assert!(!compiled.run_as_root, "{id}");
        }
        command(&facts, job, row["guest_command"].as_table().unwrap());
    }
}

/// Checks the command of a job: the words of a template, or that a script has what the fixture lists.
fn command(facts: &Table, job: &JobSpec, row: &Table) {
    let id = &job.id;
    let kind = serde_json::to_value(&job.command).unwrap()["kind"].as_str().unwrap().to_owned();
    assert_eq!(kind, text(row, "kind"), "{id}");
    let script = match &job.command {
        GuestCommand::PackageUnitTests { package } | GuestCommand::PackageTests { package } => {
            return assert_eq!(package, text(row, "package"), "{id}");
        }
        GuestCommand::FilteredCargoTests { package, filter } => {
            return assert_eq!(
                [package.as_str(), filter],
                [text(row, "package"), text(row, "filter")],
                "{id}"
            );
        }
        GuestCommand::ExactCargoTest { package, test_name } => {
            let expected = [text(row, "package"), text(row, "test_name")];
            return assert_eq!([package.as_str(), test_name], expected, "{id}");
        }
        GuestCommand::HostShellCommand { command }
        | GuestCommand::ShellCommand { command }
        | GuestCommand::ShellCommandAsRoot { command } => command,
        other => panic!("{id}: {other:?}"),
    };
    if let Some(command) = row.get("command") {
        only(row, &["kind", "command"]);
        return assert_eq!(script, command.as_str().unwrap(), "{id}");
    }
    // What a script is made of: each part up to its first placeholder, options of the last one apart.
    let mut parts: Vec<String> = Vec::new();
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    for (key, value) in row {
        match (key.as_str(), value) {
            ("kind", _) => {}
            ("uses", Value::String(shared)) => ios(facts[shared].as_table().unwrap(), &mut parts),
            ("only_testing", tests) => {
                drop(variables.insert("PIKA_IOS_ONLY_TESTING".into(), texts(tests).join(" ")));
            }
            ("skip_testing", tests) => {
                drop(variables.insert("PIKA_IOS_SKIP_TESTING".into(), texts(tests).join(" ")));
            }
            ("suite_artifacts", Value::Boolean(kept)) => {
                assert_eq!(job.env.contains_key("PIKA_IOS_SUITE_ARTIFACTS"), *kept, "{id}");
                if *kept {
                    parts.extend(
                        texts(&facts["ios_test_command"]["suite_extra_artifacts"])
                            .iter()
                            .map(ToString::to_string),
                    );
                }
            }
            ("env", Value::Table(env)) => {
                variables.extend(
                    env.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())),
                );
            }
            ("exit_code_when_env_missing", code) => parts.push(format!("exit {code}")),
            ("needs_programs" | "requires_env", names) => {
                parts.extend(texts(names).iter().flat_map(|name| name.split(' ')).map(str::to_owned));
            }
            ("variants", Value::Array(variants)) => {
                for variant in variants {
                    let package =
                        variant.get("check_package").map_or("-", |package| package.as_str().unwrap());
                    let flags = texts(&variant["flags"]);
                    let words =
                        [&["check", variant["dir"].as_str().unwrap(), package], flags.as_slice()].concat();
                    parts.push(words.join(" "));
                }
            }
            (_, Value::Array(items)) => {
                parts.extend(items.iter().map(|item| item.as_str().unwrap().to_owned()));
            }
            (_, Value::String(part)) => parts.push(part.clone()),
            other => panic!("{id}: {other:?}"),
        }
    }
    let plain = script.replace("$state", "<dir>").replace("\"", "");
    for part in parts {
        let part = part.trim_start_matches("rmp ").replace(" [variant flags]", "<dir>");
        for words in part.split("<dir>").map(str::trim) {
            assert!(plain.contains(words), "{id}: {words:?} is not in\n{script}");
        }
    }
    for (name, value) in variables {
        assert_eq!(job.env.get(&name), Some(&value), "{id}: {name}");
    }
}

/// What all tests of the Xcode project have in common.
fn ios(shared: &Table, parts: &mut Vec<String>) {
    for (key, value) in shared {
        match (key.as_str(), value) {
            ("suite_extra_artifacts", _) => {}
            ("settings", Value::Table(settings)) => {
                for (name, value) in settings {
                    let value = value.as_str().unwrap();
                    match value.split_once(" or ") {
                        None => parts.push(format!("{name}={value}")),
                        Some((variable, otherwise)) => {
                            parts.push(format!("{name}=${{{variable}:-{otherwise}}}"));
                        }
                    }
                }
            }
            ("runner_env", Value::Table(env)) => {
                for (name, value) in env {
                    let value = value.as_str().unwrap().replace("<artifacts share>", "$ARTIFACTS");
                    parts.push(format!("{name}={value}"));
                }
            }
            ("flags", flags) => parts.extend(texts(flags).iter().map(ToString::to_string)),
            ("project" | "scheme", Value::String(value)) => parts.push(format!("-{key} {value}")),
            ("destination", Value::String(value)) => {
                parts.push(format!("-destination {}", value.replace("<UDID>", "$udid")));
            }
            ("simulator_ready_line", Value::String(line)) => {
                parts.push(line.split("<UDID>").next().unwrap().to_owned());
            }
            (_, Value::String(part)) => parts.push(part.clone()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_field_of_every_staged_target_and_lane_is_that_of_the_fixture() {
    let facts = facts();
    let expected = rows(&facts, "staged_target");
    assert_eq!((PikaStagedLinuxTarget::all().count(), expected.len()), (9, 9));
    for (target, row) in PikaStagedLinuxTarget::all().zip(expected) {
        let config = target.config();
        let id = text(row, "target_id");
        assert_eq!((config.target, target.id()), (target, id));
        assert_eq!(config.prepare_node_prefix, text(row, "prepare_node_prefix"), "{id}");
        assert_eq!(word(&config.snapshot_profile), text(row, "snapshot_profile"), "{id}");
        assert_eq!(config.workspace_output_system, text(row, "workspace_output_system"), "{id}");
        assert_eq!(config.nix_lane, text(row, "nix_lane"), "{id}");
        assert_eq!(text(row, "shadow_recipe"), "", "{id}");
        let spec = targets().into_iter().find(|spec| spec.id == id).unwrap();
        assert_eq!(spec.description.as_deref(), Some(config.target_description), "{id}");
        let info = PikaStagedLinuxTargetInfoJson::from(config);
        let payloads = row["payloads"].as_array().unwrap();
        assert_eq!(payloads.len(), 2);
        for payload in payloads {
            let payload = payload.as_table().unwrap();
            let (name, installable) = match text(payload, "role") {
                "workspace_deps" => (&info.workspace_deps_output_name, &info.workspace_deps_installable),
                _ => (&info.workspace_build_output_name, &info.workspace_build_installable),
            };
            assert_eq!(name, text(payload, "output_name"));
            assert_eq!(installable, text(payload, "nix_installable"));
        }
        let mut lanes: Vec<&str> = target.lanes().map(PikaStagedLinuxLane::id).collect();
        let mut expected = texts(&row["lanes"]);
        lanes.sort_unstable();
        expected.sort_unstable();
        assert_eq!(lanes, expected, "{id}");
    }
    let expected = rows(&facts, "staged_lane");
    assert_eq!((PikaStagedLinuxLane::all().count(), expected.len()), (27, 27));
    for (lane, row) in PikaStagedLinuxLane::all().zip(expected) {
        let id = text(row, "lane");
        assert_eq!(lane.id(), id);
        assert_eq!(lane.target().id(), text(row, "target_id"), "{id}");
        let config = lane.command_config();
        assert_eq!(
            format!("/staged/linux-rust/workspace-build/bin/{}", config.wrapper),
            text(row, "wrapper"),
            "{id}"
        );
        assert_eq!(config.deps.role, StagedLinuxRustPayloadRole::WorkspaceDeps);
        assert_eq!(config.build.role, StagedLinuxRustPayloadRole::WorkspaceBuild);
        let jobs: Vec<String> = jobs()
            .into_iter()
            .filter(|job| job.staged.as_ref().is_some_and(|staged| staged.wrapper == config.wrapper))
            .map(|job| job.id)
            .collect();
        assert_eq!(jobs, texts(&row["jobs"]), "{id}");
    }
}

#[test]
fn jobs_that_drive_a_mac_get_its_variables_and_the_history() {
    use jerichoci::model::demands::WorkspaceGit;
    for job in jobs() {
        let drives_a_mac = job.id.contains("apple");
        assert_eq!(drives_a_mac, job.git == WorkspaceGit::Full, "{}", job.id);
        let told_where = job.pass_env.iter().any(|name| name == "JERICHOCI_APPLE_SSH_HOST");
        assert_eq!(drives_a_mac, told_where, "{}", job.id);
        assert!(job.pass_env.is_sorted(), "{}", job.id);
        assert!(job.secrets.is_empty(), "{}", job.id);
    }
}

/// The plan of each target, as lines.
fn plans() -> String {
    let mut out = String::new();
    for target in targets() {
        let plan = plan(&target.jobs).unwrap();
        out.push_str(&format!("{}\n", target.id));
        for node in plan.nodes() {
            let after: Vec<&str> =
                node.depends_on.iter().map(|index| plan.node(*index).id.as_str()).collect();
            let work = match &node.work {
                NodeWork::BuildOutput { output_name, jobs, .. } => {
                    format!("build {output_name} for {}", jobs.join(" "))
                }
                NodeWork::CheckBackend { job_id } => format!("backend for {job_id}"),
                NodeWork::Execute(work) => {
                    let command = match &work.command {
                        PlannedCommand::Wrapper { name } => format!("wrapper {name}"),
                        PlannedCommand::Line { line, run_as_root } => {
                            let who = if *run_as_root { "root: " } else { "" };
                            // The second line of a script says what it is.
                            match line.lines().nth(1) {
                                None => format!("{who}{line}"),
                                Some(what) => format!("{who}{} lines: {what}", line.lines().count()),
                            }
                        }
                    };
                    let label = work.execution.executor_label();
                    let mode = if work.writable_workspace { "rw" } else { "ro" };
                    format!("{label} {}s {mode} {command}", work.timeout_secs)
                }
            };
            out.push_str(&format!("  {} [{}] {work}\n", node.id, after.join(" ")));
            if !node.groups.is_empty() {
                out.push_str(&format!("    groups {}\n", node.groups.join(" ")));
            }
        }
    }
    out
}

#[test]
fn the_plans_of_all_targets_are_those_of_the_golden_file() {
    let golden = fixture("catalog-plans.txt");
    let plans = plans();
    if update_asked() {
        std::fs::write(&golden, &plans).unwrap();
    }
    let kept = std::fs::read_to_string(&golden).unwrap_or_default();
    assert!(
        kept == plans,
        "not what {} says; look at the difference after UPDATE_GOLDEN=1",
        golden.display()
    );
}

#[expect(clippy::disallowed_methods, reason = "asked for by whoever starts the test")]
fn update_asked() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

#[test]
fn the_lane_file_of_a_tree_says_which_targets_of_the_catalog_are_lanes() {
    let tree = tempfile::tempdir().unwrap();
    std::fs::create_dir(tree.path().join("ci")).unwrap();
    let text = "catalog = 'pika'\n[[branch.lanes]]\nstaged_linux_target = 'pre-merge-rmp'\npaths = ['a']\n";
    std::fs::write(tree.path().join("ci/forge-lanes.toml"), text).unwrap();
    let catalog = Catalog::load(tree.path()).unwrap();
    let lanes: Vec<&str> = catalog.lanes().iter().map(|lane| lane.id.as_str()).collect();
    assert_eq!(lanes, ["pre-merge-rmp"]);
    for (name, trigger, filters) in [
        ("pre-merge-rmp", "branch", vec!["a"]),
        ("pre-merge-pika-rust", "none", vec![]),
        ("nightly_linux", "none", vec![]),
    ] {
        let target = catalog.find(name).unwrap();
        assert_eq!(
            (target.trigger.word(), target.filters.patterns()),
            (trigger, strings(&filters).as_slice())
        );
    }
    let own = catalog.find("pre-merge-apple-deterministic").unwrap();
    assert_eq!(own.filters.patterns().len(), 15, "no forge runs it, so the lane file need not know it");
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
