//! `pikaci man`.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap_mangen::Man;

use super::session::Session;
use crate::config::look_at;
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::text::shorten;

/// Prints the manual page, or writes the pages of all commands
///
/// `pikaci man | man -l -` shows it. `pikaci man ~/.local/share/man/man1` makes `man pikaci` and
/// `man pikaci-run` work.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory for the pages, made when it is missing [default: the first page, on standard
    /// output]
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

pub(crate) fn run(session: &Session, args: &Args, command: clap::Command) -> Result<Exit, CliError> {
    // A page of its own says nothing that the others do not.
    let command = command.disable_help_subcommand(true);
    let Some(directory) = &args.directory else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page).map_err(CliError::output)?;
        io::stdout().write_all(&page).map_err(CliError::output)?;
        return Ok(Exit::Success);
    };
    let directory = session.surroundings().absolute(directory)?;
    write(&directory, command).map_err(|error| {
        let message = format!("cannot write manual pages to {}", shorten(&directory.to_string_lossy()));
        CliError::new(Exit::Infrastructure, message).because(error).hint(look_at(&directory))
    })?;
    Ok(Exit::Success)
}

fn write(directory: &Path, command: clap::Command) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(command, directory)
}
