//! `pikaci snapshot`.

use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;

use super::session::Session;
use crate::error::CliError;
use crate::exit::Exit;

/// Writes out the source tree that a run saw, and prints where it is
///
/// The tree is shared with other runs of the same source: read it, do not change it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run; `latest` is the newest one
    run_id: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, CliError> {
    let run_id = session.run_id(&args.run_id)?;
    let engine = session.engine()?;
    let tree = engine.snapshot_tree(&run_id).map_err(|error| session.engine_error(error))?;
    // The record's directory links to it.
    let tree = tree.canonicalize().unwrap_or(tree);
    let line = [tree.as_os_str().as_bytes(), b"\n"].concat();
    std::io::stdout().write_all(&line).map_err(CliError::output)?;
    Ok(Exit::Success)
}
