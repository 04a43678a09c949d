//! `pikaci explain`.

use jericho_host::CancelToken;
use jerichoci::snapshot::{Base, ChangedFiles, git_changed_between, git_changed_files, git_file_names};

use super::base::{base, check_base, check_commit};
use super::catalog::CatalogFlag;
use super::session::Session;
use crate::config::{RunFlags, Settings};
use crate::error::CliError;
use crate::exit::Exit;
use crate::lanes::{Lane, is_staged};
use crate::render::explain::{self, Explained, Head, Row};
use crate::render::report;
use crate::selection::{Changes, reason};
use crate::source::Source;
use crate::targets::{Catalog, TargetError, TargetSpec, Trigger};

/// Says of each lane and target why it would run or be skipped
///
/// Runs nothing. Shows what the tree is compared with, which files changed, and for each target the file and the
/// pattern that decide. A forge asks with --base, --head, --trigger and --json.
/// With --diff it compares two runs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only these lanes and targets [default: all of them]
    targets: Vec<String>,
    /// Says what differs between two runs instead: source, definitions, settings, verdicts, durations
    #[arg(
        long,
        num_args = 2,
        value_names = ["RUN_A", "RUN_B"],
        conflicts_with_all = ["targets", "base", "head", "trigger", "catalog"]
    )]
    diff: Vec<String>,
    /// Revision that changes are counted from [default: the upstream's default branch]
    #[arg(long, value_name = "REV")]
    base: Option<String>,
    /// Count up to this commit, whatever the work tree holds [default: the work tree]
    #[arg(long, value_name = "REV")]
    head: Option<String>,
    /// Only the lanes that a forge runs at this occasion
    #[arg(long, value_name = "WHEN")]
    trigger: Option<Occasion>,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    catalog: CatalogFlag,
}

/// When a forge runs lanes by itself.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Occasion {
    /// A branch has a new head
    Branch,
    /// Once a night
    Nightly,
}

impl From<Occasion> for Trigger {
    fn from(occasion: Occasion) -> Self {
        match occasion {
            Occasion::Branch => Self::Branch,
            Occasion::Nightly => Self::Nightly,
        }
    }
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, CliError> {
    if let [a, b] = args.diff.as_slice() {
        return super::diff::run(session, a, b, args.json);
    }
    let source = session.source()?;
    let operator = session.operator()?;
    let catalog = args.catalog.load(&source, &operator)?;
    let trigger = args.trigger.map(Trigger::from);
    let chosen = chosen(&catalog, trigger, &args.targets)?;
    let cancel = CancelToken::new()
        .map_err(|error| CliError::new(Exit::Infrastructure, "cannot ask git").because(error))?;
    let settings = session.settings(&RunFlags::default(), &source, &operator, catalog.settings())?;
    let changed = changed(session, args, &source, &settings, &cancel)?;
    let changes = match (&source.without_git, &changed.base) {
        (Some(why), _) => Changes::Unknown { why: why.to_string() },
        (None, Base::Used { rev, merge_base }) => {
            Changes::Known { base: rev.clone(), merge_base: merge_base.clone(), files: changed.files.clone() }
        }
        (None, Base::None { why }) => Changes::Unknown { why: why.clone() },
    };
    let files = match source.without_git {
        Some(_) => None,
        None => {
            let environment = session.surroundings().environment();
            git_file_names(&source.root, args.head.as_deref(), environment, &cancel)
                .map_err(|error| session.engine_error(error.into()))?
        }
    };
    let rows = chosen.into_iter().map(|chosen| chosen.explain(&changes, files.as_deref())).collect();
    let explained = Explained {
        trigger,
        nightly_schedule_utc: catalog.lanes().nightly_schedule_utc(),
        head: match &args.head {
            Some(rev) => Head::Commit { rev },
            None => Head::WorkTree,
        },
        changes: &changes,
        changed: &changed,
        rows,
    };
    if args.json {
        explain::json(&explained)?;
        return Ok(Exit::Success);
    }
    explain::text(&explained)?;
    for warning in explained.warnings() {
        report::note(&format!("warning: {warning}"));
    }
    Ok(Exit::Success)
}

/// A target, and the lane that it is.
struct Chosen<'c> {
    target: &'c TargetSpec,
    lane: Option<&'c Lane>,
}

/// Lanes first, in their order; then the targets that are none, unless a trigger was asked for.
fn chosen<'c>(
    catalog: &'c Catalog,
    trigger: Option<Trigger>,
    names: &[String],
) -> Result<Vec<Chosen<'c>>, CliError> {
    let mut all = Vec::new();
    for lane in catalog.lanes().iter() {
        all.push(Chosen { target: catalog.find(&lane.target)?, lane: Some(lane) });
    }
    for target in catalog.iter() {
        if !catalog.lanes().iter().any(|lane| lane.target == target.id) {
            all.push(Chosen { target, lane: None });
        }
    }
    for name in names {
        if !all.iter().any(|chosen| chosen.is_called(name))
            && let Err(error) = catalog.find(name)
        {
            let nearest = match &error {
                TargetError::UnknownTarget { nearest, .. } => nearest.clone(),
                _ => None,
            };
            let error = CliError::from(error);
            return Err(match nearest {
                Some(nearest) => error.hint(format!("did you mean `pikaci explain {nearest}`?")),
                None => error,
            });
        }
    }
    all.retain(|chosen| {
        let asked = names.is_empty() || names.iter().any(|name| chosen.is_called(name));
        let due = trigger.is_none_or(|trigger| chosen.lane.is_some_and(|lane| lane.trigger == trigger));
        asked && due
    });
    Ok(all)
}

impl<'c> Chosen<'c> {
    fn is_called(&self, name: &str) -> bool {
        self.target.id == name || self.lane.is_some_and(|lane| lane.id == name)
    }

    fn explain(self, changes: &Changes, files: Option<&[String]>) -> Row<'c> {
        let filters = &self.target.filters;
        let id = self.lane.map_or(self.target.id.as_str(), |lane| lane.id.as_str());
        Row {
            id,
            title: self.target.title.as_deref().unwrap_or(id),
            target: &self.target.id,
            trigger: self.lane.map_or(Trigger::None, |lane| lane.trigger),
            staged: is_staged(self.target),
            concurrency_group: self.target.concurrency_group.as_deref(),
            paths: filters.patterns(),
            reason: reason(filters, self.target.definition, changes),
            without_file: files
                .map(|files| filters.without_file(files.iter().map(String::as_str)))
                .unwrap_or_default(),
        }
    }
}

fn changed(
    session: &Session,
    args: &Args,
    source: &Source,
    settings: &Settings,
    cancel: &CancelToken,
) -> Result<ChangedFiles, CliError> {
    let base = base(args.base.as_deref(), source, settings)?;
    if let Some(base) = &base {
        check_base(session, base, source, cancel)?;
    }
    let base = base.as_ref().map(|base| base.value.as_str());
    let environment = session.surroundings().environment();
    let changed = match &args.head {
        None => git_changed_files(&source.root, base, environment, cancel),
        Some(head) => {
            if let Some(why) = &source.without_git {
                return Err(CliError::usage(format!("--head needs git: {why}")).hint("leave --head out"));
            }
            check_commit(session, ("--head", "leave --head out, for the work tree"), head, source, cancel)?;
            git_changed_between(&source.root, base, head, environment, cancel)
        }
    };
    changed.map_err(|error| session.engine_error(error.into()))
}
