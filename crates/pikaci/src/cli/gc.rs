//! `pikaci gc`: removes old runs and what only they needed.

use jerichoci::{Engine, GcPolicy};

use crate::config::Config;
use crate::error::CliError;
use crate::exit::Ending;
use crate::output::{note, print};
use crate::render::words;

/// Remove old runs, and what only they needed
///
/// Prints `removed_runs=<count>` and a run id a line. A run that goes on is never touched.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Runs that stay, the newest
    #[arg(long, value_name = "N", default_value_t = 10)]
    keep_runs: usize,

    /// Remove nothing: print what would be, as `would_remove_runs=<count>`
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &Args, config: &Config) -> Result<Ending, CliError> {
    let engine = Engine::new(config.store_only()?);
    let report =
        engine.gc(&GcPolicy { keep_runs: args.keep_runs, dry_run: args.dry_run, ..GcPolicy::default() })?;
    for problem in &report.problems {
        note(format_args!("warning: {problem}"));
    }
    for run in &report.kept_live {
        note(format_args!("{run} goes on, and stays"));
    }
    let (name, freed) =
        if args.dry_run { ("would_remove_runs", "would free") } else { ("removed_runs", "freed") };
    note(format_args!("{freed} {}", words::bytes(report.freed_bytes)));
    let mut text = format!("{name}={}\n", report.removed_runs.len());
    for run in &report.removed_runs {
        text.push_str(run);
        text.push('\n');
    }
    print(text)?;
    Ok(Ending::Done)
}
