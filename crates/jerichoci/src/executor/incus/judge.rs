//! From how a guest's work ended to how its job ended. Pure.

use pika_cloud::lifecycle::{RuntimeResultStatus, RuntimeTerminalResult};
use pika_cloud::ops::Ended;
use serde_json::Value;

use crate::model::outcome::{FailureKind, JobOutcome, Verdict};

/// Exit code of a runner that stopped the command because its time was up.
const TIMED_OUT: i32 = 124;

/// The outcome of a job whose guest ended so. `complaint` is what the runner said last of itself, `memory` the limit
/// of the guest in MiB.
pub(super) fn outcome(
    ended: &Ended,
    instance: &str,
    (timeout_secs, memory): (u64, Option<u32>),
    complaint: Option<&str>,
) -> JobOutcome {
    let because = complaint.map(|text| format!(": {text}")).unwrap_or_default();
    match ended {
        Ended::Result(result) => of_result(result, timeout_secs),
        Ended::NoResult { exit_code: Some(72), .. } => JobOutcome::errored(format!(
            "the guest has no runner{because}; build one for this machine with `just guest`, or use an image \
             that has it"
        )),
        Ended::NoResult { exit_code: Some(74), .. } => JobOutcome::errored(format!(
            "the guest could not be made ready: its user may not be able to read the source{because}"
        )),
        Ended::NoResult { exit_code: Some(137), .. } => JobOutcome::errored(format!(
            "the runner in instance {instance} was killed, as the kernel does when memory is short{because}"
        )),
        Ended::NoResult { exit_code, message } => {
            let code = exit_code.map(|code| format!(" with code {code}")).unwrap_or_default();
            let words = if message.is_empty() { because } else { format!(": {message}") };
            JobOutcome::errored(format!(
                "the runner in instance {instance} ended{code} without a result{words}"
            ))
        }
        Ended::Stopped => {
            // The kernel ends the first process of a guest too, and with it the guest.
            let perhaps =
                memory.map(|mib| format!("; its memory was limited to {mib} MiB, which may be too little"));
            JobOutcome::errored(format!(
                "instance {instance} was stopped before the command had ended{}",
                perhaps.unwrap_or_default()
            ))
        }
        Ended::Deleted => {
            JobOutcome::errored(format!("instance {instance} was deleted before the command had ended"))
        }
        Ended::NotReady => {
            JobOutcome::errored(format!("instance {instance} did not start the command in time{because}"))
        }
        Ended::TimeLimit => JobOutcome::new(
            Verdict::Failed(FailureKind::Timeout),
            format!("timed out after {timeout_secs}s, and the guest did not end the command itself"),
        ),
    }
}

fn of_result(result: &RuntimeTerminalResult, timeout_secs: u64) -> JobOutcome {
    let details = result.details.as_ref().unwrap_or(&Value::Null);
    let kind = details["failure_kind"].as_str();
    let signal = details["signal"].as_i64().and_then(|signal| i32::try_from(signal).ok());
    let mut outcome = JobOutcome::new(Verdict::Passed, result.message.clone());
    outcome.exit_code = result.exit_code;
    if result.status != RuntimeResultStatus::Completed {
        let kind = match kind {
            Some("timeout") => FailureKind::Timeout,
            // A runner that says no more than its exit code.
            None if result.exit_code == Some(TIMED_OUT) => FailureKind::Timeout,
            Some("test_failure") | None => FailureKind::TestFailure,
            // Not by this engine: that does not wait for a result then.
            Some("cancelled") => {
                outcome.message = format!("somebody ended the runner in the guest: {}", result.message);
                FailureKind::Infrastructure
            }
            Some(_) => FailureKind::Infrastructure,
        };
        outcome.verdict = Verdict::Failed(kind);
        if kind == FailureKind::Timeout {
            outcome.message = format!("timed out after {timeout_secs}s");
        }
        if kind != FailureKind::TestFailure {
            outcome.exit_code = None;
        } else if signal.is_some() {
            (outcome.exit_code, outcome.signal) = (None, signal);
        }
    }
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    outcome.warnings = texts(&details["warnings"]);
    let artifacts = texts(&details["artifacts"]["warnings"]);
    outcome.warnings.extend(artifacts.into_iter().map(|warning| format!("artifacts: {warning}")));
    for leaked in details["leaked"].as_array().into_iter().flatten() {
        let command = leaked["command"].as_str().unwrap_or("a process");
        outcome.leaked.push(format!("{command} (pid {} of the guest)", leaked["pid"]));
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: i32, details: Option<Value>) -> JobOutcome {
        let mut result =
            RuntimeTerminalResult::from_exit_code(code, chrono::DateTime::UNIX_EPOCH, "what it said");
        result.details = details;
        outcome(&Ended::Result(result), "guest-1", (7, None), None)
    }

    #[test]
    fn the_result_of_the_guest_decides() {
        let kinds = |code, kind: &str| {
            let outcome = of(code, Some(serde_json::json!({ "failure_kind": kind })));
            (outcome.verdict.failure_kind().unwrap(), outcome.exit_code)
        };
        assert_eq!(of(0, None).verdict, Verdict::Passed);
        assert_eq!(of(0, None).exit_code, Some(0));
        assert_eq!(kinds(3, "test_failure"), (FailureKind::TestFailure, Some(3)));
        assert_eq!(kinds(124, "test_failure"), (FailureKind::TestFailure, Some(124)));
        assert_eq!(kinds(124, "timeout"), (FailureKind::Timeout, None));
        assert_eq!(kinds(2, "infrastructure"), (FailureKind::Infrastructure, None));
        assert_eq!(kinds(143, "cancelled"), (FailureKind::Infrastructure, None));
        assert_eq!(kinds(9, "of a later version"), (FailureKind::Infrastructure, None));
        // Runners of version 2 say no more.
        assert_eq!(of(124, None).verdict, Verdict::Failed(FailureKind::Timeout));
        assert_eq!(of(1, None).verdict, Verdict::Failed(FailureKind::TestFailure));
    }

    #[test]
    fn what_happened_to_a_guest_is_no_verdict_on_its_work() {
        for ended in [
            Ended::NoResult { exit_code: Some(137), message: String::new() },
            Ended::NoResult { exit_code: Some(72), message: String::new() },
            Ended::NoResult { exit_code: Some(74), message: String::new() },
            Ended::NoResult { exit_code: None, message: "words".to_owned() },
            Ended::Stopped,
            Ended::Deleted,
            Ended::NotReady,
        ] {
            let outcome = outcome(&ended, "guest-1", (7, None), Some("a complaint"));
            assert_eq!(outcome.verdict, Verdict::Failed(FailureKind::Infrastructure), "{ended:?}");
            assert_eq!(outcome.exit_code, None);
        }
    }

    #[test]
    fn what_the_guest_left_behind_and_left_out_is_told() {
        let outcome = of(
            0,
            Some(serde_json::json!({ "warnings": ["a"], "artifacts": { "files": 0, "warnings": ["b"] },
                "leaked": [{ "pid": 7, "command": "sleep 9" }] })),
        );
        assert_eq!(outcome.warnings, ["a", "artifacts: b"]);
        assert_eq!(outcome.leaked, ["sleep 9 (pid 7 of the guest)"]);
    }
}
