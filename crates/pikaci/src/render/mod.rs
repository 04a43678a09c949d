//! Words for humans, and documents for programs. Nothing else in this crate formats output.

pub(crate) mod announce;
pub(crate) mod document;
pub(crate) mod explain;
mod human;
mod jsonl;
mod live;
pub(crate) mod paint;
pub(crate) mod report;
pub(crate) mod status;
pub(crate) mod tail;
pub(crate) mod text;
pub(crate) mod watched;
