//! The matrix of a job: one copy of its table for each combination of values, with `${name}`
//! filled in.
//!
//! Copies keep the places of the original, so that what is wrong in one is told where it was
//! written.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::reader::{Key, Reader, Value, in_order};
use super::references::{self, Names};
use crate::targets::error::quoted;

/// Jobs that one matrix may make, at most.
pub(super) const MOST_JOBS: usize = 256;
/// Jobs that all matrices of one file may make, at most.
pub(super) const MOST_JOBS_OF_FILE: usize = 1024;

/// Bytes of text that all matrices of one file may make, at most. A value that stands for itself
/// many times over, in many jobs, must not fill the memory.
const MOST_TEXT: usize = 16 << 20;

/// What the matrices of one file made so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    jobs: usize,
    text: usize,
}

/// What the command finds each value under, before the name.
const VARIABLE: &str = "JERICHO_MATRIX_";

/// One combination.
#[derive(Debug)]
pub(super) struct Combination<'i> {
    /// Name and value of each dimension, in the order of the file.
    pub(super) values: Vec<(String, String)>,
    /// The table of the job with the values filled in.
    pub(super) table: DeTable<'i>,
}

impl Combination<'_> {
    /// Name and value of each variable that tells the command about it.
    pub(super) fn variables(&self) -> impl Iterator<Item = (String, &str)> {
        self.values.iter().map(|(name, value)| (variable(name), value.as_str()))
    }

    /// The values as part of a line for people.
    pub(super) fn described(&self) -> String {
        let words: Vec<String> = self.values.iter().map(|(name, value)| format!("{name}={value}")).collect();
        words.join(", ")
    }
}

/// What the matrix of a job makes of it.
#[derive(Debug)]
pub(super) enum Expanded<'i> {
    /// There is none.
    Single,
    /// There is one that is wrong; it was reported.
    Broken,
    /// One or more.
    Jobs(Vec<Combination<'i>>),
}

/// Makes the combinations of a job. The last dimension changes fastest. `made` counts what
/// those of the file make.
pub(super) fn expand<'i>(reader: &mut Reader<'_>, table: &DeTable<'i>, made: &mut Tally) -> Expanded<'i> {
    let Some((key, value)) = in_order(table).into_iter().find(|(key, _)| key.name == "matrix") else {
        return Expanded::Single;
    };
    let Some(dimensions) = dimensions(reader, key, value) else { return Expanded::Broken };
    let count = dimensions.iter().fold(1_usize, |count, (_, values)| count.saturating_mul(values.len()));
    if count > MOST_JOBS {
        let message = format!("the matrix makes {count} jobs");
        reader.problem(key.at, message, format!("a matrix makes {MOST_JOBS} jobs at most"));
        return Expanded::Broken;
    }
    made.jobs = made.jobs.saturating_add(count);
    if made.jobs > MOST_JOBS_OF_FILE {
        let message = format!("the matrices of the file make more than {MOST_JOBS_OF_FILE} jobs");
        reader.problem(key.at, message, "leave some combinations out");
        return Expanded::Broken;
    }
    let widest: Vec<(&str, usize)> = dimensions
        .iter()
        .map(|(name, values)| (*name, values.iter().map(|value| value.len()).max().unwrap_or(0)))
        .collect();
    made.text = made.text.saturating_add(references::size(table, &widest).saturating_mul(count));
    if made.text > MOST_TEXT {
        let message = format!("the matrices of the file make more than {} MiB of text", MOST_TEXT >> 20);
        reader.problem(key.at, message, "let the job call a script that reads the variables");
        return Expanded::Broken;
    }
    let names = Names {
        matrix: dimensions.iter().map(|(name, _)| *name).collect(),
        variables: dimensions.iter().map(|(name, _)| variable(name)).chain(declared(table)).collect(),
    };
    references::check(reader, table, &names);
    let jobs = (0..count).map(|index| combination(table, &dimensions, index)).collect();
    Expanded::Jobs(jobs)
}

/// The dimensions, each with its values; nothing when one of them is wrong.
fn dimensions<'d>(
    reader: &mut Reader<'_>,
    key: Key<'d>,
    value: Value<'d, '_>,
) -> Option<Vec<(&'d str, Vec<&'d str>)>> {
    let mut ok = true;
    let mut dimensions: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut variables: BTreeMap<String, &str> = BTreeMap::new();
    let table = reader.table(value)?;
    if table.is_empty() {
        reader.problem(
            key.at,
            "the matrix has no names",
            "write `matrix = { name = [\"value\", \"other\"] }`",
        );
        return None;
    }
    for (key, value) in in_order(table) {
        ok &= reader.name(key, "dimension of a matrix");
        if let Some(other) = variables.insert(variable(key.name), key.name) {
            let message = format!("{} and {} are the same variable", quoted(other), quoted(key.name));
            reader.problem(key.at, message, format!("both would be `{}`", variable(key.name)));
            ok = false;
        }
        let values = values(reader, key, value);
        ok &= values.is_some();
        dimensions.push((key.name, values.unwrap_or_default()));
    }
    ok.then_some(dimensions)
}

fn values<'d>(reader: &mut Reader<'_>, key: Key<'_>, value: Value<'d, '_>) -> Option<Vec<&'d str>> {
    let DeValue::Array(array) = value.value else {
        return reader.wrong_type(value, "an array of strings");
    };
    if array.is_empty() {
        let message = format!("the matrix has no value for {}", quoted(key.name));
        reader.problem(value.at, message, "write at least one, or leave the name out");
        return None;
    }
    let mut seen = BTreeSet::new();
    let mut ok = true;
    for item in array {
        let item = Value { value: item.get_ref(), key: key.name, at: item.span().start };
        let Some(text) = reader.line(item) else {
            ok = false;
            continue;
        };
        if !seen.insert(text) {
            let message = format!("the matrix has {} twice for {}", quoted(text), quoted(key.name));
            reader.problem(item.at, message, "leave one out");
            ok = false;
        }
    }
    ok.then(|| array.iter().filter_map(|item| item.get_ref().as_str()).collect())
}

/// `JERICHO_MATRIX_<NAME>`: upper case, and `_` for what a variable cannot have.
fn variable(name: &str) -> String {
    let upper = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    VARIABLE.chars().chain(upper).collect()
}

/// Variables that the job declares.
fn declared(table: &DeTable<'_>) -> impl Iterator<Item = String> {
    let env = table.get("env").and_then(|env| env.get_ref().as_table());
    env.into_iter().flat_map(|env| env.keys().map(|name| name.get_ref().to_string()))
}

fn combination<'i>(table: &DeTable<'i>, dimensions: &[(&str, Vec<&str>)], index: usize) -> Combination<'i> {
    let mut rest = index;
    let mut values: Vec<(String, String)> = Vec::with_capacity(dimensions.len());
    for (name, choices) in dimensions.iter().rev() {
        let value = choices.get(rest % choices.len()).copied().unwrap_or_default();
        values.push(((*name).to_owned(), value.to_owned()));
        rest /= choices.len();
    }
    values.reverse();
    let table = table
        .iter()
        .map(|(key, value)| {
            let filled = match key.get_ref().as_ref() {
                "matrix" => value.get_ref().clone(),
                _ => fill_value(value.get_ref(), &values),
            };
            (key.clone(), Spanned::new(value.span(), filled))
        })
        .collect();
    Combination { values, table }
}

/// A copy with the values in every string and in every key below it.
fn fill_value<'i>(value: &DeValue<'i>, values: &[(String, String)]) -> DeValue<'i> {
    match value {
        DeValue::String(text) => match references::fill(text, values) {
            Some(filled) => DeValue::String(filled.into()),
            None => value.clone(),
        },
        DeValue::Array(array) => DeValue::Array(
            array.iter().map(|item| Spanned::new(item.span(), fill_value(item.get_ref(), values))).collect(),
        ),
        DeValue::Table(table) => DeValue::Table(
            table
                .iter()
                .map(|(key, value)| {
                    let name = match references::fill(key.get_ref(), values) {
                        Some(filled) => Spanned::new(key.span(), filled.into()),
                        None => key.clone(),
                    };
                    (name, Spanned::new(value.span(), fill_value(value.get_ref(), values)))
                })
                .collect(),
        ),
        other => other.clone(),
    }
}
