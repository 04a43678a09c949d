//! How long each phase took: wall clock for people, monotonic for the number.

use std::time::Duration;

use jericho_host::Clock;

use crate::model::record::PhaseRecord;

/// Collects the phases of one job or run.
#[derive(Debug)]
pub(crate) struct Phases<'a> {
    clock: &'a dyn Clock,
    done: Vec<PhaseRecord>,
}

impl<'a> Phases<'a> {
    pub(crate) fn new(clock: &'a dyn Clock) -> Self {
        Self { clock, done: Vec::new() }
    }

    /// Does something and notes how long it took, also when it fails.
    pub(crate) fn time<T>(&mut self, phase: &str, work: impl FnOnce() -> T) -> T {
        let (started_at, start) = (self.clock.now(), self.clock.monotonic());
        let result = work();
        self.done.push(PhaseRecord {
            phase: phase.to_owned(),
            started_at,
            finished_at: self.clock.now(),
            duration_ms: millis(self.clock.monotonic().saturating_sub(start)),
        });
        result
    }

    /// Does something that is only worth noting when it says so.
    pub(crate) fn time_if<T>(&mut self, phase: &str, work: impl FnOnce(&mut bool) -> T) -> T {
        let mut noted = false;
        let result = self.time(phase, || work(&mut noted));
        if !noted {
            self.done.pop();
        }
        result
    }

    pub(crate) fn into_records(self) -> Vec<PhaseRecord> {
        self.done
    }
}

/// Whole milliseconds, as records hold them.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
