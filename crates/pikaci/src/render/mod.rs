//! Words for humans, and documents for programs. Nothing else in this crate formats output.

pub(crate) mod document;
pub(crate) mod explain;
mod human;
mod jsonl;
pub(crate) mod report;
pub(crate) mod status;
pub(crate) mod tail;
pub(crate) mod text;
pub(crate) mod watched;
