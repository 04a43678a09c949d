//! Exit codes: one table, one match.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | passed, skipped, or the command did what it was asked for |
//! | 1 | a job failed or timed out |
//! | 2 | wrong usage: flags, `jericho.toml`, a setting |
//! | 3 | infrastructure: never the fault of a job; also `interrupted` |
//! | 4 | cancelled |
//! | 5 | no such run, target, job or log |
//!
//! `pikaci shell` ends as its shell does.
//!
//! Of mixed results the greatest of 4 > 3 > 1 decides; the record keeps all.

use std::process::ExitCode;

use jerichoci::model::outcome::{FailureKind, Verdict};

/// How the command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, passed or skipped.
    Success,
    /// A job failed or timed out.
    Failed,
    /// What was asked for makes no sense.
    Usage,
    /// The machine, not the jobs.
    Infrastructure,
    /// Somebody ended the run.
    Cancelled,
    /// No such run, target, job or log.
    NotFound,
    /// As a shell ended, or what was run in its place.
    Of(u8),
}

impl Exit {
    /// The number.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Infrastructure => 3,
            Self::Cancelled => 4,
            Self::NotFound => 5,
            Self::Of(code) => code,
        }
    }
}

/// Of a run that has ended. A run that is still `running` when the engine returns has lost its
/// end, which is no fault of its jobs.
impl From<Verdict> for Exit {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Passed | Verdict::Skipped => Self::Success,
            Verdict::Failed(FailureKind::TestFailure | FailureKind::Timeout | FailureKind::Unrecorded) => {
                Self::Failed
            }
            Verdict::Running | Verdict::Failed(FailureKind::Infrastructure | FailureKind::Interrupted) => {
                Self::Infrastructure
            }
            Verdict::Failed(FailureKind::Cancelled) => Self::Cancelled,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verdict_has_its_documented_code() {
        let table = [
            (Verdict::Passed, 0),
            (Verdict::Skipped, 0),
            (Verdict::Failed(FailureKind::TestFailure), 1),
            (Verdict::Failed(FailureKind::Timeout), 1),
            (Verdict::Failed(FailureKind::Unrecorded), 1),
            (Verdict::Failed(FailureKind::Infrastructure), 3),
            (Verdict::Failed(FailureKind::Interrupted), 3),
            (Verdict::Running, 3),
            (Verdict::Failed(FailureKind::Cancelled), 4),
        ];
        for (verdict, code) in table {
            assert_eq!(Exit::from(verdict).code(), code, "{verdict:?}");
        }
    }

    #[test]
    fn of_mixed_results_the_heaviest_has_the_greatest_code() {
        let kinds = [
            FailureKind::Unrecorded,
            FailureKind::TestFailure,
            FailureKind::Timeout,
            FailureKind::Infrastructure,
            FailureKind::Interrupted,
            FailureKind::Cancelled,
        ];
        let code = |kind| Exit::from(Verdict::Failed(kind)).code();
        for one in kinds {
            for other in kinds {
                assert_eq!(code(one.max(other)), code(one).max(code(other)), "{one:?} and {other:?}");
            }
        }
    }
}
