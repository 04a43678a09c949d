//! `jericho.toml` → [`TargetSpec`]s. Every key is known, known to come later, or an error; every
//! error has its place in the file, and all of them are told at once.

mod graph;
mod job;
mod keys;
mod reader;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use ::toml::de::{DeTable, DeValue};
use jerichoci::model::id::check_name;

use super::builtin;
use super::document::{Problem, TargetError};
use super::filter::Filters;
use super::spec::{Origin, TargetSpec, Trigger};
use reader::{Entry, Reader, Value, entries};

/// What a `jericho.toml` says.
#[derive(Debug, Clone, Default)]
pub struct Declared {
    /// Its targets, in the order of the file.
    pub targets: Vec<TargetSpec>,
    /// Places of named resource groups.
    pub group_widths: BTreeMap<String, usize>,
}

/// Reads the bytes of a `jericho.toml`. `path` is what errors call it.
///
/// # Errors
/// [`TargetError::Invalid`] with every problem, in the order of the file.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Declared, TargetError> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let good = error.valid_up_to();
            let text = String::from_utf8_lossy(bytes);
            let problem = Problem::new(path, &text, good..good + 1, "is not UTF-8".to_owned());
            return Err(TargetError::Invalid(vec![problem]));
        }
    };
    let mut reader = Reader::default();
    let mut declared = Declared::default();
    match DeTable::parse(text) {
        Ok(document) => declared = read_document(&mut reader, document.get_ref()),
        Err(error) => {
            let span = error.span().unwrap_or(0..0);
            reader.problem(span, format!("not TOML: {}", error.message().trim().replace('\n', "; ")));
        }
    }
    for target in &mut declared.targets {
        target.origin = Origin::File(path.to_path_buf());
    }
    let mut problems = reader.into_problems();
    if problems.is_empty() {
        return Ok(declared);
    }
    problems.sort_by_key(|(span, _)| span.start);
    let located = |(span, message)| Problem::new(path, text, span, message);
    Err(TargetError::Invalid(problems.into_iter().map(located).collect()))
}

fn read_document(reader: &mut Reader, document: &DeTable<'_>) -> Declared {
    let mut targets = Vec::new();
    let mut group_widths = BTreeMap::new();
    for entry in entries(document) {
        match entry.name() {
            "version" => read_version(reader, entry),
            "targets" => {
                for target in reader.table(entry.1, "`targets`").into_iter().flat_map(entries) {
                    targets.push((target.0.span(), read_target(reader, target)));
                }
            }
            "groups" => group_widths = read_groups(reader, entry.1),
            _ => reader.unknown_key(entry, "jericho.toml", &keys::TOP),
        }
    }
    check_defaults(reader, &targets);
    Declared { targets: targets.into_iter().map(|(_, target)| target).collect(), group_widths }
}

fn read_version(reader: &mut Reader, entry: Entry<'_, '_>) {
    match entry.1.get_ref() {
        DeValue::Integer(number) if number.radix() == 10 && number.as_str() == "1" => {}
        other => reader.problem(
            entry.1.span(),
            format!("`version` is {}; this version of pikaci reads 1", reader::describe(other)),
        ),
    }
}

fn read_groups(reader: &mut Reader, value: &Value<'_>) -> BTreeMap<String, usize> {
    let mut groups = BTreeMap::new();
    for entry in reader.table(value, "`groups`").into_iter().flat_map(entries) {
        check_id(reader, entry, "group");
        let width = match entry.1.get_ref() {
            DeValue::Integer(number) => usize::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        match width.filter(|width| *width > 0) {
            Some(width) => {
                groups.insert(entry.name().to_owned(), width);
            }
            None => reader.problem(
                entry.1.span(),
                format!("the width of group `{}` must be a whole number from 1", entry.shown()),
            ),
        }
    }
    groups
}

fn read_target(reader: &mut Reader, entry: Entry<'_, '_>) -> TargetSpec {
    let what = format!("target `{}`", entry.shown());
    check_id(reader, entry, "target");
    if entry.name() == builtin::SMOKE {
        reader.problem(entry.0.span(), format!("{what} is built in: choose another name"));
    }
    let mut target = TargetSpec { id: entry.name().to_owned(), ..TargetSpec::default() };
    let Some(table) = reader.table(entry.1, &what) else { return target };
    let mut has_jobs = false;
    for entry in entries(table) {
        let of = format!("`{}` of {what}", entry.shown());
        match entry.name() {
            "description" => target.description = reader.line(entry.1, &of),
            "paths" => target.filters = read_paths(reader, entry.1, &of),
            "default" => match entry.1.get_ref().as_bool() {
                Some(value) => target.default = value,
                None => reader.wrong_type(entry.1, &of, "true or false"),
            },
            "trigger" => {
                if let Some(trigger) = reader.word(entry.1, &of, &Trigger::WORDS) {
                    target.trigger = trigger;
                }
            }
            "jobs" => {
                let jobs = reader.table(entry.1, &of).map(entries).unwrap_or_default();
                has_jobs |= !jobs.is_empty() || !entry.1.get_ref().is_table();
                target.jobs = job::read_jobs(reader, jobs);
            }
            _ => reader.unknown_key(entry, &what, &keys::TARGET),
        }
    }
    if !has_jobs {
        let hint = format!("write [targets.{}.jobs.NAME] with a command", entry.shown());
        reader.problem(entry.0.span(), format!("{what} has no job: {hint}"));
    }
    target
}

fn read_paths(reader: &mut Reader, value: &Value<'_>, of: &str) -> Filters {
    let Some(patterns) = reader.strings(value, of) else { return Filters::default() };
    let texts: Vec<&str> = patterns.iter().map(|(_, text)| text.as_str()).collect();
    match Filters::new(&texts) {
        Ok(filters) => filters,
        Err(error) => {
            let span: Range<usize> = patterns[error.index].0.clone();
            reader.problem(span, error.to_string());
            Filters::default()
        }
    }
}

fn check_defaults(reader: &mut Reader, targets: &[(Range<usize>, TargetSpec)]) {
    let mut defaults = targets.iter().filter(|(_, target)| target.default);
    let Some((_, first)) = defaults.next() else { return };
    for (span, target) in defaults {
        let message = format!(
            "target `{}` is a second default: `{}` is the first",
            target.id.escape_debug(),
            first.id.escape_debug()
        );
        reader.problem(span.clone(), message);
    }
}

fn check_id(reader: &mut Reader, entry: Entry<'_, '_>, what: &str) {
    if check_name(entry.name()).is_err() {
        let rule = "a name starts with a letter or digit, has only letters, digits, `.`, `_`, `-`, and at most 200 of them";
        reader.problem(entry.0.span(), format!("`{}` cannot name a {what}: {rule}", entry.shown()));
    }
}
