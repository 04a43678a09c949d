//! The engine of Jericho CI: jobs of a target against an immutable snapshot of a source tree.
//!
//! It knows no lane, no host name and no product, reads no environment and prints nothing.

pub mod config;
pub mod engine;
pub mod executor;
pub mod model;
pub mod run;

pub use config::EngineConfig;
pub use engine::{CancelAnswer, Engine, EngineError};
