//! Machines over SSH: what a job needs there, and how it gets there.

pub mod sync;
