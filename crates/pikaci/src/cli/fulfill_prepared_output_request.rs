//! `pikaci fulfill-prepared-output-request`.

use std::io::Write as _;
use std::path::PathBuf;

use jerichoci::run::outputs::fulfill::{fulfill_prepared_output_request_in, store_dir_here};

use super::session::Session;
use crate::error::CliError;
use crate::exit::Exit;

/// Makes the links that a request for a prepared output asks for
///
/// Repeating it gives the same result. The store is that of this machine.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The request: a file in prepared-output-requests/ of a run directory
    request: PathBuf,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, CliError> {
    let path = session.surroundings().absolute(&args.request)?;
    let store_dir = store_dir_here(&path, session.surroundings().environment());
    let request = fulfill_prepared_output_request_in(&path, &store_dir).map_err(|error| {
        CliError::new(Exit::Failed, format!("the request {} was not fulfilled", path.display()))
            .because(error)
            .hint(format!("pikaci fulfill-prepared-output-request {}, when that is mended", path.display()))
    })?;
    let text = format!(
        "request={}\noutput={}\nrequested_exposures={}\n",
        path.display(),
        request.output_name,
        request.requested_exposures.len()
    );
    std::io::stdout().write_all(text.as_bytes()).map_err(CliError::output)?;
    Ok(Exit::Success)
}
