//! `pikaci rerun`.

use jerichoci::{Engine, RerunRequest};

use super::run::{Interrupt, carry_out};
use super::session::Session;
use crate::config::RunFlags;
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::report::OutputFlags;

/// Repeats a run: the same bytes of source, the same job definitions
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run to repeat
    run_id: String,
    #[command(flatten)]
    output: OutputFlags,
    #[command(flatten)]
    flags: RunFlags,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, CliError> {
    let format = args.output.format()?;
    let run_id = session.run_id(&args.run_id)?;
    let source = session.source()?;
    let settings = session.settings(&args.flags, &source)?;
    let mut config = settings.engine_config(session.surroundings());
    // Widths of groups are not part of a run. Today's are as good as any; without them each
    // group has one place, which is always safe.
    if let Ok(catalog) = session.catalog(&source) {
        config.group_widths.clone_from(catalog.group_widths());
    }
    // Values are in no record: they come from this shell again.
    let recorded =
        Engine::new(config.clone()).run_spec(&run_id).map_err(|error| session.engine_error(error))?;
    config.secrets = session.secrets(&recorded.jobs, |_| None)?;
    let engine = Engine::new(config);
    let again = RerunRequest::new(run_id);
    let interrupt = Interrupt::listen()?;
    carry_out(session, format, &interrupt, |reporter, cancel| engine.rerun(&again, reporter, cancel))
}
