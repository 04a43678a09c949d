//! `pikaci explain --diff A B`: what differs between two runs.

use std::io::Write as _;

use super::session::Session;
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::document;
use crate::report::diff::{diff, text};
use crate::report::recorded::Recorded;

/// Prints the differences. That there are some is no failure.
pub(super) fn run(session: &Session, a: &str, b: &str, json: bool) -> Result<Exit, CliError> {
    let ids = (session.run_id(a)?, session.run_id(b)?);
    let state_root = session.state_root()?;
    let load = |run_id| Recorded::load(&state_root, run_id).map_err(|error| session.engine_error(error));
    let (a, b) = (load(&ids.0)?, load(&ids.1)?);
    let found = diff(&a, &b);
    match json {
        true => document::print(&found)?,
        false => std::io::stdout().write_all(text(&found).as_bytes()).map_err(CliError::output)?,
    }
    Ok(Exit::Success)
}
