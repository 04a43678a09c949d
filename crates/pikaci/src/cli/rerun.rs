//! `pikaci rerun`.

use jerichoci::model::id::RunId;
use jerichoci::model::job::JobSpec;
use jerichoci::model::outcome::Verdict;
use jerichoci::run::outstanding::outstanding;
use jerichoci::{Engine, RerunRequest, load_run_record};

use super::catalog::CatalogFlag;
use super::junit::ReportFlags;
use super::place::{OnFlag, placed};
use super::run::{Interrupt, carry_out, needs_git};
use super::session::Session;
use crate::config::{HEADING, INCUS_TARGET, RunFlags, flag_of};
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::report::OutputFlags;
use crate::render::text::shorten;
use crate::source::Source;
use crate::targets::Catalog;
use crate::targets::file::settings_of;

/// Repeats a run: the same bytes of source, the same job definitions
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run to repeat; `latest` is the newest one
    run_id: String,
    /// Only the jobs that did not pass, and those that need them
    #[arg(long)]
    failed: bool,
    /// Today's tree and today's jericho.toml in place of what was recorded
    #[arg(long)]
    current: bool,
    #[command(flatten)]
    output: OutputFlags,
    #[command(flatten)]
    catalog: CatalogFlag,
    #[command(flatten)]
    reports: ReportFlags,
    #[command(flatten)]
    flags: RunFlags,
    /// Keep the guest of a job that does not pass for two hours, to look at: pikaci shell RUN JOB
    #[arg(long, help_heading = HEADING)]
    keep_on_failure: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, CliError> {
    let format = args.output.format()?;
    let run_id = session.run_id(&args.run_id)?;
    let mut at_the_end = args.reports.check(session)?;
    let source = session.source()?;
    let operator = session.operator()?;
    let catalog = args.catalog.load(&source, &operator);
    // A file that cannot be understood is told where its targets are needed.
    let repository = match &catalog {
        Ok(catalog) => catalog.settings().clone(),
        Err(_) => settings_of(&source.root),
    };
    let flags = as_before(session, args, &run_id)?;
    let settings = session.settings(&flags, &source, &operator, &repository)?;
    let mut config = settings.engine_config(session.surroundings());
    // Widths of groups are not part of a run. Today's are as good as any; without them each
    // group has one place, which is always safe.
    if let Ok(catalog) = &catalog {
        config.group_widths.clone_from(catalog.group_widths());
    }
    let mut again = RerunRequest::new(run_id.clone()).failed_only(args.failed);
    again.keep_on_failure = args.keep_on_failure;
    let jobs = match args.current {
        true => {
            let jobs = current(session, &source, &run_id, &catalog?)?;
            let jobs = placed(&jobs, &OnFlag::default(), &settings)?;
            again = again.current(jobs.clone());
            jobs
        }
        false => {
            let recorded = Engine::new(config.clone()).run_spec(&run_id);
            recorded.map_err(|error| session.engine_error(error))?.jobs
        }
    };
    // Values are in no record: they come from this shell again.
    let jobs = to_run(session, args, &run_id, jobs)?;
    config.secrets = session.secrets(&jobs, |_| None)?;
    let engine = Engine::new(config);
    let interrupt = Interrupt::listen()?;
    let exit = carry_out(session, format, &interrupt, |reporter, cancel| {
        at_the_end.write(session, engine.rerun(&again, reporter, cancel))
    })?;
    at_the_end.settle(exit)
}

/// The flags, and of those of the run what says where its jobs went. Today's definitions go where they go today.
fn as_before(session: &Session, args: &Args, run_id: &RunId) -> Result<RunFlags, CliError> {
    let mut flags = args.flags.clone();
    let target = &mut flags.hosts.incus_target;
    if target.is_none() && !args.current {
        let record = load_run_record(&session.state_root()?, run_id);
        let record = record.map_err(|error| session.engine_error(error))?;
        *target = flag_of(&record.settings, INCUS_TARGET).map(str::to_owned);
    }
    Ok(flags)
}

/// Of these jobs of a run, those that will run again.
fn to_run(
    session: &Session,
    args: &Args,
    run_id: &RunId,
    jobs: Vec<JobSpec>,
) -> Result<Vec<JobSpec>, CliError> {
    let record =
        load_run_record(&session.state_root()?, run_id).map_err(|error| session.engine_error(error))?;
    let passed = record.jobs.iter().filter(|job| job.verdict == Verdict::Passed);
    Ok(match (record.verdict, args.current, args.failed) {
        // It is skipped again.
        (Verdict::Skipped, false, _) => Vec::new(),
        (_, _, true) => outstanding(&jobs, &passed.map(|job| job.id.as_str()).collect()),
        _ => jobs,
    })
}

/// Today's definitions of the target that a run was about.
fn current(
    session: &Session,
    source: &Source,
    run_id: &RunId,
    catalog: &Catalog,
) -> Result<Vec<JobSpec>, CliError> {
    let record =
        load_run_record(&session.state_root()?, run_id).map_err(|error| session.engine_error(error))?;
    let Some(target) = &record.target_id else {
        let message = format!("run {run_id} has no target, so there are no definitions of today");
        return Err(CliError::usage(message).hint(session.typed(["rerun", run_id.as_str()])));
    };
    let target = catalog.find(target)?;
    // Whoever ran it without git has said that all of the tree is meant.
    if let (Some(why), true) = (&source.without_git, record.git_head.is_some()) {
        return Err(needs_git(&source.root, why));
    }
    if record.source_root != source.root.to_string_lossy() {
        let message = format!(
            "run {run_id} was about the tree {}, and this is {}",
            shorten(&record.source_root),
            shorten(&source.root.to_string_lossy())
        );
        let hint = session.typed(["run", &target.id]);
        return Err(CliError::usage(message).hint(format!("{hint}; or --current from that tree")));
    }
    Ok(target.jobs.clone())
}
