//! The command line: global options, and one file a command.

mod base;
mod cancel;
mod catalog;
mod completions;
mod config;
mod diff;
mod doctor;
mod explain;
mod follow;
mod fulfill_prepared_output_request;
mod gc;
mod help;
mod hints;
mod junit;
mod list;
mod logs;
mod man;
mod measures;
mod only;
mod place;
mod plan;
mod prepared_outputs;
mod reap;
mod report;
mod rerun;
mod run;
mod schema;
mod session;
mod shell;
mod snapshot;
mod staged_linux_remote_defaults;
mod staged_linux_target_info;
mod status;
mod targets;
pub(crate) mod usage;
mod watch;

use std::io::Write as _;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::config::Surroundings;
use crate::error::CliError;
use crate::exit::Exit;
use session::{Globals, Session};

/// Runs the checks of a source tree the same way everywhere
#[derive(Debug, Parser)]
#[command(name = "pikaci", version, max_term_width = 100, color = clap::ColorChoice::Never)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Rerun(rerun::Args),
    Plan(plan::Args),
    Targets(targets::Args),
    Explain(explain::Args),
    List(list::Args),
    Status(status::Args),
    Logs(logs::Args),
    Report(report::Args),
    Shell(shell::Args),
    Cancel(cancel::Args),
    Gc(gc::Args),
    Reap(reap::Args),
    Snapshot(snapshot::Args),
    Config(config::Args),
    Doctor(doctor::Args),
    Schema(schema::Args),
    PreparedOutputs(prepared_outputs::Args),
    FulfillPreparedOutputRequest(fulfill_prepared_output_request::Args),
    StagedLinuxRemoteDefaults(staged_linux_remote_defaults::Args),
    StagedLinuxTargetInfo(staged_linux_target_info::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// The whole command, from the arguments of this process to how it ends.
pub(crate) fn main() -> Exit {
    let surroundings = Surroundings::capture();
    if let Some(exit) = completions::answer(&surroundings, command) {
        return exit;
    }
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to the parser; it knows which stream each belongs to.
            let _ = match usage::refusal(&error) {
                Some(refusal) => writeln!(std::io::stderr(), "{refusal}"),
                None => error.print(),
            };
            return if error.use_stderr() { Exit::Usage } else { Exit::Success };
        }
    };
    let ended = dispatch(&cli, surroundings).and_then(|exit| {
        match std::io::stdout().flush().map_err(CliError::output) {
            // That the reader went away changes no verdict, and what could not be written only one
            // that nobody has reason to look into.
            Err(error) if exit == Exit::Success && !error.is_quiet() => Err(error),
            _ => Ok(exit),
        }
    });
    ended.unwrap_or_else(|error| {
        if !error.is_quiet() {
            // Without standard error there is nobody to tell; the exit code still says it.
            let _ = writeln!(std::io::stderr(), "{error}");
        }
        error.exit()
    })
}

fn parse() -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&command().try_get_matches()?)
}

/// The whole command line, as the parser, the shells and the manual know it.
fn command() -> clap::Command {
    help::grouped(Cli::command())
}

fn dispatch(cli: &Cli, surroundings: Surroundings) -> Result<Exit, CliError> {
    surroundings.check_removed()?;
    for line in surroundings.renamed().into_iter().chain(surroundings.unknown_backend()) {
        let _ = writeln!(std::io::stderr(), "warning: {line}");
    }
    let session = Session::new(surroundings, cli.globals.clone());
    match &cli.command {
        Command::Run(args) => run::run(&session, args),
        Command::Rerun(args) => rerun::run(&session, args),
        Command::Plan(args) => plan::run(&session, args),
        Command::Explain(args) => explain::run(&session, args),
        Command::Targets(args) => targets::run(&session, args),
        Command::List(args) => list::run(&session, args),
        Command::Status(args) => status::run(&session, args),
        Command::Logs(args) => logs::run(&session, args),
        Command::Report(args) => report::run(&session, args),
        Command::Shell(args) => shell::run(&session, args),
        Command::Cancel(args) => cancel::run(&session, args),
        Command::Gc(args) => gc::run(&session, args),
        Command::Reap(args) => reap::run(&session, args),
        Command::Snapshot(args) => snapshot::run(&session, args),
        Command::Config(args) => config::run(&session, args),
        Command::Doctor(args) => doctor::run(&session, args),
        Command::Schema(args) => schema::run(&session, args),
        Command::PreparedOutputs(args) => prepared_outputs::run(&session, args),
        Command::FulfillPreparedOutputRequest(args) => fulfill_prepared_output_request::run(&session, args),
        Command::StagedLinuxRemoteDefaults(args) => staged_linux_remote_defaults::run(args),
        Command::StagedLinuxTargetInfo(args) => staged_linux_target_info::run(&session, args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(&session, args, command()),
    }
}
