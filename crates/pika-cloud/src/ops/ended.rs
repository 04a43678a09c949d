//! How an attempt of a guest's work ended, and what the policies make of it. Pure.

use std::fmt;

use crate::lifecycle::{RuntimeResultStatus, RuntimeTerminalResult};
use crate::spec::{OutputCollectionMode, RestartPolicy, RetentionPolicy};

/// How an attempt of a guest's work ended. Only [`Ended::Result`] is a verdict on the work; all
/// others happened to it.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// The guest wrote its result.
    Result(RuntimeTerminalResult),
    /// The entry program ended without a result: killed (137, also by the kernel for want of
    /// memory), missing (72), its directories not writable (73), the guest not made
    /// ready (74), or it does not keep the contract. The guest
    /// runs.
    NoResult {
        /// What it returned; absent when that is no longer known.
        exit_code: Option<i32>,
        /// What Incus said, when it could not run it.
        message: String,
    },
    /// The guest was stopped, by somebody or by itself, before it wrote a result.
    Stopped,
    /// The guest was removed by somebody.
    Deleted,
    /// The guest did not say in time that it is ready; it was stopped.
    NotReady,
    /// The time limit was over; the guest was stopped.
    TimeLimit,
}

impl Ended {
    /// Whether the work was done well.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Result(result) if result.status == RuntimeResultStatus::Completed)
    }

    /// Whether there is still a guest, running or stopped.
    #[must_use]
    pub fn has_guest(&self) -> bool {
        !matches!(self, Self::Deleted)
    }

    /// Whether the guest runs on.
    #[must_use]
    pub fn runs_on(&self) -> bool {
        matches!(self, Self::Result(_) | Self::NoResult { .. })
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Result(result) => write!(f, "{}: {}", result.status, result.message),
            Self::NoResult { exit_code: Some(code), .. } => {
                write!(f, "the entry program ended with code {code} and left no result")
            }
            Self::NoResult { exit_code: None, message } if message.is_empty() => {
                f.write_str("the entry program ended and left no result")
            }
            Self::NoResult { exit_code: None, message } => {
                write!(f, "the entry program could not be run: {message}")
            }
            Self::Stopped => f.write_str("the instance was stopped"),
            Self::Deleted => f.write_str("the instance was deleted"),
            Self::NotReady => f.write_str("the guest did not get ready in time"),
            Self::TimeLimit => f.write_str("the time limit of the guest was over"),
        }
    }
}

impl RestartPolicy {
    /// Whether the work is begun again after it ended so.
    ///
    /// Never after a time limit, which is the caller's end of it all, nor when the guest was
    /// deleted, which is its owner's.
    #[must_use]
    pub fn restarts_after(self, ended: &Ended) -> bool {
        match ended {
            Ended::TimeLimit | Ended::Deleted => false,
            _ => match self {
                Self::Never => false,
                Self::OnFailure => !ended.is_success(),
                Self::Always => true,
            },
        }
    }
}

impl OutputCollectionMode {
    /// Whether output is brought back after the work ended so.
    #[must_use]
    pub fn collects_after(self, ended: &Ended) -> bool {
        match self {
            Self::None => false,
            Self::FailureOnly => ended.has_guest() && !ended.is_success(),
            Self::Always => ended.has_guest(),
        }
    }
}

impl RetentionPolicy {
    /// Whether the guest is kept after its work ended so.
    ///
    /// `keep_until_stopped` keeps what runs; `debug_keep` keeps all that is there.
    #[must_use]
    pub fn keeps_after(self, ended: &Ended) -> bool {
        match self {
            Self::DestroyOnCompletion => false,
            Self::KeepUntilStopped => ended.runs_on(),
            Self::DebugKeep => ended.has_guest(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> [(&'static str, Ended); 7] {
        let at = chrono::DateTime::UNIX_EPOCH;
        [
            ("completed", Ended::Result(RuntimeTerminalResult::from_exit_code(0, at, "well"))),
            ("failed", Ended::Result(RuntimeTerminalResult::from_exit_code(1, at, "badly"))),
            ("no result", Ended::NoResult { exit_code: Some(137), message: String::new() }),
            ("stopped", Ended::Stopped),
            ("deleted", Ended::Deleted),
            ("not ready", Ended::NotReady),
            ("time limit", Ended::TimeLimit),
        ]
    }

    fn those(applies: impl Fn(&Ended) -> bool) -> Vec<&'static str> {
        all().into_iter().filter(|(_, ended)| applies(ended)).map(|(name, _)| name).collect()
    }

    #[test]
    fn every_policy_on_every_ending() {
        assert!(those(|ended| RestartPolicy::Never.restarts_after(ended)).is_empty());
        assert_eq!(
            those(|ended| RestartPolicy::OnFailure.restarts_after(ended)),
            ["failed", "no result", "stopped", "not ready"]
        );
        assert_eq!(
            those(|ended| RestartPolicy::Always.restarts_after(ended)),
            ["completed", "failed", "no result", "stopped", "not ready"]
        );

        assert!(those(|ended| OutputCollectionMode::None.collects_after(ended)).is_empty());
        assert_eq!(
            those(|ended| OutputCollectionMode::FailureOnly.collects_after(ended)),
            ["failed", "no result", "stopped", "not ready", "time limit"]
        );
        assert_eq!(
            those(|ended| OutputCollectionMode::Always.collects_after(ended)),
            ["completed", "failed", "no result", "stopped", "not ready", "time limit"]
        );

        assert!(those(|ended| RetentionPolicy::DestroyOnCompletion.keeps_after(ended)).is_empty());
        assert_eq!(
            those(|ended| RetentionPolicy::KeepUntilStopped.keeps_after(ended)),
            ["completed", "failed", "no result"]
        );
        assert_eq!(
            those(|ended| RetentionPolicy::DebugKeep.keeps_after(ended)),
            ["completed", "failed", "no result", "stopped", "not ready", "time limit"]
        );
    }
}
