//! Every way to hand outputs over, from the environment to the record.

use std::path::Path;

use jericho_testkit::{built_program, ssh};
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::model::outputs::{
    Consumer, InvocationMode, LauncherTransportMode, PreparedOutputRequestRecord,
    PreparedOutputTransportRequestRecord, TransportPathContract,
};

use crate::rig::{Tree, document};

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
