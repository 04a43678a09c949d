//! `pikaci run`.

use jericho_host::CancelToken;
use jerichoci::model::record::BaseRecord;
use jerichoci::snapshot::{Base, git_commit_of};
use jerichoci::{Engine, RunMetadata, RunOptions, RunRequest};

use super::catalog::CatalogFlag;
use super::junit::ReportFlags;
use super::session::Session;
use crate::config::{BASE_REF, Origin, RunFlags, Setting};
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::report::{self, Format, OutputFlags};
use crate::render::text::shorten;
use crate::render::watched::Watched;
use crate::selection::{Changes, Selection, select};
use crate::signals::Listener;
use crate::source::{Source, WithoutGit};
use crate::targets::{self, Catalog, TargetSpec};

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
    #[command(flatten)]
    reports: ReportFlags,
    #[command(flatten)]
    catalog: CatalogFlag,
    /// After a failure, go on with what does not depend on it
    #[arg(long)]
    keep_going: bool,
    /// Revision that changes are counted from [default: the upstream's default branch]
    #[arg(long, value_name = "REV")]
    base: Option<String>,
    /// Take a tree that is in no git repository, or on a machine without git: all of it but what
    /// .gitignore and .jerichociignore name
    #[arg(long)]
    no_git: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, CliError> {
    let format = args.output.format()?;
    let mut at_the_end = args.reports.check(session)?;
    let source = session.source()?;
    let settings = session.settings(&args.flags, &source)?;
    let catalog = Catalog::load_with(&source.root, args.catalog.catalog)?;
    let target = match &args.target {
        Some(name) => catalog.find(name)?,
        None => catalog.default_target()?,
    };
    // What is built in is about the machine and passes on any tree.
    let built_in = target.origin == targets::Origin::BuiltIn;
    if let (Some(why), false, false) = (&source.without_git, args.no_git, built_in) {
        return Err(needs_git(&source.root, why));
    }
    let mut config = settings.engine_config(session.surroundings());
    config.group_widths.clone_from(catalog.group_widths());
    let engine = Engine::new(config);
    let base = base(session, args.base.as_deref(), &source)?;
    let interrupt = Interrupt::listen()?;
    // Given by flag, it was meant for this run. The variable stands for every run, also for those
    // that compare nothing.
    let filtered = !target.filters.is_empty();
    if let Some(base) = base.as_ref().filter(|base| filtered || base.origin == Origin::Flag) {
        check_base(session, base, &source, &interrupt.cancel)?;
    }
    let changes = match filtered {
        false => None,
        true => {
            let base = base.as_ref().map(|base| base.value.as_str());
            Some(changes(session, &engine, &source, base, &interrupt.cancel)?)
        }
    };
    let request = request(args, target, changes);
    if let Some(why) = &source.without_git {
        let left_out = "what .gitignore and .jerichociignore name is left out";
        report::note(&format!("{}: {why}; {left_out}", source.root.display()));
    }
    if let (Some(message), false) = (&request.metadata.message, request.skip.is_some()) {
        report::note(&format!("{} {message}", target.id));
    }
    let exit = carry_out(session, format, &interrupt, |reporter, cancel| {
        at_the_end.write(session, engine.run(&request, reporter, cancel))
    })?;
    at_the_end.settle(exit)
}

/// Without git nobody knows what belongs to the tree: a guess would check something else than
/// what a commit has, so it is made only when it is asked for.
pub(super) fn needs_git(root: &std::path::Path, why: &WithoutGit) -> CliError {
    let exit = match why {
        WithoutGit::NoProgram => Exit::Infrastructure,
        WithoutGit::NoRepository => Exit::Usage,
    };
    CliError::new(exit, format!("{}: {why}", shorten(&root.to_string_lossy())))
        .hint("git init; or --no-git, for everything but what .gitignore and .jerichociignore name")
}

/// The base that was asked for.
pub(super) fn base(
    session: &Session,
    flag: Option<&str>,
    source: &Source,
) -> Result<Option<Setting<String>>, CliError> {
    let Some(base) = flag else {
        let value = session.surroundings().base_ref()?;
        return Ok(value.map(|value| Setting { value, origin: Origin::Environment }));
    };
    if let Some(why) = &source.without_git {
        let message = format!("--base {} needs git: {why}", shorten(base));
        return Err(CliError::usage(message).hint("leave --base out: every target runs then"));
    }
    Ok(Some(Setting { value: base.to_owned(), origin: Origin::Flag }))
}

/// Refuses a base that is no commit. A check against something else than what was asked for would
/// look like the one that was asked for.
pub(super) fn check_base(
    session: &Session,
    base: &Setting<String>,
    source: &Source,
    cancel: &CancelToken,
) -> Result<(), CliError> {
    let name = if base.origin == Origin::Flag { "--base" } else { BASE_REF };
    check_commit(session, name, &base.value, source, cancel)
}

/// Refuses what is no commit; `name` is the option or variable that it came from.
pub(super) fn check_commit(
    session: &Session,
    name: &str,
    rev: &str,
    source: &Source,
    cancel: &CancelToken,
) -> Result<(), CliError> {
    if source.without_git.is_some() {
        return Ok(());
    }
    let environment = session.surroundings().environment();
    let commit = git_commit_of(&source.root, rev, environment, cancel)
        .map_err(|error| session.engine_error(error.into()))?;
    if commit.is_some() {
        return Ok(());
    }
    let (without, then) = match name {
        "--base" => ("leave --base out".to_owned(), "the upstream's default branch"),
        "--head" => ("leave --head out".to_owned(), "the work tree"),
        _ => (format!("unset {name}"), "the upstream's default branch"),
    };
    let message = format!("{name} is `{}`, which is no commit in this repository", shorten(rev));
    Err(CliError::usage(message).hint(format!("git fetch, when a remote has it; or {without}, for {then}")))
}

/// A token that signals cancel, from here on.
pub(super) struct Interrupt {
    pub(super) cancel: CancelToken,
    _listener: Listener,
}

impl Interrupt {
    pub(super) fn listen() -> Result<Self, CliError> {
        let cancel = CancelToken::new()
            .map_err(|error| CliError::new(Exit::Infrastructure, "cannot begin a run").because(error))?;
        let listener = Listener::start(&cancel)?;
        Ok(Self { cancel, _listener: listener })
    }
}

/// Runs, tells, and turns the verdict into an exit code; the same for a run and a rerun.
pub(super) fn carry_out(
    session: &Session,
    format: Format,
    interrupt: &Interrupt,
    run: impl FnOnce(
        &mut dyn jerichoci::Reporter,
        &CancelToken,
    ) -> Result<jerichoci::model::record::RunRecord, jerichoci::EngineError>,
) -> Result<Exit, CliError> {
    let reporter = report::reporter(format, |args| session.typed(args.iter().copied()));
    let mut watched = Watched::new(format, reporter);
    let record = run(&mut watched, &interrupt.cancel).map_err(|error| session.engine_error(error))?;
    watched.say_rest(&mut std::io::stderr(), &record);
    if let Some(why) = watched.lost() {
        // Also when every job had passed by then: what was not told must not look like a success.
        report::note(&format!("cannot write to standard output: {why}"));
        return Ok(Exit::Cancelled);
    }
    report::finish(format, &record, Exit::from(record.verdict))
}

fn request(args: &Args, target: &TargetSpec, changes: Option<(Changes, Option<BaseRecord>)>) -> RunRequest {
    let selection = changes.as_ref().map(|(changes, _)| select(target, changes));
    let (message, skip) = match selection {
        None => (None, None),
        Some(Selection::Run { message }) => (message, None),
        Some(Selection::Skip { message }) => (Some(message.clone()), Some(message)),
    };
    let (base, mut changed_files) = match changes {
        Some((Changes::Known { files, .. }, base)) => (base, files),
        _ => (None, Vec::new()),
    };
    changed_files.sort();
    changed_files.dedup();
    RunRequest {
        jobs: target.jobs.clone(),
        metadata: RunMetadata {
            target_id: Some(target.id.clone()),
            target_description: target.description.clone(),
            changed_files,
            base,
            filters: target.filters.patterns().to_vec(),
            message,
        },
        options: RunOptions { keep_going: args.keep_going, ..RunOptions::default() },
        skip,
    }
}

/// The changed files and what they were counted against, or why nobody knows them.
pub(super) fn changes(
    session: &Session,
    engine: &Engine,
    source: &Source,
    base: Option<&str>,
    cancel: &CancelToken,
) -> Result<(Changes, Option<BaseRecord>), CliError> {
    if let Some(why) = &source.without_git {
        return Ok((Changes::Unknown { why: why.to_string() }, None));
    }
    let changed = engine.changed_files(base, cancel).map_err(|error| session.engine_error(error))?;
    Ok(match changed.base {
        Base::Used { rev, merge_base } => {
            (Changes::Known { base: rev.clone(), files: changed.files }, Some(BaseRecord { rev, merge_base }))
        }
        Base::None { why } => (Changes::Unknown { why }, None),
    })
}
