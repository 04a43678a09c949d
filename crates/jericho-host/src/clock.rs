//! Now, and fresh ids: the only place that asks the system for either.
//!
//! Both are traits, so that tests fix them and compare whole documents.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};

/// A source of time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Wall clock time, for people and records. Never subtract two of these: clocks are set.
    fn now(&self) -> DateTime<Utc>;

    /// Time since some fixed start, never going back: for durations and deadlines.
    fn monotonic(&self) -> Duration;
}

/// The clock of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one home of the wall clock")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn monotonic(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
    }
}

/// A source of identifiers that do not repeat.
pub trait IdSource: Send + Sync + fmt::Debug {
    /// 32 lower case hexadecimal digits of randomness (a version 4 UUID without dashes).
    fn fresh(&self) -> String;
}

/// Random ids of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemIds;

impl IdSource for SystemIds {
    #[expect(clippy::disallowed_methods, reason = "the one home of random ids")]
    fn fresh(&self) -> String {
        uuid::Uuid::new_v4().simple().to_string()
    }
}
