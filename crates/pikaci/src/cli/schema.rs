//! `pikaci schema`.

use super::session::Session;
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::document;
use crate::targets::file::schema;

/// Prints the JSON schema of jericho.toml, for editors
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Of the user's file in place of it
    #[arg(long)]
    user: bool,
}

pub(crate) fn run(_session: &Session, args: &Args) -> Result<Exit, CliError> {
    document::print(&match args.user {
        true => schema::of_user_file(),
        false => schema::of_targets(),
    })?;
    Ok(Exit::Success)
}
