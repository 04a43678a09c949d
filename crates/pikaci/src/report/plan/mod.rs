//! What a run of a target would do, before there is one: the plan as a document, as text, as a
//! graph. Pure.
//!
//! The document has the fields of `plan.json`, with null for what only a run has, and beside them
//! the job definitions and whether the path filters select the target:
//!
//! ```json
//! { "schema_version": 1, "run_id": null, "target_id": "check", "created_at": null,
//!   "nodes": [ { "kind": "execute", "id": "execute-fmt", "depends_on": [] } ],
//!   "selection": { "runs": true, "reason": "path_matched",
//!                  "why": "runs: src/a.rs changed and matches src/**" },
//!   "groups": { "one-db": 1 }, "jobs": [ { "id": "fmt" } ] }
//! ```

mod dot;
mod text;

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, Utc};
use jerichoci::model::id::RunId;
use jerichoci::model::job::JobSpec;
use jerichoci::model::plan::{PlanNodeRecord, PlanScope};
use jerichoci::run::layout::RunLayout;
use jerichoci::run::plan::{PlanInputs, plan};
use jerichoci::run::request::RequestError;
use serde::Serialize;

pub(crate) use dot::dot;
pub(crate) use text::{command, limit, place, text};

use crate::selection::{Changes, Reason, reason};
use crate::targets::TargetSpec;

/// In place of the directory of the run, which nobody knows before there is one.
pub(crate) const RUN_DIRECTORY: &str = "<run directory>";

/// What a run of a target would do.
#[derive(Debug, Serialize)]
pub(crate) struct PlanDocument<'a> {
    schema_version: u32,
    /// Always null: there is no run.
    run_id: Option<&'a str>,
    target_id: &'a str,
    target_description: Option<&'a str>,
    /// Always null: so is the same plan always the same document.
    created_at: Option<&'a str>,
    scope: PlanScope,
    preconditions: Vec<String>,
    nodes: Vec<PlanNodeRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    trigger: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency_group: Option<&'a str>,
    filters: &'a [String],
    selection: Selected,
    /// Width of each resource group that a job takes.
    groups: BTreeMap<&'a str, usize>,
    jobs: &'a [JobSpec],
}

/// Whether the target would run, and why.
#[derive(Debug, Serialize)]
struct Selected {
    runs: bool,
    /// The word that documents of selections use.
    reason: &'static str,
    why: String,
    /// What the changed files were counted against.
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed_files: Option<usize>,
    /// The first file that a filter matches, and that filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    matched: Option<Match>,
}

#[derive(Debug, Serialize)]
struct Match {
    file: String,
    pattern: String,
}

/// Plans. Without `changes` the target has no filters, and nobody looked for changed files.
///
/// # Errors
/// As [`plan`].
pub(crate) fn document<'a>(
    target: &'a TargetSpec,
    group_widths: &BTreeMap<String, usize>,
    changes: Option<&Changes>,
) -> Result<PlanDocument<'a>, RequestError> {
    let layout = RunLayout::at(RUN_DIRECTORY);
    let bound = plan(&target.jobs)?.bind(&PlanInputs {
        run_id: &RunId::new(DateTime::<Utc>::UNIX_EPOCH, "00000000"),
        created_at: DateTime::<Utc>::UNIX_EPOCH,
        target_id: Some(&target.id),
        target_description: target.description.as_deref(),
        layout: &layout,
        snapshot_dir: &Path::new(RUN_DIRECTORY).join("snapshot"),
    });
    let groups = target.jobs.iter().flat_map(|job| &job.groups);
    let groups = groups.map(|group| (group.as_str(), group_widths.get(group).copied().unwrap_or(1)));
    Ok(PlanDocument {
        schema_version: bound.schema_version,
        run_id: None,
        target_id: &target.id,
        target_description: target.description.as_deref(),
        created_at: None,
        scope: bound.scope,
        preconditions: bound.preconditions,
        nodes: bound.nodes,
        title: target.title.as_deref(),
        trigger: target.trigger.word(),
        concurrency_group: target.concurrency_group.as_deref(),
        filters: target.filters.patterns(),
        selection: selected(target, changes),
        groups: groups.collect(),
        jobs: &target.jobs,
    })
}

fn selected(target: &TargetSpec, changes: Option<&Changes>) -> Selected {
    let reason =
        changes.map_or(Reason::Unfiltered, |changes| reason(&target.filters, target.definition, changes));
    let (base, files) = match changes {
        Some(Changes::Known { base, files, .. }) => (Some(base.clone()), Some(files.len())),
        Some(Changes::Unknown { .. }) | None => (None, None),
    };
    let (runs, kind, why) = (reason.runs(), reason.word(), reason.to_string());
    let matched = match reason {
        Reason::Matched { file, pattern } => Some(Match { file, pattern }),
        _ => None,
    };
    Selected { runs, reason: kind, why, base, changed_files: files, matched }
}

impl PlanDocument<'_> {
    /// The definition of the job that a node runs.
    fn job_of(&self, node: &PlanNodeRecord) -> Option<&JobSpec> {
        let id = node.id().strip_prefix("execute-")?;
        match node {
            PlanNodeRecord::Execute { .. } => self.jobs.iter().find(|job| job.id == id),
            PlanNodeRecord::Prepare { .. } => None,
        }
    }
}
