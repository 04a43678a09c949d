//! `pikaci cancel`: ends a run that another process works on.

use std::time::Duration;

use jerichoci::{CancelAnswer, Engine};

use crate::config::Config;
use crate::error::{CliError, parse_run_id};
use crate::exit::Ending;
use crate::output::print;

/// End a run that goes on in another process
///
/// Prints `<run> ended`, `<run> not_running`, or `<run> requested` when it has not ended in the
/// given time: then the exit code is 3, unless that time is 0.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run; `pikaci list` shows them
    #[arg(value_name = "RUN")]
    run_id: String,

    /// How long to wait for its end
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait: u64,
}

pub(super) fn run(args: &Args, config: &Config) -> Result<Ending, CliError> {
    let run_id = parse_run_id(&args.run_id)?;
    let engine = Engine::new(config.store_only()?);
    let answer = engine.cancel_run(&run_id, Duration::from_secs(args.wait))?;
    let word = match answer {
        CancelAnswer::Ended => "ended",
        CancelAnswer::Requested => "requested",
        CancelAnswer::NotRunning => "not_running",
    };
    print(format!("{run_id} {word}\n"))?;
    if answer == CancelAnswer::Requested && args.wait > 0 {
        let again = config.command_line().of(&["cancel", run_id.as_str()]);
        return Err(CliError::infrastructure(format!("run {run_id} has not ended within {} s", args.wait))
            .hint(format!("`{again}` waits again")));
    }
    Ok(Ending::Done)
}
