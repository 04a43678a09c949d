//! The two small programs of a build host: one fulfils a request, the other starts it as a launch
//! request says. Each stands alone, and nothing else of `pikaci` has to be there.

mod fulfill;
mod launch;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use crate::config::Surroundings;

/// `pikaci-fulfill-prepared-output`.
#[must_use]
pub fn fulfill() -> ExitCode {
    run("pikaci-fulfill-prepared-output", fulfill::USAGE, fulfill::run)
}

/// `pikaci-launch-fulfill-prepared-output`.
#[must_use]
pub fn launch() -> ExitCode {
    run("pikaci-launch-fulfill-prepared-output", launch::USAGE, launch::run)
}

/// Why a helper gets nowhere.
enum Problem {
    /// It was called wrongly.
    Usage(String),
    /// One line.
    Failed(String),
}

/// The arguments of this process, the help, and every error on standard error with exit code 1.
fn run(
    name: &str,
    usage: &str,
    helper: fn(&[OsString], &Surroundings) -> Result<ExitCode, Problem>,
) -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    // A stream that nobody reads changes no exit code.
    if let [only] = &*args
        && (only == "--help" || only == "-h")
    {
        let _ = std::io::stdout().write_all(usage.as_bytes());
        return ExitCode::SUCCESS;
    }
    if let [only] = &*args
        && (only == "--version" || only == "-V")
    {
        let _ = writeln!(std::io::stdout(), "{name} {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let told = match helper(&args, &Surroundings::capture()) {
        Ok(exit) => return exit,
        Err(Problem::Usage(problem)) => format!("{name}: {problem}\n{usage}"),
        Err(Problem::Failed(problem)) => format!("{name}: {problem}\n"),
    };
    let _ = std::io::stderr().write_all(told.as_bytes());
    ExitCode::FAILURE
}

/// An error and what caused it, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
