//! `pikaci run`: a target against a snapshot of the tree as it is now.

use jerichoci::run::request::{RunMetadata, RunOptions, RunRequest};
use jerichoci::{ChangedFiles, Engine};

use super::running::{RunningArgs, cancel_token};
use crate::config::{Config, RunFlags, Setting};
use crate::error::CliError;
use crate::exit::Ending;
use crate::output::note;
use crate::render::words;
use crate::targets::{Catalog, Filters};

/// Run a target against a snapshot of the tree as it is now
///
/// The tree may change while the run goes on; the jobs do not see it. A target with path
/// filters runs when a file that differs from the base matches one of them; otherwise a
/// skipped run is recorded.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to run [default: the target that jericho.toml calls default]
    target: Option<String>,

    #[command(flatten)]
    running: RunningArgs,

    /// After a failure, go on with the jobs that do not need what failed
    #[arg(short, long)]
    keep_going: bool,

    /// Revision that changed files are counted from [default: where the branch left upstream's]
    #[arg(long, value_name = "REV")]
    base: Option<String>,
}

pub(super) fn run(args: Args, config: &Config) -> Result<Ending, CliError> {
    args.running.check()?;
    let flags = RunFlags {
        jobs: args.running.jobs,
        inherit_env: args.running.inherit_env,
        keep_going: args.keep_going,
        base: args.base,
    };
    let engine_config = config.engine(&flags)?;
    let source_root = config.source_root();
    let catalog = Catalog::load(&source_root.path)?;
    let target = match &args.target {
        Some(name) => catalog.find(name)?,
        None => catalog.default_target()?,
    };
    let base = config.base(&flags)?;
    if let Some(why) = &source_root.no_git {
        if flags.base.is_some() {
            return Err(CliError::usage(format!("--base needs a git work tree: {why}"))
                .hint("leave --base out, or name a work tree with -C"));
        }
        let path = source_root.path.display();
        note(format_args!("note: {path} is taken as it is, without git: {why}"));
    }

    let cancel = cancel_token()?;
    let state_root = engine_config.state_root.clone();
    let engine = Engine::new(engine_config);
    let choice = choose(&engine, &target.filters, &base, flags.base.is_some())?;
    let mut request = RunRequest {
        jobs: target.jobs.clone(),
        metadata: RunMetadata {
            target_id: Some(target.id.clone()),
            target_description: target.description.clone(),
            changed_files: choice.changed_files,
            filters: target.filters.patterns().to_vec(),
            message: None,
        },
        options: RunOptions { keep_going: flags.keep_going },
        skip: None,
    };
    match choice.decision {
        Decision::Run(message) => request.metadata.message = message,
        Decision::Skip(message) => request = request.skip(message),
    }
    args.running.run(state_root, config.command_line(), &cancel, |reporter, cancel| {
        engine.run(request, reporter, cancel)
    })
}

struct Choice {
    changed_files: Vec<String>,
    decision: Decision,
}

/// Whether a target runs, and why, in words for people.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Run(Option<String>),
    Skip(String),
}

/// Asks for the changed files where they matter: git walks the whole tree for them.
fn choose(
    engine: &Engine,
    filters: &Filters,
    base: &Setting<Option<String>>,
    asked_for: bool,
) -> Result<Choice, CliError> {
    if filters.is_empty() && !asked_for {
        return Ok(Choice { changed_files: Vec::new(), decision: Decision::Run(None) });
    }
    let changed = match engine.changed_files(base.value.as_deref()) {
        Ok(changed) => changed,
        Err(error) if asked_for => return Err(error.into()),
        Err(error) => ChangedFiles { no_base: Some(error.to_string()), ..ChangedFiles::default() },
    };
    let decision = decide(filters, &changed.files, changed.no_base.as_deref());
    Ok(Choice { changed_files: changed.files, decision })
}

/// Runs when in doubt: a check that was skipped by accident looks like a success.
fn decide(filters: &Filters, changed: &[String], no_base: Option<&str>) -> Decision {
    if filters.is_empty() {
        return Decision::Run(None);
    }
    if let Some(why) = no_base {
        return Decision::Run(Some(format!("runs whatever has changed: {why}")));
    }
    if changed.is_empty() {
        return Decision::Run(Some("runs because nothing differs from the base".to_owned()));
    }
    match filters.first_match(changed.iter().map(String::as_str)) {
        Some((file, pattern)) => Decision::Run(Some(format!("runs because {file} matches {pattern}"))),
        None => Decision::Skip(format!(
            "skipped: {} and none matches {}",
            words::count(changed.len(), "file differs from the base", "files differ from the base"),
            words::count(filters.patterns().len(), "path filter", "path filters"),
        )),
    }
}
