//! One job of a target: what was written once, and the jobs that its matrix makes of it.

mod command;
mod demands;
mod place;
pub(super) mod staged;

use std::collections::BTreeMap;

use jerichoci::executor::process::JOB_TAG;
use jerichoci::model::id::check_name;
use jerichoci::model::job::{GuestCommand, JobSpec};
use toml::de::{DeTable, DeValue};

use super::duration;
use super::keys::{Fields, JOB, MOST_RETRIES};
use super::matrix::{self, Combination, Expanded};
use super::reader::{Key, Reader, Value, in_order};
use super::target::Context;
use crate::targets::error::quoted;

pub(crate) use place::LOCAL;

/// A job as it was written.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: String,
    /// Where its name stands.
    pub(super) at: usize,
    /// The jobs it stands for: one, or one for each combination of its matrix.
    pub(super) made: Vec<Made>,
}

/// One job that runs.
#[derive(Debug)]
pub(super) struct Made {
    /// Without its needs.
    pub(super) spec: JobSpec,
    /// What it needs, as it is written, and where.
    pub(super) needs: Vec<(String, usize)>,
    /// Where its prepared outputs stand.
    pub(super) staged_at: usize,
}

/// Reads a job. `None` only when nothing can be made of it; then a problem was reported. A job
/// with problems is still one that others can need.
pub(super) fn read(
    reader: &mut Reader<'_>,
    context: &mut Context<'_>,
    key: Key<'_>,
    value: Value<'_, '_>,
) -> Option<Job> {
    reader.name(key, "job");
    let table = reader.table(value)?;
    let made = match matrix::expand(reader, table, &mut context.made) {
        Expanded::Single | Expanded::Broken => vec![one(reader, context, key, table)],
        Expanded::Jobs(combinations) => combinations
            .iter()
            .zip(1..)
            .map(|(combination, number)| of_matrix(reader, context, key, combination, number))
            .collect(),
    };
    Some(Job { id: key.name.to_owned(), at: key.at, made })
}

/// The job of one combination, the `number`th.
fn of_matrix(
    reader: &mut Reader<'_>,
    context: &mut Context<'_>,
    key: Key<'_>,
    combination: &Combination<'_>,
    number: usize,
) -> Made {
    let mut made = one(reader, context, key, &combination.table);
    made.spec.id = format!("{}.{number}", key.name);
    if check_name(key.name).is_ok() && check_name(&made.spec.id).is_err() {
        let message = format!("{} is too long for a job with a matrix", quoted(key.name));
        reader.problem(key.at, message, "its number comes behind it, and a name has at most 200 letters");
    }
    made.spec.description = format!("{} ({})", made.spec.description, combination.described());
    made.spec.matrix = combination.values.iter().cloned().collect();
    for (name, value) in combination.variables() {
        if made.spec.env.contains_key(&name) {
            let message = format!("`env` has {}, which the matrix sets", quoted(&name));
            reader.problem(key.at, message, "leave it out of `env`");
        }
        made.spec.env.insert(name, value.to_owned());
    }
    made
}

fn one(reader: &mut Reader<'_>, context: &mut Context<'_>, key: Key<'_>, table: &DeTable<'_>) -> Made {
    let fields = Fields::read(reader, table, &JOB, &format!("in job {}", quoted(key.name)));
    fields.required(reader, key, "job");
    let mut spec = JobSpec::host_process(key.name, GuestCommand::Argv { argv: Vec::new() });
    if let Some(text) = fields.get("description").and_then(|value| reader.line(value)) {
        text.clone_into(&mut spec.description);
    }
    if let Some(secs) = fields.get("timeout").and_then(|value| timeout(reader, value)) {
        spec.timeout_secs = secs;
    }
    if let Some(value) = fields.get("retries") {
        spec.retries = reader.whole(value, 0, MOST_RETRIES).unwrap_or_default();
    }
    if let Some(value) = fields.get("env") {
        spec.env = env(reader, value);
    }
    spec.groups.extend(fields.get("group").and_then(|value| group(reader, context, value)));
    let runtime = place::read(reader, context, &fields, &mut spec);
    command::read(reader, &fields, &mut spec);
    demands::read(reader, context, &fields, runtime, &mut spec);
    let needs = fields.get("needs").map(|value| reader.strings(value)).unwrap_or_default();
    Made {
        spec,
        needs: needs.into_iter().map(|(need, value)| (need.to_owned(), value.at)).collect(),
        staged_at: fields.entry("staged").map_or(key.at, |(key, _)| key.at),
    }
}

fn timeout(reader: &mut Reader<'_>, value: Value<'_, '_>) -> Option<u64> {
    const HELP: &str = "write whole hours, minutes and seconds, such as `\"90s\"`, `\"5m\"`, `\"1h30m\"`";
    if let DeValue::Integer(integer) = value.value {
        let message = format!("expected a duration with its unit, found the integer {integer}");
        reader.problem(value.at, message, HELP);
        return None;
    }
    let text = reader.string(value)?;
    duration::seconds(text)
        .map_err(|why| reader.problem(value.at, format!("{} {why}", quoted(text)), HELP))
        .ok()
}

fn env(reader: &mut Reader<'_>, value: Value<'_, '_>) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for (key, value) in reader.table(value).map(in_order).unwrap_or_default() {
        if key.name.is_empty() || key.name.contains(['=', '\0']) {
            let message = format!("{} cannot be the name of a variable", quoted(key.name));
            reader.problem(key.at, message, "a name has no `=` and at least one letter");
        }
        // By it, leftovers of the job are found.
        if key.name == JOB_TAG {
            reader.problem(key.at, format!("`{JOB_TAG}` is set by Jericho CI for each job"), "leave it out");
        }
        if let Some(text) = reader.argument(value) {
            variables.insert(key.name.to_owned(), text.to_owned());
        }
    }
    variables
}

fn group(reader: &mut Reader<'_>, context: &mut Context<'_>, value: Value<'_, '_>) -> Option<String> {
    let name = reader.string(value)?;
    if !reader.name(Key { name, at: value.at }, "group") {
        return None;
    }
    if let Some(groups) = context.groups.as_ref().filter(|groups| !groups.contains_key(name)) {
        let help = reader
            .suggestion(name, groups.keys().map(String::as_str))
            .unwrap_or_else(|| format!("add `{name} = 1` there"));
        reader.problem(value.at, format!("group `{name}` is not in [groups]"), help);
    }
    context.used_groups.push(name.to_owned());
    Some(name.to_owned())
}
