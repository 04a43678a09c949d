//! Jobs that this version cannot run: they end errored, and say so.

use super::{Executor, JobContext, JobReport};
use crate::model::outcome::JobOutcome;

/// Ends every job errored, with this message.
#[derive(Debug)]
pub(super) struct Unbuilt(pub(super) &'static str);

impl Executor for Unbuilt {
    fn execute(&self, job: JobContext<'_>) -> JobReport {
        let mut outcome = JobOutcome::errored(self.0);
        if let Err(error) = job.log.engine_line(self.0) {
            outcome.warnings.push(format!("the host log could not be written: {error}"));
        }
        JobReport { outcome, ..JobReport::default() }
    }
}
