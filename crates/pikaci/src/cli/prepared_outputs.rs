//! `pikaci prepared-outputs`: the prepared outputs of a run.

use crate::config::Config;
use crate::error::{CliError, parse_run_id};
use crate::exit::Ending;
use crate::output::print_json;

/// Show the prepared outputs of a run
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run; `pikaci list` shows them
    #[arg(value_name = "RUN")]
    run_id: String,

    /// The record as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, config: &Config) -> Result<Ending, CliError> {
    let run_id = parse_run_id(&args.run_id)?;
    let state_root = config.state_root()?.value;
    let Some(record) = jerichoci::load_prepared_outputs_record(&state_root, &run_id)? else {
        return Err(CliError::not_found(format!("run {run_id} has no prepared outputs"))
            .hint(config.command_line().of(&["status", run_id.as_str()])));
    };
    print_json(&record)?;
    Ok(Ending::Done)
}
