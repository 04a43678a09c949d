//! `pikaci targets`.

use std::io::Write as _;
use std::path::PathBuf;

use jerichoci::model::job::{JobPlacement, JobSpec};
use serde::Serialize;

use super::catalog::CatalogFlag;
use super::session::Session;
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::document;
use crate::render::text::printable;
use crate::targets::{Origin, TargetSpec, Trigger};

/// Lists the targets of the source tree, and the built-in ones
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    catalog: CatalogFlag,
}

const SCHEMA_VERSION: u32 = 1;

#[derive(Debug, Serialize)]
struct Document<'t> {
    schema_version: u32,
    targets: Vec<Target<'t>>,
}

#[derive(Debug, Serialize)]
struct Target<'t> {
    id: &'t str,
    description: Option<&'t str>,
    default: bool,
    trigger: &'static str,
    filters: &'t [String],
    /// The file that declares it; none of a built-in one.
    file: Option<&'t PathBuf>,
    jobs: Vec<Job<'t>>,
}

#[derive(Debug, Serialize)]
struct Job<'t> {
    id: &'t str,
    description: &'t str,
    needs: &'t [String],
    executor: &'static str,
    /// The host of a job that does not run here.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'t str>,
}

impl<'t> From<&'t TargetSpec> for Target<'t> {
    fn from(target: &'t TargetSpec) -> Self {
        Self {
            id: &target.id,
            description: target.description.as_deref(),
            default: target.default,
            trigger: word(target.trigger),
            filters: target.filters.patterns(),
            file: match &target.origin {
                Origin::BuiltIn | Origin::Catalog => None,
                Origin::File(path) => Some(path),
            },
            jobs: target.jobs.iter().map(Job::from).collect(),
        }
    }
}

impl<'t> From<&'t JobSpec> for Job<'t> {
    fn from(job: &'t JobSpec) -> Self {
        Self {
            id: &job.id,
            description: &job.description,
            needs: &job.needs,
            executor: job.execution().executor_label(),
            host: match &job.placement {
                JobPlacement::Local => None,
                JobPlacement::RemoteSsh { host } => Some(host),
            },
        }
    }
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<Exit, CliError> {
    let source = session.source()?;
    let catalog = args.catalog.load(&source, &session.operator()?)?;
    let targets: Vec<Target<'_>> = catalog.iter().map(Target::from).collect();
    match args.json {
        true => document::print(&Document { schema_version: SCHEMA_VERSION, targets })?,
        false => text(&targets)?,
    }
    Ok(Exit::Success)
}

const fn word(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::None => "none",
        Trigger::Branch => "branch",
        Trigger::Nightly => "nightly",
    }
}

/// A line for each target, and below it what is not usual about it.
fn text(targets: &[Target<'_>]) -> Result<(), CliError> {
    let width = targets.iter().map(|target| target.id.chars().count()).max().unwrap_or(0).min(40);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for target in targets {
        let description = printable(target.description.unwrap_or_default().as_bytes());
        let line = format!("{:<width$}  {description}", target.id);
        let mut lines = vec![line.trim_end().to_owned()];
        let ids: Vec<&str> = target.jobs.iter().map(|job| job.id).collect();
        lines.push(format!("  jobs: {}", ids.join(", ")));
        if target.default {
            lines.push("  default: `pikaci run` without a name".to_owned());
        }
        if target.trigger != word(Trigger::None) {
            lines.push(format!("  trigger: {}", target.trigger));
        }
        if !target.filters.is_empty() {
            lines.push(format!("  paths: {}", printable(target.filters.join(", ").as_bytes())));
        }
        if target.file.is_none() {
            lines.push("  built in".to_owned());
        }
        for line in lines {
            writeln!(out, "{line}").map_err(CliError::output)?;
        }
    }
    out.flush().map_err(CliError::output)
}
