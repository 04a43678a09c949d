//! What differs between two runs: source, definitions, settings, versions, verdicts, durations.
//!
//! ```json
//! { "schema_version": 1, "a": { "run_id": "20260401T120000Z-0a1b2c3d", "verdict": "passed" },
//!   "b": { "run_id": "20260401T130000Z-4d5e6f70", "verdict": "failed" },
//!   "source": { "same": false, "files": [ { "path": "src/a.rs", "change": "changed" } ] },
//!   "definitions": [ { "job": "test", "change": "changed",
//!                      "fields": [ { "name": "timeout_secs", "a": 300, "b": 600 } ] } ],
//!   "settings": [], "versions": [],
//!   "jobs": [ { "id": "test", "a": { "verdict": "passed", "duration_ms": 410 },
//!               "b": { "verdict": "failed", "duration_ms": 390 } } ] }
//! ```

mod source;
mod text;

use std::collections::BTreeMap;

use jerichoci::model::job::JobSpec;
use jerichoci::model::record::{BaseRecord, JobRecord, RunRecord};
use serde::Serialize;
use serde_json::Value;

pub(crate) use text::text;

use super::recorded::Recorded;
use super::spans::word_of;

/// Version of the document.
const SCHEMA_VERSION: u32 = 1;

/// What differs; equal parts are empty.
#[derive(Debug, Serialize)]
pub(crate) struct RunDiff<'a> {
    schema_version: u32,
    a: Side<'a>,
    b: Side<'a>,
    source: source::SourceDiff,
    definitions: Vec<JobDiff>,
    /// Settings in force, and how the run was asked to go about it.
    settings: Vec<FieldDiff>,
    versions: Vec<FieldDiff>,
    /// All jobs of both, those of A in their order first.
    jobs: Vec<Outcomes<'a>>,
}

/// One of the two runs.
#[derive(Debug, Serialize)]
struct Side<'a> {
    run_id: &'a str,
    target_id: Option<&'a str>,
    /// The word for people.
    verdict: &'static str,
    created_at: String,
    duration_ms: Option<u64>,
    git_head: Option<&'a str>,
    git_dirty: Option<bool>,
    base: Option<&'a BaseRecord>,
    snapshot_hash: Option<&'a str>,
}

/// A job whose definition differs.
#[derive(Debug, Serialize)]
struct JobDiff {
    job: String,
    change: Change,
    /// Of a job that both have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<FieldDiff>,
}

/// How B differs from A in one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Change {
    Added,
    Removed,
    Changed,
}

/// A value that differs. Null is one that is not there.
#[derive(Debug, PartialEq, Serialize)]
struct FieldDiff {
    /// With dots where it lies deeper.
    name: String,
    a: Value,
    b: Value,
}

/// How a job ended in each.
#[derive(Debug, Serialize)]
struct Outcomes<'a> {
    id: &'a str,
    a: Option<Outcome>,
    b: Option<Outcome>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Outcome {
    verdict: &'static str,
    duration_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// Compares.
pub(crate) fn diff<'a>(a: &'a Recorded, b: &'a Recorded) -> RunDiff<'a> {
    RunDiff {
        schema_version: SCHEMA_VERSION,
        a: side(&a.run),
        b: side(&b.run),
        source: source::diff(a, b),
        definitions: definitions(a, b),
        settings: settings(a, b),
        versions: fields(&versions(&a.run), &versions(&b.run)),
        jobs: outcomes(&a.run, &b.run),
    }
}

fn side(run: &RunRecord) -> Side<'_> {
    Side {
        run_id: &run.run_id,
        target_id: run.target_id.as_deref(),
        verdict: run.verdict.word(),
        created_at: run.created_at.to_rfc3339(),
        duration_ms: run.duration_ms,
        git_head: run.git_head.as_deref(),
        git_dirty: run.git_dirty,
        base: run.base.as_ref(),
        snapshot_hash: run.snapshot_hash.as_deref(),
    }
}

fn definitions(a: &Recorded, b: &Recorded) -> Vec<JobDiff> {
    let jobs = |recorded: &Recorded| -> Vec<JobSpec> {
        recorded.spec.as_ref().map(|spec| spec.jobs.clone()).unwrap_or_default()
    };
    let (old, new) = (jobs(a), jobs(b));
    let mut found = Vec::new();
    for job in &old {
        let (change, fields) = match new.iter().find(|other| other.id == job.id) {
            None => (Change::Removed, Vec::new()),
            Some(other) if other == job => continue,
            Some(other) => (Change::Changed, fields(&flat(job), &flat(other))),
        };
        found.push(JobDiff { job: job.id.clone(), change, fields });
    }
    for job in new.iter().filter(|job| !old.iter().any(|other| other.id == job.id)) {
        found.push(JobDiff { job: job.id.clone(), change: Change::Added, fields: Vec::new() });
    }
    found
}

fn settings(a: &Recorded, b: &Recorded) -> Vec<FieldDiff> {
    let all = |recorded: &Recorded| {
        let run = &recorded.run;
        let mut all: BTreeMap<String, Value> = run
            .settings
            .iter()
            .map(|setting| (setting.name.clone(), format!("{} ({})", setting.value, setting.origin).into()))
            .collect();
        all.insert("path filters".to_owned(), run.filters.clone().into());
        if let Some(spec) = &recorded.spec {
            all.extend(
                flat(&spec.options).into_iter().map(|(name, value)| (format!("options.{name}"), value)),
            );
        }
        all
    };
    fields(&all(a), &all(b))
}

fn versions(run: &RunRecord) -> BTreeMap<String, Value> {
    let mut versions: BTreeMap<String, Value> = BTreeMap::new();
    versions.extend(run.engine_version.clone().map(|version| ("engine".to_owned(), version.into())));
    for job in &run.jobs {
        let image = job.remote_linux_vm_execution.as_ref().and_then(|guest| guest.incus_image.as_ref());
        if let Some(image) = image {
            let fingerprint = image.fingerprint.as_deref().unwrap_or("fingerprint not known");
            let text = format!("{} ({fingerprint})", image.alias);
            versions.insert(format!("image of {}", job.id), text.into());
        }
    }
    versions
}

fn outcomes<'a>(a: &'a RunRecord, b: &'a RunRecord) -> Vec<Outcomes<'a>> {
    let of = |run: &RunRecord, id: &str| run.jobs.iter().find(|job| job.id == id).map(outcome);
    let only_in_b = b.jobs.iter().filter(|job| !a.jobs.iter().any(|other| other.id == job.id));
    let ids = a.jobs.iter().chain(only_in_b).map(|job| job.id.as_str());
    ids.map(|id| Outcomes { id, a: of(a, id), b: of(b, id) }).collect()
}

fn outcome(job: &JobRecord) -> Outcome {
    Outcome {
        verdict: word_of(job),
        duration_ms: job.duration_ms,
        exit_code: job.exit_code,
        message: job.message.clone(),
    }
}

/// A document as names with dots and values that have no parts. Lists are values.
fn flat<T: Serialize>(document: &T) -> BTreeMap<String, Value> {
    fn walk(prefix: &str, value: Value, flat: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(parts) => {
                for (name, part) in parts {
                    let name = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
                    walk(&name, part, flat);
                }
            }
            other => {
                flat.insert(prefix.to_owned(), other);
            }
        }
    }
    let mut found = BTreeMap::new();
    // What is compared are records, which are JSON.
    walk("", serde_json::to_value(document).unwrap_or_default(), &mut found);
    found
}

fn fields(a: &BTreeMap<String, Value>, b: &BTreeMap<String, Value>) -> Vec<FieldDiff> {
    let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let value = |side: &BTreeMap<String, Value>, name: &String| side.get(name).cloned().unwrap_or_default();
    names
        .into_iter()
        .map(|name| FieldDiff { name: name.clone(), a: value(a, name), b: value(b, name) })
        .filter(|field| field.a != field.b)
        .collect()
}
