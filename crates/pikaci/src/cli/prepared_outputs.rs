//! `pikaci prepared-outputs`: the prepared outputs of a run.

use crate::config::Config;
use crate::error::{CliError, parse_run_id};
use crate::exit::Ending;
use crate::output::{print, print_json};
use crate::render;

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
    let record = jerichoci::load_prepared_outputs_record(&state_root, &run_id)?;
    if args.json {
        print_json(&record)?;
    } else {
        print(render::status::prepared_outputs(run_id.as_str(), &record))?;
    }
    Ok(Ending::Done)
}
