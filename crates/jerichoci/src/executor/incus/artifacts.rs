//! What a guest left, brought into the directory of its job's artifacts.

use std::collections::HashSet;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use pika_cloud::IncusRuntimePlan;
use pika_cloud::glob::GlobSet;
use pika_cloud::ops::{CollectLimits, Ended, Incus, InstanceRef, OpsError};
use serde_json::Value;

use super::export::{self, ExportError};

use crate::beneath;
use crate::model::attempt::ArtifactRecord;
use crate::model::demands::ArtifactsWhen;
use crate::model::job::JobSpec;
use crate::model::outcome::Verdict;

/// Names at the top of the artifacts that belong to the engine.
const ENGINES: [&str; 4] = ["result.json", "status.json", "events.jsonl", "guest.log"];

/// Of what is left out, this many are named in warnings; the others are counted.
const NAMED: usize = 10;

/// What was brought back.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) files: Vec<ArtifactRecord>,
    pub(super) warnings: Vec<String>,
}

/// Where to, and how much.
pub(super) struct Collection<'a> {
    /// A directory that goes with the job, on the file system of `artifacts`.
    pub(super) scratch: &'a Path,
    pub(super) artifacts: &'a Path,
    pub(super) limits: CollectLimits,
}

/// Brings it: result, status and events, and what lies in the guest's directory of artifacts.
pub(super) fn collect(
    incus: &Incus,
    plan: &IncusRuntimePlan,
    job: &JobSpec,
    (ended, verdict): (&Ended, Verdict),
    collection: &Collection<'_>,
) -> Result<Collected, OpsError> {
    let staged = collection.scratch.join("collected");
    let found = bring(incus, plan, ended, &staged, collection.limits)?;
    let mut collected = Collected::default();
    let own = own(ended);
    let unwanted = match job.artifacts_when {
        // The runner does not know the verdict when it copies.
        ArtifactsWhen::Failure if verdict == Verdict::Passed && own.is_some() => {
            GlobSet::new(&super::spec::globs(&job.artifacts)).ok()
        }
        _ => None,
    };
    let is_unwanted = |file: &Path| {
        // What the job has put there itself is no copy.
        unwanted.as_ref().is_some_and(|globs| globs.matches(file.as_os_str().as_bytes()))
            && !own.as_ref().is_some_and(|own| own.contains(&*file.to_string_lossy()))
    };
    let mut left_out: Vec<String> = found.skipped;
    for (path, bytes) in found.files {
        let (to, is_file) = match path.strip_prefix("files") {
            Ok(below) => (below.to_path_buf(), true),
            Err(_) => (path.clone(), false),
        };
        if is_file {
            if is_unwanted(&to) {
                continue;
            }
            if ENGINES.iter().any(|name| to == Path::new(name)) {
                left_out.push(format!("{}: the engine writes a file of that name", to.display()));
                continue;
            }
        }
        match put(&staged.join(&path), collection.artifacts, &to) {
            Ok(()) if is_file => {
                collected.files.push(ArtifactRecord { path: to.to_string_lossy().into_owned(), bytes });
            }
            Ok(()) => {}
            Err(error) => left_out.push(format!("{}: {error}", to.display())),
        }
    }
    let more = left_out.len().saturating_sub(NAMED);
    collected.warnings.extend(left_out.into_iter().take(NAMED).map(|line| format!("artifacts: {line}")));
    if more > 0 {
        collected.warnings.push(format!("artifacts: {more} more files, links and other things are left out"));
    }
    collected.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(collected)
}

/// What the globs choose of what the job has put among its artifacts itself, as the runner tells it. Nothing when it is
/// too much to tell: rather too many files than too few then.
fn own(ended: &Ended) -> Option<HashSet<&str>> {
    let Ended::Result(result) = ended else { return Some(HashSet::new()) };
    let artifacts = &result.details.as_ref().unwrap_or(&Value::Null)["artifacts"];
    let names = artifacts["own"].as_array().into_iter().flatten().filter_map(Value::as_str);
    artifacts["own_left_out"].is_null().then(|| names.collect())
}

/// Into `staged`: documents, and files below `files/`. All files at once where the runner of the guest still can
/// tell them, which takes a request altogether in place of one for each.
fn bring(
    incus: &Incus,
    plan: &IncusRuntimePlan,
    ended: &Ended,
    staged: &Path,
    limits: CollectLimits,
) -> Result<pika_cloud::ops::Collected, OpsError> {
    let instance = InstanceRef::of(plan);
    let dir = &plan.paths.artifacts_dir;
    let is_empty = || Ok::<_, OpsError>(incus.list_dir(&instance, dir)?.is_none_or(|names| names.is_empty()));
    let Some(runner) = plan.entry_command.as_deref().filter(|_| ended.runs_on()) else {
        return incus.collect_within(plan, ended, staged, limits);
    };
    let mut documents = plan.clone();
    documents.policies.output_collection.artifact_globs.clear();
    let mut found = incus.collect_within(&documents, ended, staged, limits)?;
    if is_empty()? {
        return Ok(found);
    }
    match export::fetch(incus, &instance, runner, dir, staged, limits) {
        Ok((files, warnings)) => {
            found.files.extend(files);
            found.skipped.extend(warnings);
            Ok(found)
        }
        Err(ExportError::Ops(error @ OpsError::Cancelled(_))) => Err(error),
        // A runner of another version, no room for its output, a guest that has just been stopped: one by one.
        Err(_) => incus.collect_within(plan, ended, staged, limits),
    }
}

/// Gives a file its place below the artifacts, never through a link.
fn put(from: &Path, artifacts: &Path, to: &Path) -> io::Result<()> {
    let (parent, name) = beneath::split(to)?;
    let parent = beneath::walk(artifacts, parent, true)?;
    Ok(rustix::fs::renameat(rustix::fs::CWD, from, &parent, name)?)
}
