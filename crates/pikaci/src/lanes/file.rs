//! The lane file: from its text to filters, triggers and lanes of targets.

use toml::de::{DeTable, DeValue};

use super::{FILE_NAME, Lane, Lanes, is_staged};
use crate::catalog;
use crate::targets::reader::{self, Key, Reader, Value, in_order};
use crate::targets::{Filters, Origin, TargetError, TargetSpec, Trigger, nearest, patterns, quoted};

const KEYS: &[&str] = &["version", "catalog", "nightly_schedule_utc", "branch", "nightly", "manual"];
const LANE_KEYS: &[&str] = &["id", "title", "staged_linux_target", "target", "concurrency_group", "paths"];

/// Whether a lane file asks for the Pika catalog. What is wrong in it is found later.
pub(crate) fn asks_for_catalog(text: &str) -> bool {
    let table = DeTable::parse(text).ok();
    let value = table.as_ref().and_then(|table| table.get_ref().get("catalog").map(toml::Spanned::get_ref));
    matches!(value, Some(DeValue::String(name)) if name == "pika")
}

/// Which rows of a lane file count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// All of them, from the source tree: a change of the file selects the lanes of a branch.
    OfTree,
    /// All of them, from the copy that is built in.
    BuiltIn,
    /// Only those that are lanes of no forge.
    ManualOnly,
}

/// What a lane file says.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// In its order.
    pub(crate) lanes: Lanes,
    /// Ids of the targets that it says anything about.
    pub(crate) targets: Vec<String>,
}

/// Reads a lane file and gives the targets what it says about them.
///
/// # Errors
/// [`TargetError::Toml`] with everything that is wrong in it.
pub(crate) fn read(text: &str, rows: Rows, targets: &mut [TargetSpec]) -> Result<Read, TargetError> {
    reader::read(FILE_NAME, text.as_bytes(), |reader, root| {
        let mut read = Read::default();
        document(reader, &mut read, root, rows, targets);
        read
    })
}

fn document(
    reader: &mut Reader<'_>,
    read: &mut Read,
    root: &DeTable<'_>,
    rows: Rows,
    targets: &mut [TargetSpec],
) {
    let mut ids = Vec::new();
    for (key, value) in in_order(root) {
        match key.name {
            "version" => version(reader, value),
            "catalog" => {
                let _: Option<()> = reader.word(value, &[("pika", ())]);
            }
            "nightly_schedule_utc" => read.lanes.nightly_schedule_utc = time_of_day(reader, value),
            "branch" | "nightly" | "manual" => {
                let trigger = match key.name {
                    "branch" => Trigger::Branch,
                    "nightly" => Trigger::Nightly,
                    _ => Trigger::None,
                };
                if rows == Rows::ManualOnly && trigger != Trigger::None {
                    continue;
                }
                for (at, table) in tables(reader, key, value) {
                    let definition =
                        (rows == Rows::OfTree && trigger == Trigger::Branch).then_some(FILE_NAME);
                    let taken = Taken { ids: &mut ids, targets: &mut read.targets };
                    read.lanes.lanes.extend(lane(reader, taken, at, table, (trigger, definition), targets));
                }
            }
            _ => reader.unknown_key(key, "at the top of the file", KEYS),
        }
    }
}

fn version(reader: &mut Reader<'_>, value: Value<'_, '_>) {
    match reader.integer(value) {
        Some(1) | None => {}
        Some(other) => {
            let message = format!("version {other} of this file is not known");
            reader.problem(value.at, message, "write `version = 1`");
        }
    }
}

fn time_of_day(reader: &mut Reader<'_>, value: Value<'_, '_>) -> Option<String> {
    let text = reader.string(value)?;
    let number = |digits: &str| match digits.len() {
        2 if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse::<u32>().ok(),
        _ => None,
    };
    let parts = text.split_once(':').and_then(|(hours, minutes)| Some((number(hours)?, number(minutes)?)));
    match parts {
        Some((..24, ..60)) => Some(text.to_owned()),
        _ => {
            let message = format!("{} is no time of day", quoted(text));
            reader.problem(value.at, message, "write hours and minutes in UTC, such as `\"08:00\"`");
            None
        }
    }
}

/// The tables of `[[branch.lanes]]` and its like, with their places.
fn tables<'d, 'i>(
    reader: &mut Reader<'_>,
    outer: Key<'_>,
    value: Value<'d, 'i>,
) -> Vec<(usize, &'d DeTable<'i>)> {
    let mut found = Vec::new();
    for (key, value) in reader.table(value).map(in_order).unwrap_or_default() {
        if key.name != "lanes" {
            reader.unknown_key(key, &format!("in `{}`", outer.name), &["lanes"]);
            continue;
        }
        let DeValue::Array(items) = value.value else {
            let expected = format!("an array of tables, [[{}.lanes]]", outer.name);
            let _: Option<()> = reader.wrong_type(value, &expected);
            continue;
        };
        for item in items.iter() {
            let item = Value { value: item.get_ref(), key: value.key, at: item.span().start };
            found.extend(reader.table(item).map(|table| (item.at, table)));
        }
    }
    found
}

/// Lane ids and targets that a row had already.
struct Taken<'t> {
    ids: &'t mut Vec<String>,
    targets: &'t mut Vec<String>,
}

/// What a row says, each with its place.
#[derive(Default)]
struct Row<'d> {
    target: Option<(usize, &'d str)>,
    staged: bool,
    id: Option<(usize, &'d str)>,
    title: Option<(usize, &'d str)>,
    group: Option<(usize, &'d str)>,
    filters: Option<(usize, Filters)>,
}

fn lane(
    reader: &mut Reader<'_>,
    taken: Taken<'_>,
    at: usize,
    table: &DeTable<'_>,
    (trigger, definition): (Trigger, Option<&'static str>),
    targets: &mut [TargetSpec],
) -> Option<Lane> {
    let row = row(reader, at, table);
    let (place, name) = row.target?;
    let Some(index) = targets.iter().position(|target| target.id == name) else {
        unknown_target(reader, place, name, targets);
        return None;
    };
    let own_id = row.id.is_none_or(|(_, id)| id == name);
    let is_other = |id: &str| targets.iter().any(|target| target.id == id);
    if let Some((at, id)) = row.id.filter(|(_, id)| !own_id && is_other(id)) {
        let message = format!("{} is the name of another target", quoted(id));
        reader.problem(at, message, "a lane is called as its target, or as none");
        return None;
    }
    let target = &mut targets[index];
    if taken.targets.iter().any(|taken| taken == name) {
        reader.problem(place, format!("target {} has a lane already", quoted(name)), "keep one of them");
        return None;
    }
    taken.targets.push(name.to_owned());
    if row.staged && !is_staged(target) {
        let message = format!("target {} has no prepared outputs", quoted(name));
        reader.problem(place, message, format!("write `target = \"{name}\"`"));
    }
    settle_trigger(reader, place, target, trigger);
    match target.origin {
        Origin::Catalog => {
            let id = target.id.clone();
            agree(reader, "id", row.id, Some(&id));
            agree(reader, "title", row.title, target.title.as_deref());
            agree(reader, "concurrency_group", row.group, target.concurrency_group.as_deref());
        }
        Origin::BuiltIn | Origin::File(_) => {
            if let Some((_, title)) = row.title {
                target.title = Some(title.to_owned());
            }
            if let Some((_, group)) = row.group {
                target.concurrency_group = Some(group.to_owned());
            }
        }
    }
    match row.filters {
        Some((at, _)) if !target.filters.is_empty() => {
            let message = format!("target {} has `paths` of its own in jericho.toml", quoted(name));
            reader.problem(at, message, "write them in one of the two files");
        }
        Some((_, filters)) => target.filters = filters,
        None => {}
    }
    target.definition = definition;
    let (at, id) = row.id.unwrap_or((place, name));
    if !reader.name(Key { name: id, at }, "lane") {
        return None;
    }
    if taken.ids.iter().any(|taken| taken == id) {
        reader.problem(at, format!("a lane is called {} already", quoted(id)), "give it another `id`");
        return None;
    }
    taken.ids.push(id.to_owned());
    Lane::of(target, id)
}

fn row<'d>(reader: &mut Reader<'_>, at: usize, table: &'d DeTable<'_>) -> Row<'d> {
    let mut row = Row::default();
    let mut understood = true;
    for (key, value) in in_order(table) {
        match key.name {
            "target" | "staged_linux_target" => {
                let name = reader.line(value).map(|name| (value.at, name));
                if row.target.is_some() {
                    let message = "a lane has `target` or `staged_linux_target`, not both";
                    reader.problem(key.at, message, "keep one of them");
                    continue;
                }
                understood &= name.is_some();
                row.target = name;
                row.staged = key.name == "staged_linux_target";
            }
            "id" => row.id = reader.line(value).map(|text| (value.at, text)),
            "title" => row.title = reader.line(value).map(|text| (value.at, text)),
            "concurrency_group" => row.group = reader.line(value).map(|text| (value.at, text)),
            "paths" => row.filters = Some((value.at, patterns(reader, value))),
            _ => {
                understood = false;
                reader.unknown_key(key, "in a lane", LANE_KEYS);
            }
        }
    }
    if row.target.is_none() && understood {
        reader.problem(at, "a lane without a target", "add `target` or `staged_linux_target`");
    }
    if row.filters.is_none() && understood {
        reader.problem(at, "a lane without `paths`", "write `paths = []` for one that always runs");
    }
    row
}

fn unknown_target(reader: &mut Reader<'_>, at: usize, name: &str, targets: &[TargetSpec]) {
    let in_catalog = !targets.iter().any(|target| target.origin == Origin::Catalog)
        && catalog::targets().iter().any(|target| target.id == name);
    let help = match nearest(name, targets.iter().map(|target| target.id.as_str())) {
        _ if in_catalog => "it is one of Pika's: add `catalog = \"pika\"` at the top of the file".to_owned(),
        Some(nearest) => format!("did you mean {}?", quoted(nearest)),
        None => "declare it in jericho.toml".to_owned(),
    };
    reader.problem(at, format!("no target is called {}", quoted(name)), help);
}

/// Where both the lane file and the target say when a forge runs it, they must say the same.
fn settle_trigger(reader: &mut Reader<'_>, at: usize, target: &mut TargetSpec, trigger: Trigger) {
    let free = target.origin != Origin::Catalog && target.trigger == Trigger::None;
    if free {
        target.trigger = trigger;
    } else if target.trigger != trigger {
        let (says, name) = (section(target.trigger), quoted(&target.id));
        let message = format!("target {name} is not run by {}", runner(trigger));
        reader.problem(at, message, format!("move the lane to [[{says}.lanes]]"));
    }
}

const fn section(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::None => "manual",
        Trigger::Branch => "branch",
        Trigger::Nightly => "nightly",
    }
}

const fn runner(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::None => "hand only",
        Trigger::Branch => "a forge for a branch",
        Trigger::Nightly => "a forge every night",
    }
}

/// Reports what the lane file says otherwise than the catalog.
fn agree(reader: &mut Reader<'_>, key: &str, said: Option<(usize, &str)>, known: Option<&str>) {
    let Some((at, said)) = said.filter(|(_, said)| *said != known.unwrap_or_default()) else { return };
    let known = known.map_or_else(|| "none".to_owned(), quoted);
    let message = format!("`{key}` is {}, and the catalog says {known}", quoted(said));
    reader.problem(at, message, "leave it out");
}

#[cfg(test)]
mod tests;
