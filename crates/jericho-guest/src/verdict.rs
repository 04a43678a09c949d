//! How a job ended, as its result says it.

use std::time::Duration;

use jericho_host::{EndedBy, Exit, Finished, HostError};
use serde_json::{Map, Value, json};

use crate::BOOTSTRAP_ERROR;

/// Exit code of a command whose time was up; that of timeout(1).
const TIMED_OUT: i32 = 124;
/// Exit code of a command that somebody ended; that of a shell for SIGTERM.
const CANCELLED: i32 = 143;

/// What went wrong, in the words of the run records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// The command said no.
    TestFailure,
    /// Its time was up.
    Timeout,
    /// Not the command's fault.
    Infrastructure,
    /// Somebody ended it.
    Cancelled,
    /// The runner was killed; somebody else found that out.
    Interrupted,
}

impl FailureKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::TestFailure => "test_failure",
            Self::Timeout => "timeout",
            Self::Infrastructure => "infrastructure",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Of the command, or in its place; nothing only when nobody knows.
    pub(crate) exit_code: Option<i32>,
    /// One line for people.
    pub(crate) message: String,
    /// Nothing when it passed.
    pub(crate) failure: Option<FailureKind>,
    /// The signal that ended the command itself.
    pub(crate) signal: Option<i32>,
}

impl Verdict {
    /// The runner could not start the command, or not follow it.
    pub(crate) fn infrastructure(message: impl Into<String>) -> Self {
        Self {
            exit_code: Some(i32::from(BOOTSTRAP_ERROR)),
            message: message.into(),
            failure: Some(FailureKind::Infrastructure),
            signal: None,
        }
    }

    /// The runner of this job was killed.
    pub(crate) fn interrupted() -> Self {
        Self {
            exit_code: None,
            message: "the runner was killed before the command had ended".to_owned(),
            failure: Some(FailureKind::Interrupted),
            signal: None,
        }
    }

    /// The command was started, and what follows it came back with this.
    pub(crate) fn of(finished: &Result<Finished, HostError>, limit: Duration) -> Self {
        let finished = match finished {
            Ok(finished) => finished,
            Err(HostError::Cancelled(reason)) => return Self::cancelled(&reason.to_string(), None),
            Err(error) => return Self::infrastructure(one_line(error)),
        };
        let signal = match finished.exit {
            Exit::Signal(signal) => Some(signal),
            Exit::Code(_) => None,
        };
        match (finished.ended_by, finished.exit) {
            (EndedBy::TimeLimit, _) => Self {
                exit_code: Some(TIMED_OUT),
                message: format!("timed out after {}s", limit.as_secs()),
                failure: Some(FailureKind::Timeout),
                signal,
            },
            (EndedBy::Cancelled(reason), _) => Self::cancelled(&reason.to_string(), signal),
            (EndedBy::Itself, Exit::Code(0)) => {
                Self { exit_code: Some(0), message: "test passed".to_owned(), failure: None, signal }
            }
            (EndedBy::Itself, Exit::Code(code)) => {
                Self::test_failure(code, format!("test failed with exit code {code}"), signal)
            }
            (EndedBy::Itself, Exit::Signal(number)) => {
                Self::test_failure(128 + number, format!("test was ended by signal {number}"), signal)
            }
        }
    }

    fn test_failure(code: i32, message: String, signal: Option<i32>) -> Self {
        Self { exit_code: Some(code), message, failure: Some(FailureKind::TestFailure), signal }
    }

    fn cancelled(reason: &str, signal: Option<i32>) -> Self {
        let message = format!("cancelled: {reason}");
        Self { exit_code: Some(CANCELLED), message, failure: Some(FailureKind::Cancelled), signal }
    }

    /// What the runner itself ends with.
    pub(crate) fn process_exit(&self) -> u8 {
        self.exit_code.and_then(|code| u8::try_from(code & 0xff).ok()).unwrap_or(BOOTSTRAP_ERROR)
    }

    /// The `details` of status and event.
    pub(crate) fn brief(&self) -> Value {
        json!({ "exit_code": self.exit_code })
    }

    /// The beginning of the `details` of a result.
    pub(crate) fn details(&self) -> Map<String, Value> {
        let mut details = Map::new();
        if let Some(failure) = self.failure {
            details.insert("failure_kind".to_owned(), failure.as_str().into());
        }
        if let Some(signal) = self.signal {
            details.insert("signal".to_owned(), signal.into());
        }
        details
    }
}

/// An error and its causes as one line.
pub(crate) fn one_line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some say their cause themselves.
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line.replace('\n', " ")
}
