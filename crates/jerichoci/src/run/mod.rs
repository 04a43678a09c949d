//! A run from request to record. Sees the executor trait, never a runtime.

mod attempts;
pub mod beside;
pub(crate) mod control;
mod dispatch;
pub(crate) mod flow;
pub mod gc;
pub mod journal;
pub mod layout;
pub mod list;
pub mod logs;
pub mod outputs;
pub mod outstanding;
pub mod owner;
pub mod plan;
pub(crate) mod prepare;
pub mod read;
pub mod reap;
mod rebase;
mod recover;
pub mod report;
pub mod request;
pub(crate) mod rerun;
pub mod schedule;
pub(crate) mod snapshots;
pub mod store;
pub mod watch;
mod work;
