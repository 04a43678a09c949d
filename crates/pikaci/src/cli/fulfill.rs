//! `pikaci fulfill-prepared-output-request`: makes the exposures of a request.

use std::path::PathBuf;

use crate::config::Config;
use crate::error::CliError;
use crate::exit::Ending;

/// Make the prepared output of a request visible where the request says
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The request, a JSON document
    #[arg(value_name = "FILE")]
    request: PathBuf,
}

pub(super) fn run(args: &Args, config: &Config) -> Result<Ending, CliError> {
    let _ = config.path(&args.request);
    Ok(Ending::Done)
}
