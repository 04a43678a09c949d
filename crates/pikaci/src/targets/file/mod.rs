//! `jericho.toml`: from bytes to targets, with the place of everything that is wrong.
//!
//! ```text
//! open (bytes) ─▶ reader (tables, keys, types, places) ─▶ target, job (meaning) ─▶ needs (order)
//! ```
//!
//! A document that is not TOML ends with its first error; otherwise all problems of the file are
//! reported at once, in its order.

mod duration;
mod job;
mod needs;
pub(crate) mod open;
pub(crate) mod reader;
mod target;

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::DeTable;

use super::error::quoted;
use super::{FILE_NAME, Origin, TargetError, TargetSpec};
use reader::{Reader, Value};
pub(crate) use target::paths;

/// What a file declares.
#[derive(Debug, Default)]
pub(super) struct Declared {
    /// In the order of the file.
    pub(super) targets: Vec<TargetSpec>,
    /// See [`super::Catalog::group_widths`].
    pub(super) group_widths: BTreeMap<String, usize>,
}

/// Reads the file of a source root; no file declares nothing.
pub(super) fn load(source_root: &Path, built_in: &[&str]) -> Result<Declared, TargetError> {
    let path = source_root.join(FILE_NAME);
    match open::read(&path)? {
        None => Ok(Declared::default()),
        Some(bytes) => parse(&bytes, &Origin::File(path), built_in),
    }
}

/// Understands the bytes of a file.
fn parse(bytes: &[u8], origin: &Origin, built_in: &[&str]) -> Result<Declared, TargetError> {
    let text = open::decode(bytes, FILE_NAME)
        .map_err(|problem| TargetError::Toml { problems: vec![problem], more: 0 })?;
    let mut reader = Reader::new(FILE_NAME, text);
    let mut declared = Declared::default();
    match DeTable::parse(text) {
        Ok(root) => document(&mut reader, &mut declared, root.get_ref(), origin, built_in),
        Err(error) => reader.syntax(&error),
    }
    reader.finish().map(|()| declared)
}

fn document(
    reader: &mut Reader<'_>,
    declared: &mut Declared,
    root: &DeTable<'_>,
    origin: &Origin,
    built_in: &[&str],
) {
    const KEYS: &[&str] = &["version", "targets", "groups"];
    let mut groups = None;
    let mut targets = Vec::new();
    for (key, value) in reader::in_order(root) {
        match key.name {
            "version" => version(reader, value),
            "targets" => targets = reader.table(value).map(reader::in_order).unwrap_or_default(),
            "groups" => groups = Some(widths(reader, value)),
            _ => reader.unknown_key(key, "at the top of the file", KEYS),
        }
    }
    let mut context = target::Context { origin, built_in, groups, default: None, used_groups: Vec::new() };
    for (key, value) in targets {
        declared.targets.extend(target::read(reader, &mut context, key, value));
    }
    declared.group_widths = context.groups.unwrap_or_default();
    for group in context.used_groups {
        declared.group_widths.entry(group).or_insert(1);
    }
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

fn widths(reader: &mut Reader<'_>, value: Value<'_, '_>) -> BTreeMap<String, usize> {
    let mut widths = BTreeMap::new();
    for (key, value) in reader.table(value).map(reader::in_order).unwrap_or_default() {
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
    }
    widths
}

#[cfg(test)]
mod tests;
