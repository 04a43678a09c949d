//! `pikaci cancel`.

use std::io::Write as _;
use std::time::Duration;

use jerichoci::CancelAnswer;

use super::session::Session;
use crate::error::CliError;
use crate::exit::Exit;

/// How long a run may take to end its jobs and to write its record.
const WAIT: Duration = Duration::from_secs(15);

/// Ends a run that goes on, from another terminal
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run; `latest` is the newest one
    run_id: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, CliError> {
    let run_id = session.run_id(&args.run_id)?;
    let engine = session.engine()?;
    let answer = engine.cancel_run(&run_id, WAIT).map_err(|error| session.engine_error(error))?;
    let words = match answer {
        CancelAnswer::Ended => "cancelled",
        CancelAnswer::NotRunning => "had ended before",
        CancelAnswer::Requested => {
            let message = format!("run {run_id} was told to end, and goes on after {} s", WAIT.as_secs());
            return Err(
                CliError::new(Exit::Infrastructure, message).hint(session.typed(["status", run_id.as_str()]))
            );
        }
    };
    writeln!(std::io::stdout(), "{run_id} {words}").map_err(CliError::output)?;
    Ok(Exit::Success)
}
