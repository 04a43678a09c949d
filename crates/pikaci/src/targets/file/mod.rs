//! `jericho.toml`: from bytes to targets, with the place of everything that is wrong.
//!
//! ```text
//! open (bytes) ─▶ reader (types, places), keys (names) ─▶ matrix (copies) ─▶ target, job (meaning) ─▶ needs (order)
//! ```
//!
//! A document that is not TOML ends with its first error; otherwise all problems of the file are
//! reported at once, in its order.

mod duration;
mod job;
pub(crate) mod keys;
mod matrix;
mod needs;
pub(crate) mod open;
pub(crate) mod reader;
mod references;
pub(crate) mod schema;
mod settings;
pub(crate) mod size;
mod target;

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::DeTable;

use super::error::quoted;
use super::{FILE_NAME, Origin, TargetError, TargetSpec};
use crate::operator::Operator;
use keys::{FILE, Fields};
use reader::{Reader, Value, in_order};

pub(crate) use job::LOCAL;
pub(crate) use settings::{FileSettings, Placed, read as read_settings};
pub(crate) use target::{SecretPlace, patterns};

/// What a file declares.
#[derive(Debug, Default)]
pub(super) struct Declared {
    /// In the order of the file.
    pub(super) targets: Vec<TargetSpec>,
    /// See [`super::Catalog::group_widths`].
    pub(super) group_widths: BTreeMap<String, usize>,
    /// Line and column of each group that the file declares.
    pub(super) group_places: BTreeMap<String, (usize, usize)>,
    /// The secrets that the jobs of each target name, in the order of the file.
    pub(super) secrets: BTreeMap<String, Vec<SecretPlace>>,
    /// What the file says that is about no target.
    pub(super) settings: FileSettings,
}

/// Reads the file of a source root; no file declares nothing. With an operator, the hosts that
/// jobs name must be theirs.
pub(super) fn load(
    source_root: &Path,
    built_in: &[&str],
    operator: Option<&Operator>,
) -> Result<Declared, TargetError> {
    let path = source_root.join(FILE_NAME);
    match open::read(&path)? {
        None => Ok(Declared::default()),
        Some(bytes) => parse(&bytes, &Origin::File(path), built_in, operator),
    }
}

/// The settings of the file of a source root, without a look at the rest. A file that cannot be
/// understood has none: it is told by whoever needs its targets.
pub(crate) fn settings_of(source_root: &Path) -> FileSettings {
    let Ok(Some(bytes)) = open::read(&source_root.join(FILE_NAME)) else { return FileSettings::default() };
    let read = reader::read(FILE_NAME, &bytes, |reader, root| {
        let found = in_order(root).into_iter().find(|(key, _)| key.name == "settings");
        found.map(|(_, value)| settings::read(reader, value)).unwrap_or_default()
    });
    read.unwrap_or_default()
}

/// Understands the bytes of a file.
fn parse(
    bytes: &[u8],
    origin: &Origin,
    built_in: &[&str],
    operator: Option<&Operator>,
) -> Result<Declared, TargetError> {
    reader::read(FILE_NAME, bytes, |reader, root| {
        let context = target::Context {
            origin,
            built_in,
            operator,
            groups: None,
            default: None,
            used_groups: Vec::new(),
            made: matrix::Tally::default(),
            secrets: Vec::new(),
        };
        document(reader, context, root)
    })
}

fn document(reader: &mut Reader<'_>, mut context: target::Context<'_>, root: &DeTable<'_>) -> Declared {
    let mut declared = Declared::default();
    let fields = Fields::read(reader, root, &FILE, "at the top of the file");
    if let Some(value) = fields.get("version") {
        version(reader, value);
    }
    if let Some(value) = fields.get("settings") {
        declared.settings = settings::read(reader, value);
    }
    context.groups = fields.get("groups").map(|value| widths(reader, value, &mut declared.group_places));
    let targets = fields.get("targets").and_then(|value| reader.table(value));
    for (key, value) in targets.map(in_order).unwrap_or_default() {
        declared.targets.extend(target::read(reader, &mut context, key, value));
        declared.secrets.insert(key.name.to_owned(), std::mem::take(&mut context.secrets));
    }
    declared.group_widths = context.groups.unwrap_or_default();
    for group in context.used_groups {
        declared.group_widths.entry(group).or_insert(1);
    }
    declared
}

fn version(reader: &mut Reader<'_>, value: Value<'_, '_>) {
    match reader.integer(value) {
        Some(1) | None => {}
        Some(other) => reader.problem(
            value.at,
            format!("version {other} of this file is not known"),
            "write `version = 1`",
        ),
    }
}

fn widths(
    reader: &mut Reader<'_>,
    value: Value<'_, '_>,
    places: &mut BTreeMap<String, (usize, usize)>,
) -> BTreeMap<String, usize> {
    let mut widths = BTreeMap::new();
    for (key, value) in reader.table(value).map(in_order).unwrap_or_default() {
        reader.name(key, "group");
        let width = reader.integer(value).and_then(|width| match usize::try_from(width) {
            Ok(width) if width > 0 => Some(width),
            _ => {
                let message = format!("group {} has {width} places", quoted(key.name));
                reader.problem(value.at, message, "a group has 1 or more");
                None
            }
        });
        // A group with a wrong width is still a group that jobs may name.
        widths.insert(key.name.to_owned(), width.unwrap_or(1));
        places.insert(key.name.to_owned(), reader.place(value.at));
    }
    widths
}

#[cfg(test)]
mod tests;
