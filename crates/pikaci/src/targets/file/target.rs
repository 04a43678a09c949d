//! One target of the file.

use std::collections::BTreeMap;

use super::job;
use super::keys::{Fields, TARGET, TRIGGERS};
use super::matrix::Tally;
use super::needs;
use super::reader::{Key, Reader, Value, in_order};
use crate::operator::Operator;
use crate::targets::error::quoted;
use crate::targets::{Filters, Origin, TargetSpec, Trigger};

/// What the targets of one file know of each other.
pub(super) struct Context<'c> {
    pub(super) origin: &'c Origin,
    /// Names that are taken.
    pub(super) built_in: &'c [&'c str],
    /// Who knows the hosts; without, they are not checked.
    pub(super) operator: Option<&'c Operator>,
    /// Groups that the file declares, when it has such a table.
    pub(super) groups: Option<BTreeMap<String, usize>>,
    /// The default target so far.
    pub(super) default: Option<String>,
    /// Groups that jobs take.
    pub(super) used_groups: Vec<String>,
    /// What matrices made so far.
    pub(super) made: Tally,
    /// Secrets that the jobs of the target at hand name.
    pub(super) secrets: Vec<SecretPlace>,
}

/// A secret that a job names, and the line and column where it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretPlace {
    pub(crate) name: String,
    pub(crate) place: (usize, usize),
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
    let table = reader.table(value)?;
    let fields = Fields::read(reader, table, &TARGET, &format!("in target {}", quoted(key.name)));
    let table = fields.get("jobs").map(|value| reader.table(value));
    let written = table.flatten().map(in_order).unwrap_or_default();
    // Where a key is not understood, it may be the jobs.
    if written.is_empty() && fields.understood && table.is_none_or(|table| table.is_some()) {
        let message = format!("target {} has no jobs", quoted(key.name));
        reader.problem(key.at, message, "add a table [targets.NAME.jobs.JOB] with a `command`");
    }
    let mut jobs = Vec::new();
    for (key, value) in written {
        jobs.extend(job::read(reader, context, key, value));
    }
    needs::resolve(reader, &mut jobs);
    job::staged::check(reader, &jobs);
    let triggers = [Trigger::None, Trigger::Branch, Trigger::Nightly];
    Some(TargetSpec {
        id: key.name.to_owned(),
        title: None,
        description: fields.get("description").and_then(|value| reader.line(value)).map(str::to_owned),
        filters: fields.get("paths").map(|value| patterns(reader, value)).unwrap_or_default(),
        jobs: jobs.into_iter().flat_map(|job| job.made).map(|made| made.spec).collect(),
        default: default(reader, context, key.name, &fields),
        trigger: fields
            .get("trigger")
            .and_then(|value| reader.choose(value, &TRIGGERS, triggers))
            .unwrap_or_default(),
        concurrency_group: None,
        definition: None,
        origin: context.origin.clone(),
    })
}

/// Patterns of the one glob language, in an array.
pub(crate) fn patterns(reader: &mut Reader<'_>, value: Value<'_, '_>) -> Filters {
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

fn default(reader: &mut Reader<'_>, context: &mut Context<'_>, id: &str, fields: &Fields<'_, '_>) -> bool {
    let Some((key, value)) = fields.entry("default") else { return false };
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
