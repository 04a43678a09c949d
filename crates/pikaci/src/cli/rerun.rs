//! `pikaci rerun`: the recorded jobs of a run against its recorded snapshot.

use jerichoci::Engine;

use super::running::{RunningArgs, cancel_token};
use crate::config::{Config, RunFlags};
use crate::error::{CliError, parse_run_id};
use crate::exit::Ending;

/// Repeat a run: its recorded jobs against its recorded snapshot, byte for byte
///
/// What has changed in the tree or in jericho.toml since makes no difference. A run that was
/// skipped is recorded as skipped again.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run to repeat; `pikaci list` shows them
    #[arg(value_name = "RUN")]
    run_id: String,

    #[command(flatten)]
    running: RunningArgs,
}

pub(super) fn run(args: Args, config: &Config) -> Result<Ending, CliError> {
    let run_id = parse_run_id(&args.run_id)?;
    args.running.check()?;
    let flags =
        RunFlags { jobs: args.running.jobs, inherit_env: args.running.inherit_env, ..RunFlags::default() };
    let engine_config = config.engine(&flags)?;
    let engine = Engine::new(engine_config);
    let cancel = cancel_token()?;
    args.running
        .run(config.command_line(), &cancel, |reporter, cancel| engine.rerun(&run_id, reporter, cancel))
}
