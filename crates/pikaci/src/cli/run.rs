//! `pikaci run`.

use jericho_host::CancelToken;
use jerichoci::run::outstanding::closure_of_needs;
use jerichoci::snapshot::{Base, git_commit_of};
use jerichoci::{Engine, RunMetadata, RunOptions, RunRequest};

use super::session::Session;
use crate::config::{BASE_REF, Origin, RunFlags, Setting, Settings};
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::report::{self, Format, OutputFlags};
use crate::render::text::shorten;
use crate::render::watched::Watched;
use crate::selection::{Changes, Selection, select};
use crate::signals::Listener;
use crate::source::{Source, WithoutGit};
use crate::targets::{self, FILE_NAME, TargetSpec};

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
    /// Take a tree that is in no git repository, or on a machine without git: all of it but what
    /// .gitignore and .jerichociignore name
    #[arg(long)]
    no_git: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, CliError> {
    let format = args.output.format()?;
    let source = session.source()?;
    let settings = session.settings(&args.flags, &source)?;
    let catalog = session.catalog(&source)?;
    let target = match &args.target {
        Some(name) => catalog.find(name)?,
        None => catalog.default_target()?,
    };
    // What is built in is about the machine and passes on any tree.
    if let (Some(why), false, targets::Origin::File(_)) = (&source.without_git, args.no_git, &target.origin) {
        return Err(needs_git(&source.root, why));
    }
    let mut config = settings.engine_config(session.surroundings());
    config.group_widths.clone_from(catalog.group_widths());
    let engine = Engine::new(config.clone());
    let base = base(args, &source, &settings)?;
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
    // A run that is skipped needs none.
    if request.skip.is_none() {
        let chosen = closure_of_needs(&request.jobs, &request.options.only)
            .map_err(|error| session.engine_error(error.into()))?;
        config.secrets = session.secrets(&chosen, |name| catalog.secret_place(&target.id, name))?;
    }
    let engine = Engine::new(config);
    if let Some(why) = &source.without_git {
        let left_out = "what .gitignore and .jerichociignore name is left out";
        report::note(&format!("{}: {why}; {left_out}", source.root.display()));
    }
    if let (Some(message), false) = (&request.metadata.message, request.skip.is_some()) {
        report::note(&format!("{} {message}", target.id));
    }
    carry_out(session, format, &interrupt, |reporter, cancel| engine.run(&request, reporter, cancel))
}

/// Without git nobody knows what belongs to the tree: a guess would check something else than
/// what a commit has, so it is made only when it is asked for.
fn needs_git(root: &std::path::Path, why: &WithoutGit) -> CliError {
    let exit = match why {
        WithoutGit::NoProgram => Exit::Infrastructure,
        WithoutGit::NoRepository => Exit::Usage,
    };
    CliError::new(exit, format!("{}: {why}", shorten(&root.to_string_lossy())))
        .hint("git init; or --no-git, for everything but what .gitignore and .jerichociignore name")
}

/// The base that was asked for.
fn base(args: &Args, source: &Source, settings: &Settings) -> Result<Option<Setting<String>>, CliError> {
    let Some(base) = &args.base else {
        let Setting { value, origin } = settings.base_ref.clone();
        return Ok(value.map(|value| Setting { value, origin }));
    };
    if let Some(why) = &source.without_git {
        let message = format!("--base {} needs git: {why}", shorten(base));
        return Err(CliError::usage(message).hint("leave --base out: every target runs then"));
    }
    Ok(Some(Setting { value: base.clone(), origin: Origin::Flag }))
}

/// Refuses a base that is no commit. A check against something else than what was asked for would
/// look like the one that was asked for.
fn check_base(
    session: &Session,
    base: &Setting<String>,
    source: &Source,
    cancel: &CancelToken,
) -> Result<(), CliError> {
    if source.without_git.is_some() {
        return Ok(());
    }
    let environment = session.surroundings().environment();
    let commit = git_commit_of(&source.root, &base.value, environment, cancel)
        .map_err(|error| session.engine_error(error.into()))?;
    if commit.is_some() {
        return Ok(());
    }
    let file = |file: &str, line, column| {
        (format!("{file}:{line}:{column}: `base_ref`"), format!("leave it out of {file}"))
    };
    let (name, without) = match base.origin {
        Origin::Flag => ("--base".to_owned(), "leave --base out".to_owned()),
        Origin::Environment | Origin::Default => (BASE_REF.to_owned(), format!("unset {BASE_REF}")),
        Origin::Repository(line, column) => file(FILE_NAME, line, column),
        Origin::User(line, column) => file(&session.operator()?.place, line, column),
    };
    let message = format!("{name} is `{}`, which is no commit in this repository", shorten(&base.value));
    Err(CliError::usage(message)
        .hint(format!("git fetch, when a remote has it; or {without}, for the upstream's default branch")))
}

/// A token that signals cancel, from here on.
pub(super) struct Interrupt {
    cancel: CancelToken,
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

fn request(args: &Args, target: &TargetSpec, changes: Option<Changes>) -> RunRequest {
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
    RunRequest {
        jobs: target.jobs.clone(),
        metadata: RunMetadata {
            target_id: Some(target.id.clone()),
            target_description: target.description.clone(),
            changed_files,
            filters: target.filters.patterns().to_vec(),
            message,
        },
        options: RunOptions { keep_going: args.keep_going, ..RunOptions::default() },
        skip,
    }
}

fn changes(
    session: &Session,
    engine: &Engine,
    source: &Source,
    base: Option<&str>,
    cancel: &CancelToken,
) -> Result<Changes, CliError> {
    if let Some(why) = &source.without_git {
        return Ok(Changes::Unknown { why: why.to_string() });
    }
    let changed = engine.changed_files(base, cancel).map_err(|error| session.engine_error(error))?;
    Ok(match changed.base {
        Base::Used { rev, .. } => Changes::Known { base: rev, files: changed.files },
        Base::None { why } => Changes::Unknown { why },
    })
}
