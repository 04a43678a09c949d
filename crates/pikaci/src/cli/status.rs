//! `pikaci status`: what is known about a run.

use crate::config::Config;
use crate::error::{CliError, parse_run_id};
use crate::exit::Ending;
use crate::output::{print, print_json};
use crate::render;

/// Show what is known about a run
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run; `pikaci list` shows them
    #[arg(value_name = "RUN")]
    run_id: String,

    /// The record of the run as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, config: &Config) -> Result<Ending, CliError> {
    let run_id = parse_run_id(&args.run_id)?;
    let record = jerichoci::load_run_record(&config.state_root()?.value, &run_id)?;
    if args.json {
        print_json(&record)?;
    } else {
        print(render::status::status(&record))?;
    }
    Ok(Ending::Done)
}
