//! `pikaci rerun`.

use jerichoci::{Engine, load_run_record};

use super::run::carry_out;
use super::session::Session;
use crate::config::RunFlags;
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::report::OutputFlags;
use crate::targets::{Catalog, Origin};

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
    let earlier = load_run_record(&settings.state_root.value, &run_id).map_err(|error| session.engine_error(error))?;
    let mut config = settings.engine_config(session.surroundings());
    // Widths of groups are not part of a run. Today's are as good as any; without them each
    // group has one place, which is always safe.
    if let Ok(catalog) = Catalog::load(&source.root) {
        config.group_widths.clone_from(catalog.group_widths());
    }
    if earlier.target_id.is_some_and(|id| is_built_in(&id)) {
        config.host_local_nix_shell = None;
    }
    let engine = Engine::new(config);
    carry_out(session, format, |reporter, cancel| engine.rerun(&run_id, reporter, cancel))
}
