//! The CI engine: model, snapshot, run, executor.

pub mod snapshot;
