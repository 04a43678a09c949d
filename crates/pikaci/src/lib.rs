//! The Pika front end of Jericho CI: targets, filters, configuration, command line.
//!
//! | module | subject |
//! |---|---|
//! | [`targets`] | what a user names |
//! | [`catalog`] | the targets of Pika's tree, as tables |
//! | [`lanes`] | targets as a forge runs them, with their path filters |
//! | [`operator`] | the user's file: hosts, allowed secrets |
//! | [`selection`] | whether a change concerns a target, and why |
//! | `config` | settings with their origin; the one reader of the environment |
//! | `cli` | one file a command |
//! | `console` | the terminal, for a shell somewhere else |
//! | `render` | words for humans, documents for programs |
//! | `report` | plans and recorded runs as documents: text, JSON, JUnit XML, a page, a trace |
//! | `watch` | changes of a source tree as they happen |
//! | `exit`, `error` | how a command ends, and what it says then |

pub mod catalog;
mod cli;
mod config;
mod console;
mod error;
mod exit;
pub mod helpers;
pub mod lanes;
pub mod operator;
mod render;
mod report;
pub mod selection;
mod signals;
mod source;
pub mod targets;
mod watch;

/// The whole command, from arguments to exit code.
#[must_use]
pub fn main() -> std::process::ExitCode {
    // Refused, there are only fewer jobs at once.
    let _ = jericho_host::sys::raise_open_files();
    cli::main().into()
}
