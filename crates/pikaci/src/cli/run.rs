//! `pikaci run`: a target against a snapshot of the tree as it is now.

use jericho_host::CancelToken;
use jerichoci::snapshot::Base;
use jerichoci::{Engine, RunMetadata, RunOptions, RunRequest};

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
    let mut engine_config = config.engine(&flags)?;
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

    engine_config.group_widths.clone_from(catalog.group_widths());
    let cancel = cancel_token()?;
    let engine = Engine::new(engine_config);
    let choice = choose(&engine, &target.filters, &base, flags.base.is_some(), &cancel)?;
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
    args.running
        .run(config.command_line(), &cancel, |reporter, cancel| engine.run(&request, reporter, cancel))
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
    cancel: &CancelToken,
) -> Result<Choice, CliError> {
    if filters.is_empty() && !asked_for {
        return Ok(Choice { changed_files: Vec::new(), decision: Decision::Run(None) });
    }
    match engine.changed_files(base.value.as_deref(), cancel) {
        Ok(changed) => {
            let decision = decide(filters, &changed.files, &changed.base);
            Ok(Choice { changed_files: changed.files, decision })
        }
        Err(error) if asked_for || cancel.is_cancelled() => Err(error.into()),
        Err(error) => {
            let decision = decide(filters, &[], &Base::None { why: error.to_string() });
            Ok(Choice { changed_files: Vec::new(), decision })
        }
    }
}

/// Runs when in doubt: a check that was skipped by accident looks like a success.
fn decide(filters: &Filters, changed: &[String], base: &Base) -> Decision {
    if filters.is_empty() {
        return Decision::Run(None);
    }
    let base = match base {
        Base::None { why } => return Decision::Run(Some(format!("runs whatever has changed: {why}"))),
        Base::Used { rev, .. } => rev,
    };
    if changed.is_empty() {
        return Decision::Run(Some(format!("runs because nothing differs from {base}")));
    }
    match filters.first_match(changed.iter().map(String::as_str)) {
        Some((file, pattern)) => Decision::Run(Some(format!("runs because {file} matches {pattern}"))),
        None => Decision::Skip(format!(
            "none of {} since {base} matches {}",
            words::count(changed.len(), "changed file", "changed files"),
            words::count(filters.patterns().len(), "path filter", "path filters"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(patterns: &[&str], changed: &[&str], base: &Base) -> Decision {
        let filters = Filters::new(patterns.iter().copied()).expect("good patterns");
        let changed: Vec<String> = changed.iter().map(|&file| file.to_owned()).collect();
        decide(&filters, &changed, base)
    }

    fn runs(why: &str) -> Decision {
        Decision::Run(Some(why.to_owned()))
    }

    #[test]
    fn a_target_is_skipped_only_when_files_have_changed_and_none_matches() {
        let main = Base::Used { rev: "main".to_owned(), merge_base: "0".repeat(40) };
        let none = Base::None { why: "no remote".to_owned() };
        let filters = ["src/**", "!**/*.md"];
        assert_eq!(decided(&[], &["a"], &main), Decision::Run(None));
        assert_eq!(decided(&filters, &["a"], &none), runs("runs whatever has changed: no remote"));
        assert_eq!(decided(&filters, &[], &main), runs("runs because nothing differs from main"));
        assert_eq!(
            decided(&filters, &["a", "src/b.rs"], &main),
            runs("runs because src/b.rs matches src/**")
        );
        assert_eq!(
            decided(&filters, &["a", "src/b.md"], &main),
            Decision::Skip("none of 2 changed files since main matches 2 path filters".to_owned())
        );
    }
}
