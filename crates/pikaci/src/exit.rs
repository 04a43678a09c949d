//! Exit codes: every way to end, and the one match that gives it a number.

use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::model::record::RunRecord;

/// It did what was asked for; a run passed or was skipped.
pub(crate) const SUCCESS: u8 = 0;
/// A job failed or timed out.
pub(crate) const FAILED: u8 = 1;
/// The request makes no sense: arguments, variables, `jericho.toml`.
pub(crate) const USAGE: u8 = 2;
/// Not the fault of a job: this machine, a record, a run that was interrupted.
pub(crate) const INFRASTRUCTURE: u8 = 3;
/// Somebody ended the run, or nobody read its output any more.
pub(crate) const CANCELLED: u8 = 4;
/// No such run, job, log or target.
pub(crate) const NOT_FOUND: u8 = 5;

/// How an invocation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// A command other than `run` and `rerun` did what it does.
    Done,
    /// A run has this verdict.
    Run(Verdict),
    /// A run whose output could not be written to its end.
    OutputLost,
    /// A command could not do what it does.
    Error(ErrorKind),
}

/// Who has to do something about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// Who typed the command or wrote the file.
    Usage,
    /// Who looks after the machine.
    Infrastructure,
    /// Nobody: it was ended on request.
    Cancelled,
    /// Who named something that is not there.
    NotFound,
    /// Nobody: the reader of the output has gone, as in `pikaci list | head`.
    OutputClosed,
}

impl Ending {
    /// A run, by the heaviest of its own verdict and those of all its jobs.
    pub(crate) fn of_run(record: &RunRecord) -> Self {
        let heaviest = record
            .jobs
            .iter()
            .filter_map(|job| job.verdict.failure_kind())
            .chain(record.verdict.failure_kind())
            .max();
        Self::Run(heaviest.map_or(record.verdict, Verdict::Failed))
    }

    /// The exit code. `docs/cli.md` has the same table for people.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done
            | Self::Run(Verdict::Passed | Verdict::Skipped)
            | Self::Error(ErrorKind::OutputClosed) => SUCCESS,
            Self::Run(Verdict::Failed(
                FailureKind::TestFailure | FailureKind::Timeout | FailureKind::Unrecorded,
            )) => FAILED,
            Self::Error(ErrorKind::Usage) => USAGE,
            // A run that is still `running` when the engine hands it back has lost its end.
            Self::Run(
                Verdict::Running | Verdict::Failed(FailureKind::Infrastructure | FailureKind::Interrupted),
            )
            | Self::Error(ErrorKind::Infrastructure) => INFRASTRUCTURE,
            Self::Run(Verdict::Failed(FailureKind::Cancelled))
            | Self::OutputLost
            | Self::Error(ErrorKind::Cancelled) => CANCELLED,
            Self::Error(ErrorKind::NotFound) => NOT_FOUND,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn every_way_to_end_has_its_documented_code() {
        use FailureKind as F;
        let table = [
            (Ending::Done, 0),
            (Ending::Run(Verdict::Passed), 0),
            (Ending::Run(Verdict::Skipped), 0),
            (Ending::Error(ErrorKind::OutputClosed), 0),
            (Ending::Run(Verdict::Failed(F::TestFailure)), 1),
            (Ending::Run(Verdict::Failed(F::Timeout)), 1),
            (Ending::Run(Verdict::Failed(F::Unrecorded)), 1),
            (Ending::Error(ErrorKind::Usage), 2),
            (Ending::Run(Verdict::Failed(F::Infrastructure)), 3),
            (Ending::Run(Verdict::Failed(F::Interrupted)), 3),
            (Ending::Run(Verdict::Running), 3),
            (Ending::Error(ErrorKind::Infrastructure), 3),
            (Ending::Run(Verdict::Failed(F::Cancelled)), 4),
            (Ending::OutputLost, 4),
            (Ending::Error(ErrorKind::Cancelled), 4),
            (Ending::Error(ErrorKind::NotFound), 5),
        ];
        for (ending, code) in table {
            assert_eq!(ending.code(), code, "{ending:?}");
        }
    }

    #[test]
    fn mixed_results_are_weighed_cancelled_then_infrastructure_then_failed() {
        use FailureKind as F;
        let code = |kinds: &[F]| {
            let mut record = sample::run(Verdict::Failed(F::TestFailure));
            record.jobs = kinds.iter().map(|kind| sample::job("j", Verdict::Failed(*kind))).collect();
            record.jobs.push(sample::job("good", Verdict::Passed));
            Ending::of_run(&record).code()
        };
        assert_eq!(code(&[F::TestFailure, F::Timeout]), 1);
        assert_eq!(code(&[F::Infrastructure, F::Timeout, F::TestFailure]), 3);
        assert_eq!(code(&[F::TestFailure, F::Interrupted]), 3);
        assert_eq!(code(&[F::Cancelled, F::Infrastructure, F::TestFailure]), 4);
    }

    #[test]
    fn the_verdict_of_the_run_counts_beside_those_of_its_jobs() {
        let mut record = sample::run(Verdict::Failed(FailureKind::Infrastructure));
        assert_eq!(Ending::of_run(&record).code(), 3);
        record.jobs.push(sample::job("good", Verdict::Passed));
        assert_eq!(Ending::of_run(&record).code(), 3);
        record.verdict = Verdict::Passed;
        assert_eq!(Ending::of_run(&record).code(), 0);
    }
}
