//! `pikaci run`.

use jericho_host::CancelToken;
use jerichoci::model::job::{JobRuntimeConfig, JobSpec};
use jerichoci::snapshot::Base;
use jerichoci::{Engine, RunMetadata, RunOptions, RunRequest};

use super::session::Session;
use crate::config::RunFlags;
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::report::{self, Format, OutputFlags};
use crate::signals::Listener;
use crate::source::Source;
use crate::selection::{Changes, Selection, select};
use crate::targets::{Catalog, Origin, TargetSpec};

/// Runs a target against a snapshot of the source tree
///
/// The snapshot is what git sees: tracked files, and untracked ones that are not ignored. The tree
/// itself is never touched and may be edited while the run goes on.
///
/// A target with path filters is skipped when no changed file matches them. Changed means: differs
/// from the merge base with the base revision, or is not committed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A target of jericho.toml, or jericho-smoke [default: the target with `default = true`]
    target: Option<String>,
    #[command(flatten)]
    output: OutputFlags,
    #[command(flatten)]
    flags: RunFlags,
    /// After a failure, go on with what does not depend on it
    #[arg(long)]
    keep_going: bool,
    /// Revision that changes are counted from [default: the upstream's default branch]
    #[arg(long, value_name = "REV")]
    base: Option<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, CliError> {
    let format = args.output.format()?;
    let source = session.source()?;
    let settings = session.settings(&args.flags, &source)?;
    let catalog = Catalog::load(&source.root)?;
    let target = match &args.target {
        Some(name) => catalog.find(name)?,
        None => catalog.default_target()?,
    };
    let mut config = settings.engine_config(session.surroundings());
    config.group_widths.clone_from(catalog.group_widths());
    if target.origin == Origin::BuiltIn {
        config.host_local_nix_shell = None;
    }
    let engine = Engine::new(config);
    let base = match &args.base {
        Some(base) => Some(base.clone()),
        None => session.surroundings().base_ref()?,
    };
    let request = request(session, args, target, &engine, &source, base.as_deref())?;
    if let Some(why) = &source.without_git {
        report::note(&format!("{}: {why}; it is taken as it is", source.root.display()));
    }
    if let (Some(message), false) = (&request.metadata.message, request.skip.is_some()) {
        report::note(&format!("{} {message}", target.id));
    }
    carry_out(session, format, |reporter, cancel| engine.run(&request, reporter, cancel))
}

/// Runs, tells, and turns the verdict into an exit code; the same for a run and a rerun.
pub(super) fn carry_out(
    session: &Session,
    format: Format,
    run: impl FnOnce(
        &mut dyn jerichoci::Reporter,
        &CancelToken,
    ) -> Result<jerichoci::model::record::RunRecord, jerichoci::EngineError>,
) -> Result<Exit, CliError> {
    let cancel = CancelToken::new()
        .map_err(|error| CliError::new(Exit::Infrastructure, "cannot begin a run").because(error))?;
    let listener = Listener::start(&cancel)?;
    let mut reporter = report::reporter(format, |args| session.typed(args.iter().copied()));
    let record = run(reporter.as_mut(), &cancel).map_err(|error| session.engine_error(error))?;
    drop(listener);
    report::finish(format, &record, Exit::from(record.verdict))
}

fn request(
    session: &Session,
    args: &Args,
    target: &TargetSpec,
    engine: &Engine,
    source: &Source,
    base: Option<&str>,
) -> Result<RunRequest, CliError> {
    let changes = if target.filters.is_empty() {
        None
    } else {
        Some(changes(session, engine, source, base)?)
    };
    let selection = changes.as_ref().map(|changes| select(&target.filters, changes));
    let (message, skip) = match selection {
        None => (None, None),
        Some(Selection::Run { message }) => (message, None),
        Some(Selection::Skip { message }) => (Some(message.clone()), Some(message)),
    };
    let mut changed_files = match changes {
        Some(Changes::Known { files, .. }) => files,
        _ => Vec::new(),
    };
    changed_files.sort();
    changed_files.dedup();
    Ok(RunRequest {
        jobs: jobs(&target.jobs, session.surroundings().in_nix_shell()),
        metadata: RunMetadata {
            target_id: Some(target.id.clone()),
            target_description: target.description.clone(),
            changed_files,
            filters: target.filters.patterns().to_vec(),
            message,
        },
        options: RunOptions { keep_going: args.keep_going },
        skip,
    })
}

/// Inside a Nix shell, jobs run in that one.
fn jobs(jobs: &[JobSpec], in_nix_shell: bool) -> Vec<JobSpec> {
    let mut jobs = jobs.to_vec();
    for job in jobs.iter_mut().filter(|_| in_nix_shell) {
        if let JobRuntimeConfig::HostProcess(runtime) = &mut job.runtime {
            runtime.nix_shell = None;
        }
    }
    jobs
}

fn changes(
    session: &Session,
    engine: &Engine,
    source: &Source,
    base: Option<&str>,
) -> Result<Changes, CliError> {
    if let Some(why) = &source.without_git {
        return Ok(Changes::Unknown { why: why.clone() });
    }
    let changed = engine.changed_files(base).map_err(|error| session.engine_error(error))?;
    Ok(match (changed.base, base) {
        (Base::Used { rev, .. }, _) => Changes::Known { base: rev, files: changed.files },
        (Base::None { why }, _) => Changes::Unknown { why },
    })
}
