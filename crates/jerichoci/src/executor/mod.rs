//! From a job to its outcome: one executor a runtime.

pub mod command;
