//! `pikaci snapshot`: the source tree that a run saw, as files.

use std::os::unix::ffi::OsStrExt;

use jerichoci::Engine;

use crate::config::Config;
use crate::error::{CliError, parse_run_id};
use crate::exit::Ending;
use crate::output::print;

/// Write out the source tree that a run saw, and print where it is
///
/// The tree stays as long as the run is kept. Do not change it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run; `pikaci list` shows them
    #[arg(value_name = "RUN")]
    run_id: String,
}

pub(super) fn run(args: &Args, config: &Config) -> Result<Ending, CliError> {
    let run_id = parse_run_id(&args.run_id)?;
    let path = Engine::new(config.store_only()?).snapshot_tree(&run_id)?;
    let mut line = path.as_os_str().as_bytes().to_vec();
    line.push(b'\n');
    print(line)?;
    Ok(Ending::Done)
}
