//! The text of `pikaci status`: `name=value` lines that scripts read.

use std::io::Write as _;

use jerichoci::model::record::RunRecord;

use super::document::word;
use super::text::printable;
use crate::error::CliError;

/// Prints it.
pub(crate) fn print(record: &RunRecord) -> Result<(), CliError> {
    std::io::stdout().write_all(text(record).as_bytes()).map_err(CliError::output)
}

fn text(record: &RunRecord) -> String {
    let transport = "prepared_output_launcher_transport";
    let words: [(&str, Option<String>); 12] = [
        ("plan", record.plan_path.clone()),
        ("prepared_outputs", record.prepared_outputs_path.clone()),
        ("prepared_output_consumer", record.prepared_output_consumer.as_ref().map(word)),
        ("prepared_output_mode", record.prepared_output_mode.clone()),
        ("prepared_output_invocation_mode", record.prepared_output_invocation_mode.as_ref().map(word)),
        (
            "prepared_output_invocation_launcher_program",
            record.prepared_output_invocation_wrapper_program.clone(),
        ),
        (&format!("{transport}_mode"), record.prepared_output_launcher_transport_mode.as_ref().map(word)),
        (&format!("{transport}_program"), record.prepared_output_launcher_transport_program.clone()),
        (&format!("{transport}_host"), record.prepared_output_launcher_transport_host.clone()),
        (
            &format!("{transport}_remote_launcher_program"),
            record.prepared_output_launcher_transport_remote_launcher_program.clone(),
        ),
        (
            &format!("{transport}_remote_helper_program"),
            record.prepared_output_launcher_transport_remote_helper_program.clone(),
        ),
        (
            &format!("{transport}_remote_work_dir"),
            record.prepared_output_launcher_transport_remote_work_dir.clone(),
        ),
    ];
    let target = record.target_id.as_deref().unwrap_or("-");
    let mut lines = vec![format!("{} {target} {}", record.run_id, record.verdict.status().as_str())];
    lines.extend(words.into_iter().filter_map(|(name, value)| value.map(|value| format!("{name}={value}"))));
    lines.extend(record.message.clone());
    if !record.changed_files.is_empty() {
        lines.push(format!("changed_files={}", record.changed_files.len()));
    }
    lines.extend(record.jobs.iter().map(|job| format!("{} {}", job.id, job.verdict.status().as_str())));
    lines.iter().map(|line| printable(line.as_bytes()) + "\n").collect()
}
