//! The Pika front end of Jericho CI: targets, configuration, command line, words for people.
//!
//! | module | subject |
//! |---|---|
//! | [`targets`] | what a user names: jobs and path filters |
//! | `cli` | one file a command: its arguments and what it does |
//! | `config` | the one place that reads environment and working directory |
//! | `render` | words for people, and the machine-readable outputs of a run |
//! | `signals` | SIGINT, SIGTERM, SIGHUP become a cancel token |
//! | `error`, `exit` | what is said, and which code is returned, when something ends |
//!
//! What runs jobs and keeps records is the crate `jerichoci`; nothing here knows how.

mod cli;
mod config;
mod error;
mod exit;
mod output;
mod render;
mod signals;
pub mod targets;

pub use cli::main;
