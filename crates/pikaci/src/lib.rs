//! The Pika front end of Jericho CI: targets, filters, configuration, command line.
//!
//! | module | subject |
//! |---|---|
//! | [`targets`] | what a user names |
//! | [`selection`] | whether a change concerns a target, and why |
//! | `config` | settings with their origin; the one reader of the environment |
//! | `cli` | one file a command |
//! | `render` | words for humans, documents for programs |
//! | `exit`, `error` | how a command ends, and what it says then |

mod cli;
mod config;
mod error;
mod exit;
mod render;
pub mod selection;
mod signals;
mod source;
pub mod targets;

/// The whole command, from arguments to exit code.
#[must_use]
pub fn main() -> std::process::ExitCode {
    // Refused, there are only fewer jobs at once.
    let _ = jericho_host::sys::raise_open_files();
    cli::main().into()
}
