//! What is left to do when a job has ended: its guest goes, or is kept to be looked at.
//!
//! An executor hands it over in its report, so that the verdict is told first. A run does not end before
//! all of it is done, and what goes wrong then is a warning, never a verdict.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use jericho_host::CancelToken;

use crate::model::record::KeptInstanceRecord;

/// What becomes of what a job ran in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes.
    Remove,
    /// A person wants to look at it.
    Keep,
}

/// What is left to do. Dropped, it is not done: the next reaping finds what was left.
pub struct Cleanup(Work);

type Work = Box<dyn FnOnce(Fate, &CancelToken) -> Cleaned + Send>;

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// What is kept.
    pub kept: Option<KeptInstanceRecord>,
    /// What a reader of the log should know, one line each.
    pub lines: Vec<String>,
    /// What went wrong, one line each.
    pub warnings: Vec<String>,
    /// What is still there and should not be, one line each.
    pub left_behind: Vec<String>,
}

impl fmt::Debug for Cleanup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cleanup")
    }
}

impl Cleanup {
    /// Of this work, which ends early when its token is cancelled.
    pub fn new(work: impl FnOnce(Fate, &CancelToken) -> Cleaned + Send + 'static) -> Self {
        Self(Box::new(work))
    }

    /// Does it.
    #[must_use]
    pub fn carry_out(self, fate: Fate, cancel: &CancelToken) -> Cleaned {
        catch_unwind(AssertUnwindSafe(|| (self.0)(fate, cancel))).unwrap_or_else(|_| Cleaned {
            warnings: vec!["the engine panicked while it was cleaning up".to_owned()],
            ..Cleaned::default()
        })
    }
}

impl Cleaned {
    /// All of it, as a log tells it.
    pub(crate) fn log_lines(&self) -> impl Iterator<Item = String> + '_ {
        let left = self.left_behind.iter().map(|line| format!("left behind: {line}"));
        let warnings = self.warnings.iter().map(|line| format!("warning: {line}"));
        self.lines.iter().cloned().chain(left).chain(warnings)
    }
}
