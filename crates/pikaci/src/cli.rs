//! The command line: one file a command, the global flags, and the way out.

mod cancel;
mod gc;
mod list;
mod logs;
mod prepared_outputs;
mod rerun;
mod run;
mod running;
mod snapshot;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, GlobalFlags, Surroundings};
use crate::error::CliError;
use crate::exit::{Ending, USAGE};
use crate::output;

/// Runs the checks of a source tree, the same way everywhere.
///
/// A target is a set of jobs; `pikaci run TARGET` runs them against a snapshot of the tree and
/// records everything under the state root. Targets come from jericho.toml at the top of the
/// tree; `jericho-smoke` is always there.
#[derive(Debug, Parser)]
#[command(name = "pikaci", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(after_help = "\
Exit codes: 0 passed or skipped, 1 a job failed or timed out, 2 wrong usage, 3 not the fault of
a job (errored, interrupted), 4 cancelled, 5 no such run, job, log or target.")]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const GLOBAL: &str = "Global options";

#[derive(Debug, clap::Args)]
struct Global {
    /// Work as if started in this directory
    #[arg(short = 'C', value_name = "DIR", global = true, help_heading = GLOBAL)]
    directory: Option<PathBuf>,

    /// Directory of all records and caches [default: .jerichoci at the top of the source tree]
    #[arg(long, value_name = "DIR", global = true, help_heading = GLOBAL)]
    state_root: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Rerun(rerun::Args),
    List(list::Args),
    Status(status::Args),
    Logs(logs::Args),
    Cancel(cancel::Args),
    Gc(gc::Args),
    Snapshot(snapshot::Args),
    PreparedOutputs(prepared_outputs::Args),
}

/// The whole program: arguments and environment of this process to its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let ending = match Cli::try_parse() {
        Ok(cli) => start(cli),
        Err(usage) => {
            // Help and version are such errors too. That they cannot be written changes nothing.
            let _ = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(USAGE));
        }
    };
    let ending = ending.unwrap_or_else(|error| {
        let text = error.render();
        let _ = std::io::Write::write_all(&mut std::io::stderr().lock(), text.as_bytes());
        error.ending()
    });
    ExitCode::from(ending.code())
}

fn start(cli: Cli) -> Result<Ending, CliError> {
    let flags = GlobalFlags { directory: cli.global.directory, state_root: cli.global.state_root };
    let config = Config::new(Surroundings::capture()?, flags)?;
    for warning in config.warnings() {
        output::note(format_args!("warning: {warning}"));
    }
    match cli.command {
        Command::Run(args) => run::run(args, &config),
        Command::Rerun(args) => rerun::run(args, &config),
        Command::List(args) => list::run(&args, &config),
        Command::Status(args) => status::run(&args, &config),
        Command::Logs(args) => logs::run(&args, &config),
        Command::Cancel(args) => cancel::run(&args, &config),
        Command::Gc(args) => gc::run(&args, &config),
        Command::Snapshot(args) => snapshot::run(&args, &config),
        Command::PreparedOutputs(args) => prepared_outputs::run(&args, &config),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
