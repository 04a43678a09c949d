//! `pikaci run`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jericho_host::CancelToken;
use jerichoci::model::record::{BaseRecord, RunRecord};
use jerichoci::run::outstanding::closure_of_needs;
use jerichoci::snapshot::Base;
use jerichoci::{Engine, EngineConfig, EngineError, Reporter, RunMetadata, RunOptions, RunRequest};

use super::base::{base, check_base};
use super::catalog::CatalogFlag;
use super::junit::ReportFlags;
use super::place::{OnFlag, placed};
use super::session::Session;
use super::{only, shell, watch};
use crate::config::{HEADING, Origin, RunFlags, Setting};
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::announce::Announcer;
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
///
/// With --watch, what counts is what a snapshot would take: nothing that git ignores, nor the state
/// root. A run that is cancelled by a change has a tenth of a second to end its jobs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A target of jericho.toml, or jericho-smoke [default: the target with `default = true`]
    target: Option<String>,
    #[command(flatten)]
    output: OutputFlags,
    #[command(flatten)]
    flags: RunFlags,
    #[command(flatten)]
    on: OnFlag,
    /// Keep the guest of a job that did not pass for two hours, to look at: pikaci shell RUN JOB
    #[arg(long, help_heading = HEADING)]
    keep_on_failure: bool,
    /// After the run, open a shell in the guest of the first job that failed; it is kept as well
    #[arg(long, conflicts_with = "watch", help_heading = HEADING)]
    shell_on_failure: bool,
    #[command(flatten)]
    catalog: CatalogFlag,
    #[command(flatten)]
    reports: ReportFlags,
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
    /// Only this job and what it needs; can be given several times
    #[arg(long, value_name = "JOB")]
    only: Vec<String>,
    /// Run again whenever a file of the tree changes, until Ctrl-C; a run that goes on is cancelled
    #[arg(long)]
    watch: bool,
    /// Appended to the command of the job: arguments of a program, "$@" of a script
    #[arg(last = true)]
    args: Vec<String>,
}

impl Args {
    /// What is written at the end of each run.
    pub(super) const fn reports(&self) -> &ReportFlags {
        &self.reports
    }
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, CliError> {
    let format = args.output.format()?;
    if args.watch {
        return watch::run(session, args, format);
    }
    if args.shell_on_failure {
        shell::check_terminal("pikaci run --keep-on-failure; then pikaci shell RUN JOB -- COMMAND...")?;
        if !format.is_human() {
            return Err(CliError::usage("--shell-on-failure would print among the documents of --output")
                .hint("pikaci run --keep-on-failure; then pikaci shell RUN JOB"));
        }
    }
    let source = session.source()?;
    let prepared = Prepared::new(session, args, &source)?;
    let interrupt = Interrupt::listen()?;
    prepared.run(session, args, &source, format, &interrupt.announcer, &interrupt.cancel)
}

/// Everything that is said about a run before anybody looks at the tree.
pub(super) struct Prepared {
    config: EngineConfig,
    catalog: Catalog,
    target: TargetSpec,
    only: Vec<String>,
    base: Option<Setting<String>>,
}

impl Prepared {
    pub(super) fn new(session: &Session, args: &Args, source: &Source) -> Result<Self, CliError> {
        let operator = session.operator()?;
        let catalog = args.catalog.load(source, &operator)?;
        let settings = session.settings(&args.flags, source, &operator, catalog.settings())?;
        let target = match &args.target {
            Some(name) => catalog.find(name)?,
            None => catalog.default_target()?,
        };
        // What is built in is about the machine and passes on any tree.
        let built_in = target.origin == targets::Origin::BuiltIn;
        if let (Some(why), false, false) = (&source.without_git, args.no_git, built_in) {
            return Err(needs_git(&source.root, why));
        }
        let only = only::jobs(session, target, &args.only, &args.args)?;
        let mut config = settings.engine_config(session.surroundings());
        config.group_widths.clone_from(catalog.group_widths());
        let base = base(args.base.as_deref(), source, &settings)?;
        let mut target = target.clone();
        // What does not run need not be taken by any host.
        let chosen =
            closure_of_needs(&target.jobs, &only).map_err(|error| session.engine_error(error.into()))?;
        target.jobs = placed(&chosen, &args.on, &settings)?;
        settings.outputs.check(&target.jobs)?;
        Ok(Self { config, catalog, target, only, base })
    }

    /// Runs it, and tells.
    pub(super) fn run(
        &self,
        session: &Session,
        args: &Args,
        source: &Source,
        format: Format,
        announcer: &Announcer,
        cancel: &CancelToken,
    ) -> Result<Exit, CliError> {
        let mut at_the_end = args.reports.check(session)?;
        let target = &self.target;
        // Given by flag, it was meant for this run. The variable stands for every run, also for those
        // that compare nothing.
        let filtered = !target.filters.is_empty();
        if let Some(base) = self.base.as_ref().filter(|base| filtered || base.origin == Origin::Flag) {
            check_base(session, base, source, cancel)?;
        }
        let changes = match filtered {
            false => None,
            true => {
                let base = self.base.as_ref().map(|base| base.value.as_str());
                Some(changes(session, &Engine::new(self.config.clone()), source, base, cancel)?)
            }
        };
        let request = request(args, target, self.only.clone(), changes);
        let mut config = self.config.clone();
        let mut jobs = None;
        // A run that is skipped needs none.
        if request.skip.is_none() {
            let chosen = closure_of_needs(&request.jobs, &self.only)
                .map_err(|error| session.engine_error(error.into()))?;
            let place = |name: &str| self.catalog.secret_place(&target.id, name);
            config.secrets = session.secrets(&chosen, place)?;
            jobs = Some(chosen.len());
        }
        let engine = Engine::new(config);
        if !format.is_quiet() {
            if let Some(why) = &source.without_git {
                let left_out = "what .gitignore and .jerichociignore name is left out";
                report::note(&format!("{}: {why}; {left_out}", source.root.display()));
            }
            if let (Some(message), false) = (&request.metadata.message, request.skip.is_some()) {
                report::note(&format!("{} {message}", target.id));
            }
        }
        let mut ended = None;
        let exit = tell(session, format, announcer, cancel, jobs, |reporter, cancel| {
            let ran = engine.run(&request, reporter, cancel);
            ended = ran.as_ref().ok().filter(|_| args.shell_on_failure).cloned();
            at_the_end.write(session, ran)
        })?;
        if let Some(record) = ended.filter(|_| !cancel.is_cancelled()) {
            shell::after(session, &engine, &record, cancel)?;
        }
        at_the_end.settle(exit)
    }
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

/// A token that signals cancel, from here on.
pub(super) struct Interrupt {
    pub(super) cancel: CancelToken,
    pub(super) announcer: Announcer,
    /// Whether a program of this machine has the terminal.
    pub(super) lent: Arc<AtomicBool>,
    _listener: Listener,
}

impl Interrupt {
    pub(super) fn listen() -> Result<Self, CliError> {
        let cancel = fresh_token()?;
        let announcer = Announcer::default();
        let lent = Arc::<AtomicBool>::default();
        let listener = Listener::start(&cancel, announcer.clone(), Arc::clone(&lent))?;
        Ok(Self { cancel, announcer, lent, _listener: listener })
    }
}

/// A token that nobody cancelled yet.
pub(super) fn fresh_token() -> Result<CancelToken, CliError> {
    CancelToken::new().map_err(|error| {
        CliError::new(Exit::Infrastructure, "cannot begin a run")
            .because(error)
            .hint("ulimit -n; the machine refused what every process may ask for")
    })
}

/// Runs, tells, and turns the verdict into an exit code; the same for a run and a rerun.
pub(super) fn carry_out(
    session: &Session,
    format: Format,
    interrupt: &Interrupt,
    run: impl FnOnce(&mut dyn Reporter, &CancelToken) -> Result<RunRecord, EngineError>,
) -> Result<Exit, CliError> {
    tell(session, format, &interrupt.announcer, &interrupt.cancel, None, run)
}

/// [`carry_out`] with a token of its own, of so many jobs when that is known.
fn tell(
    session: &Session,
    format: Format,
    announcer: &Announcer,
    cancel: &CancelToken,
    jobs: Option<usize>,
    run: impl FnOnce(&mut dyn Reporter, &CancelToken) -> Result<RunRecord, EngineError>,
) -> Result<Exit, CliError> {
    let terminal = format.terminal(session.surroundings());
    let typed = |args: &[&str]| session.typed(args.iter().copied());
    let reporter = report::reporter(format, terminal, announcer, jobs, typed);
    let mut watched = Watched::new(format, reporter);
    let record = run(&mut watched, cancel).map_err(|error| session.engine_error(error))?;
    watched.say_rest(&mut std::io::stderr(), &record);
    if let Some(why) = watched.lost() {
        // Also when every job had passed by then: what was not told must not look like a success.
        report::note(&format!("cannot write to standard output: {why}"));
        return Ok(Exit::Cancelled);
    }
    report::finish(format, &record, Exit::from(record.verdict))
}

fn request(args: &Args, target: &TargetSpec, only: Vec<String>, changes: Option<Changes>) -> RunRequest {
    let selection = changes.as_ref().map(|changes| select(target, changes));
    let (message, skip) = match selection {
        None => (None, None),
        Some(Selection::Run { message }) => (message, None),
        Some(Selection::Skip { message }) => (Some(message.clone()), Some(message)),
    };
    let (base, mut changed_files) = match changes {
        Some(Changes::Known { base, merge_base, files }) => {
            (Some(BaseRecord { rev: base, merge_base }), files)
        }
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
        options: RunOptions {
            keep_going: args.keep_going,
            only,
            args: args.args.clone(),
            keep_on_failure: args.keep_on_failure || args.shell_on_failure,
            ..RunOptions::default()
        },
        skip,
    }
}

/// The changed files, or why nobody knows them.
pub(super) fn changes(
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
        Base::Used { rev, merge_base } => Changes::Known { base: rev, merge_base, files: changed.files },
        Base::None { why } => Changes::Unknown { why },
    })
}
