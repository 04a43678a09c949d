//! Secrets: in what forms a value may show up in a log, and a masker that lets none of them by.
//!
//! What is masked is the text that a job prints and that the engine says about it. What a job
//! writes into files (artifacts, caches) is its own affair.

mod encode;
mod forms;
pub mod mask;

pub use forms::{LEAST_BYTES, Length, MOST_BYTES, check};
pub use mask::{MASK, MaskStream, Masker};
