//! Settings that a file gives, each with its place.

use std::num::NonZeroUsize;

use super::keys::{Fields, SETTINGS};
use super::reader::{Reader, Value};
use crate::targets::error::quoted;

/// A value, and the line and column where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed<T> {
    pub(crate) value: T,
    pub(crate) place: (usize, usize),
}

/// The settings of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FileSettings {
    pub(crate) max_concurrent_executes: Option<Placed<NonZeroUsize>>,
    pub(crate) base_ref: Option<Placed<String>>,
    pub(crate) host_local_nix_shell: Option<Placed<String>>,
}

/// Reads the table.
pub(crate) fn read(reader: &mut Reader<'_>, value: Value<'_, '_>) -> FileSettings {
    let Some(table) = reader.table(value) else { return FileSettings::default() };
    let fields = Fields::read(reader, table, &SETTINGS, "in [settings]");
    FileSettings {
        max_concurrent_executes: fields.get("max_concurrent_executes").and_then(|value| {
            let number: usize = reader.whole(value, 1, i64::MAX)?;
            Some(Placed { value: NonZeroUsize::new(number)?, place: reader.place(value.at) })
        }),
        base_ref: fields.get("base_ref").and_then(|value| word(reader, value, "revision")),
        host_local_nix_shell: fields
            .get("host_local_nix_shell")
            .and_then(|value| word(reader, value, "dev shell")),
    }
}

/// A word that another program is given.
fn word(reader: &mut Reader<'_>, value: Value<'_, '_>, noun: &str) -> Option<Placed<String>> {
    let text = reader.line(value)?;
    if text.is_empty() || text.starts_with('-') || text.contains(char::is_whitespace) {
        reader.problem(value.at, format!("{} is not the name of a {noun}", quoted(text)), "");
        return None;
    }
    Some(Placed { value: text.to_owned(), place: reader.place(value.at) })
}
