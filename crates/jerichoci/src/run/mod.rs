//! A run from request to record. Sees the executor trait, never a runtime.

pub mod layout;
pub mod logs;
pub mod plan;
pub mod report;
pub mod request;
pub mod schedule;
