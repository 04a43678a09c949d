//! The 51 jobs, by where they run.

pub(super) mod android;
pub(super) mod host;
pub(super) mod staged;
pub(super) mod tart;
