//! Every way to hand outputs over, from the environment to the record.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use jericho_testkit::{built_program, ssh};
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::model::outputs::{
    Consumer, InvocationMode, LauncherTransportMode, PreparedOutputRequestRecord,
    PreparedOutputTransportRequestRecord, TransportPathContract,
};

use jerichoci::model::record::RunRecord;

use crate::rig::{Tree, command, document};

const CONSUMER: (&str, &str) = ("JERICHOCI_PREPARED_OUTPUT_CONSUMER", "fulfill_request_cli_v1");
const WRAPPER: (&str, &str) = ("JERICHOCI_PREPARED_OUTPUT_FULFILL_INVOCATION", "external_wrapper_command_v1");
const TRANSPORT: &str = "JERICHOCI_PREPARED_OUTPUT_FULFILL_LAUNCHER_TRANSPORT";

#[test]
fn a_helper_is_started_with_the_request_and_its_result_is_recorded() {
    let Some(tree) = Tree::new("a_helper_is_started_with_the_request_and_its_result_is_recorded") else {
        return;
    };
    let run = tree.run(&[CONSUMER]);
    assert_eq!(run.prepared_output_consumer, Some(Consumer::FulfillRequestCliV1));
    assert_eq!(run.prepared_output_invocation_mode, Some(InvocationMode::DirectHelperExecV1));
    assert_eq!(run.prepared_output_invocation_wrapper_program, None);
    let record = tree.outputs(&run);
    for output in &record.outputs {
        let request: PreparedOutputRequestRecord = document(output.consumer_request_path.as_ref().unwrap());
        assert_eq!(request.requested_exposures, output.requested_exposures);
        assert_eq!(output.exposures, output.requested_exposures);
        assert!(Path::new(output.consumer_result_path.as_ref().unwrap()).exists());
        assert_eq!(output.consumer_launch_request_path, None);
        assert!(output.payload.is_some());
    }
    let origin = |name: &str| {
        run.settings.iter().filter(|setting| setting.name == name).map(|it| &*it.origin).collect::<Vec<_>>()
    };
    assert_eq!(origin("prepared_output_consumer"), ["environment"]);
    assert_eq!(origin("prepared_output_invocation_mode"), ["default"]);

    // The request can be replayed by hand, and a rerun does what was recorded.
    let request = record.outputs[0].consumer_request_path.as_ref().unwrap();
    let link = Path::new(&record.outputs[0].exposures[0].path);
    std::fs::remove_file(link).unwrap();
    // The output itself is not kept after its run; here nobody has collected it.
    let replayed = tree.pikaci(&["fulfill-prepared-output-request", request], &[]);
    assert!(replayed.status.success(), "{replayed:?}");
    assert_eq!(
        String::from_utf8(replayed.stdout).unwrap(),
        format!("request={request}\noutput=ci.x86_64-linux.deps\nrequested_exposures=1\n")
    );
    assert!(link.is_symlink());
    let again = tree.pikaci(&["rerun", &run.run_id, "--output", "json"], &[]);
    let again: jerichoci::model::record::RunRecord = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again.prepared_output_consumer, Some(Consumer::FulfillRequestCliV1));
    let consumer = again.settings.iter().find(|setting| setting.name == "prepared_output_consumer").unwrap();
    assert_eq!(consumer.origin, format!("run {}", run.run_id));
}

#[test]
fn a_launcher_is_started_directly_or_by_a_program_that_is_given_a_transport_request() {
    let Some(tree) =
        Tree::new("a_launcher_is_started_directly_or_by_a_program_that_is_given_a_transport_request")
    else {
        return;
    };
    let run = tree.run(&[CONSUMER, WRAPPER]);
    assert_eq!(run.prepared_output_invocation_mode, Some(InvocationMode::ExternalWrapperCommandV1));
    let launcher = built_program!("pikaci-launch-fulfill-prepared-output");
    let launcher = launcher.canonicalize().unwrap().to_string_lossy().into_owned();
    assert_eq!(run.prepared_output_invocation_wrapper_program.as_ref(), Some(&launcher));
    let output = &tree.outputs(&run).outputs[0];
    assert!(output.consumer_launch_request_path.is_some());
    assert_eq!(output.consumer_transport_request_path, None);

    let transport = tree.script(
        "transport",
        "field() { sed -n \"s/^  \\\"$1\\\": \\\"\\(.*\\)\\\",*$/\\1/p\" \"$2\"; }\n\
         exec \"$(field launcher_program \"$1\")\" \"$(field launcher_request_path \"$1\")\"",
    );
    let run = tree.run(&[
        CONSUMER,
        WRAPPER,
        (TRANSPORT, "command_transport_v1"),
        ("JERICHOCI_PREPARED_OUTPUT_FULFILL_TRANSPORT_BINARY", &transport),
    ]);
    assert_eq!(run.prepared_output_launcher_transport_mode, Some(LauncherTransportMode::CommandTransportV1));
    assert_eq!(run.prepared_output_launcher_transport_program.as_ref(), Some(&transport));
    let output = &tree.outputs(&run).outputs[1];
    let request: PreparedOutputTransportRequestRecord =
        document(output.consumer_transport_request_path.as_ref().unwrap());
    assert_eq!(request.path_contract, TransportPathContract::SameHostAbsolutePathsV1);
    assert_eq!(request.launcher_program, launcher);
}

#[test]
fn a_helper_that_fails_or_lies_fails_the_node_as_infrastructure_and_is_recorded() {
    let Some(tree) =
        Tree::new("a_helper_that_fails_or_lies_fails_the_node_as_infrastructure_and_is_recorded")
    else {
        return;
    };
    let real = built_program!("pikaci-fulfill-prepared-output");
    let real = real.display();
    for (script, why) in [
        ("exit 3".to_owned(), "exit code 3"),
        ("exit 0".to_owned(), "cannot read"),
        (format!("{real} \"$@\"; exit 1"), "did not exit with 0"),
        ("mkdir -p \"$(dirname \"$2\")\"; ln -sfn /dev/zero \"$2\"".to_owned(), "not a regular file"),
        ("mkdir -p \"$(dirname \"$2\")\"; mkfifo \"$2\"".to_owned(), "not a regular file"),
        (
            "mkdir -p \"$(dirname \"$2\")\"; truncate -s 99999999999 \"$2\"".to_owned(),
            "longer than 16777216 bytes",
        ),
        ("echo '{' > \"$2\"; mkdir -p \"$(dirname \"$2\")\"; echo '{' > \"$2\"".to_owned(), "EOF"),
        (
            format!(
                "{real} \"$@\"; sed -i 's/fulfilled_exposures_count\": 1/fulfilled_exposures_count\": 2/' \"$2\""
            ),
            "counts 2",
        ),
        (format!("{real} \"$@\"; sed -i 's/node_id\": \"prepare/node_id\": \"other/' \"$2\""), "node_id"),
    ] {
        let helper = tree.script("helper", &script);
        let (code, run) = tree.fails(&[CONSUMER, ("JERICHOCI_PREPARED_OUTPUT_FULFILL_BINARY", &helper)]);
        assert_eq!((code, run.verdict), (3, Verdict::Failed(FailureKind::Infrastructure)), "{script}");
        let message = run.jobs[0].message.as_ref().unwrap();
        assert!(message.contains("handed over") && message.contains(why), "{script}: {message}");
        let output = &tree.outputs(&run).outputs[0];
        assert!(output.consumer_request_path.is_some() && output.exposures.is_empty(), "{output:?}");
    }
}

#[test]
fn over_ssh_the_host_fulfils_its_own_copy_of_the_request() {
    let test = "over_ssh_the_host_fulfils_its_own_copy_of_the_request";
    let Some(tree) = Tree::new(test) else { return };
    let Some(sshd) = ssh::Rig::start(test) else { return };
    let ssh = tree.script("ssh", &format!("exec ssh -F {} \"$@\"", sshd.config().display()));
    let store = tree.nix.store();
    let helper = tree.script(
        "helper",
        &format!(
            "export NIX_STORE_DIR='{}'; exec '{}' \"$@\"",
            store.display(),
            built_program!("pikaci-fulfill-prepared-output").display()
        ),
    );
    let launcher = built_program!("pikaci-launch-fulfill-prepared-output").to_string_lossy().into_owned();
    let seen = tree.beside().join("seen");
    let launcher = tree.script(
        "launcher",
        &format!(
            "'{launcher}' \"$1\" && find {0}/work/runs -type l > {1}",
            tree.beside().display(),
            seen.display()
        ),
    );
    let work = tree.beside().join("work").to_string_lossy().into_owned();
    let variables = [
        ("JERICHOCI_PRE_MERGE_PIKA_RUST_SUBPROCESS_FULFILL", "1"),
        WRAPPER,
        (TRANSPORT, "ssh_launcher_transport_v1"),
        ("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_BINARY", &*ssh),
        ("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_HOST", "rig"),
        ("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_REMOTE_WORK_DIR", &*work),
        ("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_REMOTE_LAUNCHER_BINARY", &*launcher),
        ("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_REMOTE_HELPER_BINARY", &*helper),
    ];
    let run = tree.run(&variables);
    assert_eq!(run.prepared_output_mode.as_deref(), Some("pre_merge_pika_rust_subprocess_fulfillment_v1"));
    assert_eq!(
        run.prepared_output_launcher_transport_mode,
        Some(LauncherTransportMode::SshLauncherTransportV1)
    );
    assert_eq!(run.prepared_output_launcher_transport_host.as_deref(), Some("rig"));
    assert_eq!(run.prepared_output_launcher_transport_remote_work_dir.as_ref(), Some(&work));
    let record = tree.outputs(&run);
    let build = &record.outputs[1];
    assert_eq!(build.exposures, build.requested_exposures, "the output is here too");
    let request: PreparedOutputTransportRequestRecord =
        document(build.consumer_transport_request_path.as_ref().unwrap());
    assert_eq!(request.path_contract, TransportPathContract::SshRemoteWorkDirTranslationV1);
    let there = format!("{work}/runs/{}", run.run_id);
    assert_eq!(
        request.remote_helper_result_path,
        Some(format!("{there}/prepared-output-results/{}.json", build.node_id))
    );
    let seen = std::fs::read_to_string(seen).unwrap();
    assert!(seen.contains(&format!("{there}/jobs/check/staged-linux-rust/workspace-build")), "{seen}");
    assert!(!Path::new(&there).exists(), "nothing of the run is left on the host");

    // A launcher that fails there is a failed result here.
    let broken = tree.script("broken", "exit 9");
    let mut variables = variables;
    variables[6].1 = &broken;
    let (code, run) = tree.fails(&variables);
    assert_eq!((code, run.verdict), (3, Verdict::Failed(FailureKind::Infrastructure)));
    assert!(run.jobs[0].message.as_ref().unwrap().contains("exit code 9"), "{run:#?}");
    let result = tree.outputs(&run).outputs[0].consumer_result_path.clone().unwrap();
    let result: jerichoci::model::outputs::PreparedOutputResultRecord = document(result);
    assert_eq!(result.status, jerichoci::model::outputs::FulfillmentStatus::Failed);
    assert!(!Path::new(&format!("{work}/runs/{}", run.run_id)).exists());
}

/// The variables of a launcher over SSH to this machine, with `work` as the directory there.
pub(crate) fn over_ssh(
    tree: &Tree,
    sshd: &ssh::Rig,
    work: &Path,
    launcher: &str,
) -> Vec<(&'static str, String)> {
    let ssh = tree.script("ssh", &format!("exec ssh -F {} \"$@\"", sshd.config().display()));
    let helper = format!(
        "export NIX_STORE_DIR='{}'; exec '{}' \"$@\"",
        tree.nix.store().display(),
        built_program!("pikaci-fulfill-prepared-output").display()
    );
    let (name, value) = CONSUMER;
    let (invocation, wrapper) = WRAPPER;
    vec![
        (name, value.to_owned()),
        (invocation, wrapper.to_owned()),
        (TRANSPORT, "ssh_launcher_transport_v1".to_owned()),
        ("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_BINARY", ssh),
        ("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_HOST", "rig".to_owned()),
        ("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_REMOTE_WORK_DIR", work.to_string_lossy().into_owned()),
        ("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_REMOTE_LAUNCHER_BINARY", tree.script("launcher", launcher)),
        ("JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_REMOTE_HELPER_BINARY", tree.script("helper", &helper)),
    ]
}

pub(crate) fn borrowed<'v>(variables: &'v [(&'static str, String)]) -> Vec<(&'v str, &'v str)> {
    variables.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

#[test]
fn a_host_of_a_handover_that_cannot_be_used_is_told_with_what_to_do_about_it() {
    let test = "a_host_of_a_handover_that_cannot_be_used_is_told_with_what_to_do_about_it";
    let Some(tree) = Tree::new(test) else { return };
    let Some(sshd) = ssh::Rig::start(test) else { return };
    let work = tree.beside().join("work");
    for (host, hint) in [
        ("rig-refused", "try `ssh rig-refused true`"),
        ("rig-wrong-key", "`ssh rig-wrong-key true` must work without asking for anything"),
        ("rig-unknown", "compare the key with the operator's"),
    ] {
        let mut variables = over_ssh(&tree, &sshd, &work, "exit 1");
        let name = "JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_HOST";
        variables.retain(|(known, _)| *known != name);
        variables.push((name, host.to_owned()));
        let (code, run) = tree.fails(&borrowed(&variables));
        assert_eq!((code, run.verdict), (3, Verdict::Failed(FailureKind::Infrastructure)));
        let message = run.jobs[0].message.as_ref().unwrap();
        assert!(message.contains(hint), "{host}: {message}");
    }
}

#[test]
fn nothing_is_started_in_a_work_directory_that_is_open_to_others_and_a_link_above_it_is_resolved() {
    let test =
        "nothing_is_started_in_a_work_directory_that_is_open_to_others_and_a_link_above_it_is_resolved";
    let Some(tree) = Tree::new(test) else { return };
    let Some(sshd) = ssh::Rig::start(test) else { return };
    let work = tree.beside().join("work");
    fs::create_dir(&work).unwrap();
    fs::set_permissions(&work, fs::Permissions::from_mode(0o777)).unwrap();
    let started = tree.beside().join("started");
    let real = built_program!("pikaci-launch-fulfill-prepared-output");
    let launcher = format!("echo \"$1\" >> {}; exec '{}' \"$@\"", started.display(), real.display());
    let variables = over_ssh(&tree, &sshd, &work, &launcher);
    let refused = |why: &str, hint: &str| {
        let (code, run) = tree.fails(&borrowed(&variables));
        assert_eq!((code, run.verdict), (3, Verdict::Failed(FailureKind::Infrastructure)));
        let message = run.jobs[0].message.as_ref().unwrap();
        assert!(message.contains(&*work.to_string_lossy()) && message.contains(why), "{message}");
        assert!(message.contains(hint), "{message}");
        assert!(!started.exists() && fs::read_dir(&work).unwrap().next().is_none());
    };
    refused("written by others", "mend it with `ssh rig 'chmod 0700 ");
    let root = rustix::process::geteuid().is_root();
    if jericho_testkit::need::needs(test, "needs root, for a directory of somebody else", root) {
        std::os::unix::fs::chown(&work, Some(65534), Some(65534)).unwrap();
        refused("belongs to", "give it to the account with `ssh rig 'sudo chown root ");
    }
    let link = tree.beside().join("link");
    std::os::unix::fs::symlink(tree.beside(), &link).unwrap();
    let variables = over_ssh(&tree, &sshd, &link.join("own"), &launcher);
    let run = tree.run(&borrowed(&variables));
    let request: PreparedOutputTransportRequestRecord =
        document(tree.outputs(&run).outputs[0].consumer_transport_request_path.as_ref().unwrap());
    let own = tree.beside().join("own").to_string_lossy().into_owned();
    assert_eq!(request.remote_work_dir.as_ref(), Some(&own));
    assert!(fs::read_to_string(started).unwrap().starts_with(&own));
}

#[test]
fn a_cancel_while_an_output_is_handed_over_is_recorded_as_one() {
    let test = "a_cancel_while_an_output_is_handed_over_is_recorded_as_one";
    let Some(tree) = Tree::new(test) else { return };
    let Some(sshd) = ssh::Rig::start(test) else { return };
    let fifo = tree.beside().join("started");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let waits = format!("echo > '{}'; exec sleep 1000", fifo.display());
    let helper = tree.script("waiting", &waits);
    let here = vec![CONSUMER, ("JERICHOCI_PREPARED_OUTPUT_FULFILL_BINARY", &*helper)];
    let there = over_ssh(&tree, &sshd, &tree.beside().join("work"), &waits);
    for variables in [here, borrowed(&there)] {
        let mut pikaci = command(&built_program!("pikaci"), &tree.nix);
        pikaci.current_dir(&tree.root).args(["run", "--no-git", "--output", "json"]);
        let pikaci = pikaci.envs(variables).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        assert_eq!(fs::read_to_string(&fifo).unwrap(), "\n");
        let pid = rustix::process::Pid::from_raw(i32::try_from(pikaci.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let output = pikaci.wait_with_output().unwrap();
        let run: RunRecord = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        assert_eq!(run.verdict, Verdict::Failed(FailureKind::Cancelled), "{run:#?}");
        assert_eq!(run.jobs[0].verdict, Verdict::Failed(FailureKind::Cancelled), "{run:#?}");
        assert_eq!(output.status.code(), Some(4));
    }
}

#[test]
fn what_did_not_pass_in_subprocess_mode_is_repeated_also_without_a_staged_job() {
    let test = "what_did_not_pass_in_subprocess_mode_is_repeated_also_without_a_staged_job";
    let Some(tree) = Tree::new(test) else { return };
    let targets = fs::read_to_string(tree.root.join("jericho.toml")).unwrap();
    let other = "[targets.staged.jobs.other]\ncommand = \"exit 1\"\n";
    fs::write(tree.root.join("jericho.toml"), targets + other).unwrap();
    let subprocess = [("JERICHOCI_PRE_MERGE_PIKA_RUST_SUBPROCESS_FULFILL", "1")];
    let output = tree.pikaci(&["run", "--no-git", "--keep-going", "--output", "json"], &subprocess);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let mut run: RunRecord = serde_json::from_slice(&output.stdout).unwrap();
    // Twice: the record of the first has no mode, for it has no staged job.
    for _ in 0..2 {
        let output = tree.pikaci(&["rerun", &run.run_id, "--failed", "--output", "json"], &subprocess);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        run = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(run.jobs.len(), 1);
        assert_eq!(run.jobs[0].verdict, Verdict::Failed(FailureKind::TestFailure), "{run:#?}");
    }
}

#[test]
fn the_helper_of_a_host_knows_the_store_of_the_nix_of_that_host() {
    let test = "the_helper_of_a_host_knows_the_store_of_the_nix_of_that_host";
    let Some(tree) = Tree::new(test) else { return };
    let Some(sshd) = ssh::Rig::start(test) else { return };
    let config = tree.beside().join("config.toml");
    let nix = tree.nix.program_alone().unwrap();
    let host =
        format!("[hosts.rig]\nssh = \"rig\"\nallow = [\"host_process\"]\nnix = \"{}\"\n", nix.display());
    fs::write(&config, host).unwrap();
    let launcher = built_program!("pikaci-launch-fulfill-prepared-output");
    let launcher = format!("exec '{}' \"$@\"", launcher.display());
    let mut variables = over_ssh(&tree, &sshd, &tree.beside().join("work"), &launcher);
    let helper = variables.iter_mut().find(|(name, _)| name.ends_with("SSH_REMOTE_HELPER_BINARY")).unwrap();
    helper.1 = built_program!("pikaci-fulfill-prepared-output").to_string_lossy().into_owned();
    let config = config.to_string_lossy();
    let args = ["--config", &config, "run", "--no-git", "--output", "json"];
    let output = tree.pikaci(&args, &borrowed(&variables));
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_rerun_uses_the_ssh_program_that_it_records() {
    let test = "a_rerun_uses_the_ssh_program_that_it_records";
    let Some(tree) = Tree::new(test) else { return };
    let Some(sshd) = ssh::Rig::start(test) else { return };
    let launcher = built_program!("pikaci-launch-fulfill-prepared-output");
    let launcher = format!("exec '{}' \"$@\"", launcher.display());
    let mut variables = over_ssh(&tree, &sshd, &tree.beside().join("work"), &launcher);
    let mut use_ssh = |name: &str| {
        let calls = tree.beside().join(format!("calls-{name}"));
        let config = sshd.config();
        let text = format!("echo >> {}; exec ssh -F {} \"$@\"", calls.display(), config.display());
        let program = variables.iter_mut().find(|(name, _)| name.ends_with("FULFILL_SSH_BINARY")).unwrap();
        program.1 = tree.script(name, &text);
        (program.1.clone(), variables.clone(), calls)
    };
    let (then, variables, calls) = use_ssh("then");
    let run = tree.run(&borrowed(&variables));
    let first = fs::read_to_string(&calls).unwrap().len();
    let (_, variables, others) = use_ssh("today");
    let output = tree.pikaci(&["rerun", &run.run_id, "--output", "json"], &borrowed(&variables));
    let again: RunRecord = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(again.verdict, Verdict::Passed, "{again:#?}");
    assert_eq!(again.prepared_output_launcher_transport_program, Some(then));
    assert!(fs::read_to_string(&calls).unwrap().len() > first && !others.exists());
}

#[test]
fn a_failed_result_of_any_version_says_why() {
    let Some(tree) = Tree::new("a_failed_result_of_any_version_says_why") else { return };
    let result = r#"{"schema_version":2,"request_path":"x","node_id":null,"output_name":null,"realized_path":null,"status":"failed","fulfilled_exposures_count":0,"fulfilled_exposures":[],"error":"the real reason"}"#;
    let helper =
        tree.script("helper", &format!("mkdir -p \"$(dirname \"$2\")\"; echo '{result}' > \"$2\"; exit 1"));
    let (_, run) = tree.fails(&[CONSUMER, ("JERICHOCI_PREPARED_OUTPUT_FULFILL_BINARY", &helper)]);
    assert!(run.jobs[0].message.as_ref().unwrap().contains("the real reason"), "{run:#?}");
}

#[test]
fn requests_alone_are_no_way_for_a_staged_job() {
    let Some(tree) = Tree::new("requests_alone_are_no_way_for_a_staged_job") else { return };
    let (code, run) = tree.fails(&[("JERICHOCI_PREPARED_OUTPUT_CONSUMER", "remote_request_v1")]);
    assert_eq!((code, run.verdict), (3, Verdict::Failed(FailureKind::Infrastructure)));
    assert!(run.message.as_ref().unwrap().contains("remote_request_v1"), "{run:#?}");
    // A job without outputs has nothing to request.
    std::fs::write(
        tree.root.join("jericho.toml"),
        "[targets.t]\ndefault = true\n[targets.t.jobs.plain]\ncommand = \"true\"\n",
    )
    .unwrap();
    let run = tree.run(&[("JERICHOCI_PREPARED_OUTPUT_CONSUMER", "remote_request_v1")]);
    assert_eq!((run.verdict, run.prepared_outputs_path), (Verdict::Passed, None));
    let output = tree.pikaci(&["run", "--no-git"], &[("JERICHOCI_PREPARED_OUTPUT_CONSUMER", "nobody")]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
