//! One target of the file.

use std::collections::BTreeMap;

use super::super::error::quoted;
use super::super::{Filters, Origin, TargetSpec, Trigger};
use super::reader::{Key, Reader, Value, in_order};
use super::{job, needs};

const KEYS: &[&str] = &["description", "paths", "trigger", "default", "jobs"];

/// What the targets of one file know of each other.
pub(super) struct Context<'c> {
    pub(super) origin: &'c Origin,
    /// Names that are taken.
    pub(super) built_in: &'c [&'c str],
    /// Groups that the file declares, when it has such a table.
    pub(super) groups: Option<BTreeMap<String, usize>>,
    /// The default target so far.
    pub(super) default: Option<String>,
    /// Groups that jobs take.
    pub(super) used_groups: Vec<String>,
}

/// Reads a target. `None` only when nothing can be made of it; then a problem was reported.
pub(super) fn read(
    reader: &mut Reader<'_>,
    context: &mut Context<'_>,
    key: Key<'_>,
    value: Value<'_, '_>,
) -> Option<TargetSpec> {
    reader.name(key, "target");
    if context.built_in.contains(&key.name) {
        reader.problem(key.at, format!("target {} is built in", quoted(key.name)), "choose another name");
    }
    let mut spec = TargetSpec {
        id: key.name.to_owned(),
        title: None,
        description: None,
        filters: Filters::default(),
        jobs: Vec::new(),
        default: false,
        trigger: Trigger::None,
        concurrency_group: None,
        definition: None,
        origin: context.origin.clone(),
    };
    let mut jobs = Vec::new();
    let mut has_jobs = false;
    let mut understood = true;
    for (key, value) in in_order(reader.table(value)?) {
        match key.name {
            "description" => spec.description = reader.line(value).map(str::to_owned),
            "paths" => spec.filters = paths(reader, value),
            "trigger" => spec.trigger = trigger(reader, value).unwrap_or_default(),
            "default" => spec.default = default(reader, context, &spec.id, key, value),
            "jobs" => {
                let table = reader.table(value);
                has_jobs = table.is_none_or(|table| !table.is_empty());
                for (key, value) in table.map(in_order).unwrap_or_default() {
                    jobs.extend(job::read(reader, context, key, value));
                }
            }
            _ => {
                understood = false;
                reader.unknown_key(key, &format!("in target {}", quoted(&spec.id)), KEYS);
            }
        }
    }
    // Where a key is not understood, it may be the jobs.
    if !has_jobs && understood {
        let message = format!("target {} has no jobs", quoted(&spec.id));
        reader.problem(key.at, message, "add a table [targets.NAME.jobs.JOB] with a `command`");
    }
    needs::check(reader, &jobs);
    spec.jobs = jobs.into_iter().map(|job| job.spec).collect();
    Some(spec)
}

/// Path filters; what cannot match is reported.
pub(crate) fn paths(reader: &mut Reader<'_>, value: Value<'_, '_>) -> Filters {
    let patterns = reader.strings(value);
    Filters::new(patterns.iter().map(|(text, _)| *text)).unwrap_or_else(|errors| {
        for (index, error) in errors {
            let (text, value) = patterns[index];
            let help = error.help(text).unwrap_or_default();
            reader.problem(value.at, format!("the pattern {} cannot match: {error}", quoted(text)), help);
        }
        Filters::default()
    })
}

fn trigger(reader: &mut Reader<'_>, value: Value<'_, '_>) -> Option<Trigger> {
    let words = [("none", Trigger::None), ("branch", Trigger::Branch), ("nightly", Trigger::Nightly)];
    reader.word(value, &words)
}

fn default(
    reader: &mut Reader<'_>,
    context: &mut Context<'_>,
    id: &str,
    key: Key<'_>,
    value: Value<'_, '_>,
) -> bool {
    if reader.boolean(value) != Some(true) {
        return false;
    }
    if let Some(first) = &context.default {
        let message = format!("target {} is a second default, after {}", quoted(id), quoted(first));
        reader.problem(key.at, message, "keep one of them");
    } else {
        context.default = Some(id.to_owned());
    }
    true
}
