//! `pikaci status`.

use jerichoci::load_run_record;

use super::session::Session;
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::{document, status};

/// Shows what is recorded about a run
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run; `latest` is the newest one
    run_id: String,
    /// The whole run record
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, CliError> {
    let run_id = session.run_id(&args.run_id)?;
    let state_root = session.state_root()?;
    let record = load_run_record(&state_root, &run_id).map_err(|error| session.engine_error(error))?;
    match args.json {
        true => document::print(&record)?,
        false => status::print(&record)?,
    }
    Ok(Exit::Success)
}
