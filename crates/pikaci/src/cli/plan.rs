//! `pikaci plan`.

use std::io::Write as _;

use clap::ValueEnum;
use jerichoci::{Engine, EngineConfig};

use super::base::{base, check_base};
use super::catalog::CatalogFlag;
use super::place::{OnFlag, placed};
use super::run::{Interrupt, changes};
use super::session::Session;
use crate::config::{Origin, RunFlags};
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::document;
use crate::report::plan;
use crate::targets::TargetSpec;

/// Shows what a run would do, and does nothing
///
/// Jobs with what they wait for, where they run, for how long at most, and whether the path filters
/// would select the target. Nothing is written, not even the state root.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A target of jericho.toml, or a built-in one [default: the target with `default = true`]
    target: Option<String>,
    /// What goes to standard output
    #[arg(long, value_enum, value_name = "FORM", default_value_t = Output::Text)]
    output: Output,
    /// Revision that changes are counted from [default: the upstream's default branch]
    #[arg(long, value_name = "REV")]
    base: Option<String>,
    #[command(flatten)]
    on: OnFlag,
    #[command(flatten)]
    catalog: CatalogFlag,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// The nodes of plan.json, the job definitions, the selection
    Json,
    /// A graph for graphviz: pikaci plan --output dot | dot -Tsvg
    Dot,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, CliError> {
    let source = session.source()?;
    let operator = session.operator()?;
    let catalog = args.catalog.load(&source, &operator)?;
    let target = match &args.target {
        Some(name) => catalog.find(name)?,
        None => catalog.default_target()?,
    };
    let settings = session.settings(&RunFlags::default(), &source, &operator, catalog.settings())?;
    let target = &TargetSpec { jobs: placed(&target.jobs, &args.on, &settings)?, ..target.clone() };
    let base = base(args.base.as_deref(), &source, &settings)?;
    let interrupt = Interrupt::listen()?;
    let filtered = !target.filters.is_empty();
    if let Some(base) = base.as_ref().filter(|base| filtered || base.origin == Origin::Flag) {
        check_base(session, base, &source, &interrupt.cancel)?;
    }
    let changes = match filtered {
        false => None,
        true => {
            // Looks at the source tree alone.
            let mut config = EngineConfig::new("", &source.root);
            config.caller_environment = session.surroundings().environment().clone();
            let base = base.as_ref().map(|base| base.value.as_str());
            Some(changes(session, &Engine::new(config), &source, base, &interrupt.cancel)?)
        }
    };
    let plan = plan::document(target, catalog.group_widths(), changes.as_ref())
        .map_err(|error| session.engine_error(error.into()))?;
    let text = match args.output {
        Output::Json => return document::print(&plan).map(|()| Exit::Success),
        Output::Text => plan::text(&plan),
        Output::Dot => plan::dot(&plan),
    };
    std::io::stdout().write_all(text.as_bytes()).map_err(CliError::output)?;
    Ok(Exit::Success)
}
