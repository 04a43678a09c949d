//! What the result of a runner means for the record of a job.

use pika_cloud::lifecycle::{RuntimeResultStatus, RuntimeTerminalResult};
use serde_json::Value;

use crate::model::job::JobSpec;
use crate::model::outcome::{FailureKind, JobOutcome, Verdict};

fn detail<'a>(result: &'a RuntimeTerminalResult, name: &str) -> Option<&'a Value> {
    result.details.as_ref()?.get(name)
}

fn failure_kind(result: &RuntimeTerminalResult) -> Option<&str> {
    detail(result, "failure_kind")?.as_str()
}

/// Whether somebody has told the runner to end the job.
pub(super) fn is_cancelled(result: &RuntimeTerminalResult) -> bool {
    failure_kind(result) == Some("cancelled")
}

/// How the job has ended, in the words of jobs of this machine.
pub(super) fn judge(result: &RuntimeTerminalResult, spec: &JobSpec, host: &str) -> JobOutcome {
    let signal =
        detail(result, "signal").and_then(Value::as_i64).and_then(|signal| i32::try_from(signal).ok());
    let mut outcome = match (result.status, failure_kind(result)) {
        (RuntimeResultStatus::Completed, _) => JobOutcome::new(Verdict::Passed, "passed"),
        (_, Some("test_failure")) => {
            let message = match (signal, result.exit_code) {
                (Some(signal), _) => format!("the command was ended by signal {signal}"),
                (None, Some(code)) => format!("the command exited with code {code}"),
                (None, None) => result.message.clone(),
            };
            JobOutcome::new(Verdict::Failed(FailureKind::TestFailure), message)
        }
        (_, Some("timeout")) => {
            let message = format!("timed out after {}s", spec.timeout_secs);
            JobOutcome::new(Verdict::Failed(FailureKind::Timeout), message)
        }
        (_, Some("cancelled")) => {
            let message = format!("cancelled on {host}: {}", result.message);
            JobOutcome::new(Verdict::Failed(FailureKind::Cancelled), message)
        }
        _ => JobOutcome::errored(format!("host {host}: {}", result.message)),
    };
    let is_of_the_command =
        matches!(outcome.verdict, Verdict::Passed | Verdict::Failed(FailureKind::TestFailure));
    if is_of_the_command {
        outcome.signal = signal;
        outcome.exit_code = result.exit_code.filter(|_| signal.is_none());
        let leaked = detail(result, "leaked").and_then(Value::as_array).into_iter().flatten();
        outcome.leaked = leaked
            .map(|left| format!("{} (pid {})", left["command"].as_str().unwrap_or_default(), left["pid"]))
            .collect();
    }
    let lines = |value: Option<&Value>| -> Vec<String> {
        let lines = value.and_then(Value::as_array).into_iter().flatten();
        lines.filter_map(|line| line.as_str().map(str::to_owned)).collect()
    };
    outcome.warnings = lines(detail(result, "warnings"));
    let artifacts = detail(result, "artifacts").and_then(|artifacts| artifacts.get("warnings"));
    outcome.warnings.extend(lines(artifacts).into_iter().map(|line| format!("artifacts: {line}")));
    outcome
}
