//! A run from request to record. Sees the executor trait, never a runtime.

mod beneath;
pub mod journal;
pub mod layout;
pub mod list;
pub mod logs;
pub mod outputs;
pub mod owner;
pub mod plan;
pub mod read;
mod rebase;
pub mod report;
pub mod request;
pub mod schedule;
