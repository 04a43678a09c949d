//! The text of `pikaci status` and `pikaci list`: lines that other programs read.

use jerichoci::RunSummary;
use jerichoci::model::outputs::PreparedOutputsRecord;
use jerichoci::model::record::RunRecord;

use super::{printable, words::spelling};

/// One line a run, tab separated: id, status, target (else first job, else `-`), start.
pub(crate) fn list_line(run: &RunSummary) -> String {
    let subject = run.target_id.as_deref().or(run.first_job_id.as_deref()).unwrap_or("-");
    format!(
        "{}\t{}\t{}\t{}\n",
        printable::text(&run.run_id),
        run.verdict.status().as_str(),
        printable::text(subject),
        run.created_at.to_rfc3339()
    )
}

/// What is known about a run, a line each; what is absent has none.
pub(crate) fn status(record: &RunRecord) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        text.push_str(&printable::text(&line));
        text.push('\n');
    };
    let target = record.target_id.as_deref().unwrap_or("-");
    line(format!("{} {target} {}", record.run_id, record.verdict.status().as_str()));

    let fields = [
        ("plan", record.plan_path.clone()),
        ("prepared_outputs", record.prepared_outputs_path.clone()),
        ("prepared_output_consumer", record.prepared_output_consumer.map(|value| spelling(&value))),
        ("prepared_output_mode", record.prepared_output_mode.clone()),
        (
            "prepared_output_invocation_mode",
            record.prepared_output_invocation_mode.map(|value| spelling(&value)),
        ),
        (
            "prepared_output_invocation_launcher_program",
            record.prepared_output_invocation_wrapper_program.clone(),
        ),
        (
            "prepared_output_launcher_transport_mode",
            record.prepared_output_launcher_transport_mode.map(|value| spelling(&value)),
        ),
        (
            "prepared_output_launcher_transport_program",
            record.prepared_output_launcher_transport_program.clone(),
        ),
        ("prepared_output_launcher_transport_host", record.prepared_output_launcher_transport_host.clone()),
        (
            "prepared_output_launcher_transport_remote_launcher_program",
            record.prepared_output_launcher_transport_remote_launcher_program.clone(),
        ),
        (
            "prepared_output_launcher_transport_remote_helper_program",
            record.prepared_output_launcher_transport_remote_helper_program.clone(),
        ),
        (
            "prepared_output_launcher_transport_remote_work_dir",
            record.prepared_output_launcher_transport_remote_work_dir.clone(),
        ),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            line(format!("{name}={value}"));
        }
    }
    if let Some(message) = &record.message {
        line(message.clone());
    }
    if !record.changed_files.is_empty() {
        line(format!("changed_files={}", record.changed_files.len()));
    }
    for job in &record.jobs {
        line(format!("{} {}", job.id, job.verdict.status().as_str()));
    }
    text
}

/// The prepared outputs of a run: a head of three lines, then one line an output, tab separated:
/// node, output name, installable, consumer, realised path, payload kind or `-`, entrypoints.
pub(crate) fn prepared_outputs(run_id: &str, record: &PreparedOutputsRecord) -> String {
    let (version, outputs) = (record.schema_version, record.outputs.len());
    let mut text = format!("run_id={run_id}\nschema_version={version}\noutputs={outputs}\n");
    for output in &record.outputs {
        let payload = output.payload.as_ref();
        let columns = [
            output.node_id.as_str(),
            &output.output_name,
            &output.installable,
            &spelling(&output.consumer),
            &output.realized_path,
            payload.map_or("-", |payload| payload.kind.as_str()),
            &payload.map_or(0, |payload| payload.entrypoints.len()).to_string(),
        ]
        .map(printable::text);
        text.push_str(&columns.join("\t"));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;
    use jerichoci::model::outcome::{FailureKind, Verdict};
    use jerichoci::model::outputs::{Consumer, InvocationMode, LauncherTransportMode};

    #[test]
    fn status_has_a_line_for_every_value_that_is_there() {
        let mut record = sample::run(Verdict::Failed(FailureKind::Timeout));
        record.jobs =
            vec![sample::job("a", Verdict::Passed), sample::job("b", Verdict::Failed(FailureKind::Timeout))];
        insta::assert_snapshot!(status(&record), @r"
        20260401T120000Z-0a1b2c3d check failed
        a passed
        b failed
        ");

        record.plan_path = Some("/s/plan.json".to_owned());
        record.prepared_outputs_path = Some("/s/prepared-outputs.json".to_owned());
        record.prepared_output_consumer = Some(Consumer::FulfillRequestCliV1);
        record.prepared_output_mode = Some("mode".to_owned());
        record.prepared_output_invocation_mode = Some(InvocationMode::ExternalWrapperCommandV1);
        record.prepared_output_invocation_wrapper_program = Some("/bin/launcher".to_owned());
        record.prepared_output_launcher_transport_mode = Some(LauncherTransportMode::SshLauncherTransportV1);
        record.prepared_output_launcher_transport_program = Some("/usr/bin/ssh".to_owned());
        record.prepared_output_launcher_transport_host = Some("builder".to_owned());
        record.prepared_output_launcher_transport_remote_launcher_program = Some("/r/launcher".to_owned());
        record.prepared_output_launcher_transport_remote_helper_program = Some("/r/helper".to_owned());
        record.prepared_output_launcher_transport_remote_work_dir = Some("/r/work".to_owned());
        record.message = Some("a message".to_owned());
        record.changed_files = vec!["a".to_owned(), "b".to_owned()];
        insta::assert_snapshot!(status(&record), @r"
        20260401T120000Z-0a1b2c3d check failed
        plan=/s/plan.json
        prepared_outputs=/s/prepared-outputs.json
        prepared_output_consumer=fulfill_request_cli_v1
        prepared_output_mode=mode
        prepared_output_invocation_mode=external_wrapper_command_v1
        prepared_output_invocation_launcher_program=/bin/launcher
        prepared_output_launcher_transport_mode=ssh_launcher_transport_v1
        prepared_output_launcher_transport_program=/usr/bin/ssh
        prepared_output_launcher_transport_host=builder
        prepared_output_launcher_transport_remote_launcher_program=/r/launcher
        prepared_output_launcher_transport_remote_helper_program=/r/helper
        prepared_output_launcher_transport_remote_work_dir=/r/work
        a message
        changed_files=2
        a passed
        b failed
        ");
    }

    #[test]
    fn prepared_outputs_have_a_line_each() {
        let record: PreparedOutputsRecord = serde_json::from_value(serde_json::json!({
            "schema_version": 1,
            "outputs": [
                { "node_id": "n1", "installable": "path:/s#a", "output_name": "a", "protocol": "nix_store_path_v1",
                  "consumer": "host_local_symlink_mounts_v1", "realized_path": "/nix/store/x-a",
                  "payload": { "schema_version": 1, "kind": "k", "entrypoints": [{ "name": "e", "relative_path": "bin/e" }] } },
                { "node_id": "n2", "installable": "path:/s#b", "output_name": "b", "protocol": "nix_store_path_v1",
                  "consumer": "fulfill_request_cli_v1", "realized_path": "/nix/store/x-b", "payload": null }
            ]
        }))
        .expect("a record");
        insta::assert_snapshot!(prepared_outputs(sample::RUN, &record), @r"
        run_id=20260401T120000Z-0a1b2c3d
        schema_version=1
        outputs=2
        n1	a	path:/s#a	host_local_symlink_mounts_v1	/nix/store/x-a	k	1
        n2	b	path:/s#b	fulfill_request_cli_v1	/nix/store/x-b	-	0
        ");
    }

    #[test]
    fn a_list_line_names_the_target_else_the_first_job_else_nothing() {
        let mut run = RunSummary {
            run_id: sample::RUN.to_owned(),
            verdict: Verdict::Failed(FailureKind::Interrupted),
            target_id: Some("t".to_owned()),
            first_job_id: Some("j".to_owned()),
            created_at: "2026-04-01T12:00:00.5Z".parse().expect("a time"),
        };
        assert_eq!(list_line(&run), "20260401T120000Z-0a1b2c3d\tfailed\tt\t2026-04-01T12:00:00.500+00:00\n");
        run.target_id = None;
        assert!(list_line(&run).contains("\tj\t"));
        run.first_job_id = None;
        assert!(list_line(&run).contains("\t-\t"));
    }
}
