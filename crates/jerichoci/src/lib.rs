//! The CI engine: model, snapshot, run, executor.
