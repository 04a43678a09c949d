//! `${name}` in the texts of a job: where the values of its matrix go.
//!
//! A script has variables of its own, and they are written in the same way. What is no name of the
//! matrix is left to the shell when it is plainly the shell's, and is a problem when it is plainly
//! meant to be the matrix's.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::reader::{Reader, list};
use crate::targets::error::quoted;

/// What a reference may name.
#[derive(Debug)]
pub(super) struct Names<'d> {
    /// The dimensions.
    pub(super) matrix: Vec<&'d str>,
    /// Variables that the job gets.
    pub(super) variables: BTreeSet<String>,
}

/// Every `${…}` without another `$`, `{` or line break in it: the text between the braces.
fn references(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("${").filter_map(|(at, _)| {
        let (name, _) = text.get(at + 2..)?.split_once('}')?;
        (!name.contains(['$', '{', '\n'])).then_some(name)
    })
}

/// The text with the values in place of their names; nothing when it names none.
pub(super) fn fill(text: &str, values: &[(String, String)]) -> Option<String> {
    let mut filled = String::new();
    let mut rest = text;
    let mut any = false;
    while let Some((before, after)) = rest.split_once("${") {
        filled.push_str(before);
        let found = after.split_once('}').and_then(|(name, tail)| {
            let (_, value) = values.iter().find(|(known, _)| known == name)?;
            Some((value, tail))
        });
        match found {
            Some((value, tail)) => {
                filled.push_str(value);
                rest = tail;
                any = true;
            }
            None => {
                filled.push_str("${");
                rest = after;
            }
        }
    }
    filled.push_str(rest);
    any.then_some(filled)
}

/// How long all texts of a job can become, when each name stands for a value of at most this
/// length.
pub(super) fn size(table: &DeTable<'_>, widest: &[(&str, usize)]) -> usize {
    let of_text = |text: &str| {
        let filled = references(text).filter_map(|name| widest.iter().find(|(known, _)| *known == name));
        filled.fold(text.len(), |size, (_, width)| size.saturating_add(*width))
    };
    let entries =
        table.iter().map(|(key, value)| of_text(key.get_ref()).saturating_add(size_of(value, &of_text)));
    entries.fold(0, usize::saturating_add)
}

fn size_of(value: &Spanned<DeValue<'_>>, of_text: &impl Fn(&str) -> usize) -> usize {
    match value.get_ref() {
        DeValue::String(text) => of_text(text),
        DeValue::Array(array) => {
            array.iter().map(|item| size_of(item, of_text)).fold(0, usize::saturating_add)
        }
        DeValue::Table(table) => table
            .iter()
            .map(|(key, value)| of_text(key.get_ref()).saturating_add(size_of(value, of_text)))
            .fold(0, usize::saturating_add),
        _ => 0,
    }
}

/// Reports references in a job with a matrix that name nothing.
pub(super) fn check(reader: &mut Reader<'_>, table: &DeTable<'_>, names: &Names<'_>) {
    for (key, value) in table {
        if key.get_ref() != "matrix" {
            walk(reader, value, names);
        }
    }
}

fn walk(reader: &mut Reader<'_>, value: &Spanned<DeValue<'_>>, names: &Names<'_>) {
    match value.get_ref() {
        DeValue::String(text) => text_of(reader, text, value.span(), names),
        DeValue::Array(array) => array.iter().for_each(|item| walk(reader, item, names)),
        DeValue::Table(table) => {
            for (key, value) in table {
                text_of(reader, key.get_ref(), key.span(), names);
                walk(reader, value, names);
            }
        }
        _ => {}
    }
}

fn text_of(reader: &mut Reader<'_>, text: &str, place: Range<usize>, names: &Names<'_>) {
    for name in references(text) {
        if names.matrix.contains(&name) || names.variables.contains(name) || !meant(text, name, names) {
            continue;
        }
        let at = reader.find(place.clone(), &format!("${{{name}}}"));
        let help = reader.suggestion(name, names.matrix.iter().copied()).unwrap_or_else(|| {
            format!("its names are {}; for a variable of the script write `${name}`", list(&names.matrix))
        });
        reader.problem(at, format!("{} is not in the matrix", quoted(&format!("${{{name}}}"))), help);
    }
}

/// Whether a reference is meant to be the matrix's.
fn meant(text: &str, name: &str, names: &Names<'_>) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let near = crate::targets::nearest(name, names.matrix.iter().copied()).is_some();
    let lower = name.starts_with(|c: char| c.is_ascii_lowercase()) && plain;
    (lower || near) && !name.ends_with("_proxy") && !gives(text, name)
}

/// Whether a script gives itself a variable of this name: it has the word outside of a reference.
fn gives(text: &str, name: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(name).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + name.len()..].chars().next();
        !before.is_some_and(|c| part(c) || matches!(c, '$' | '{')) && !after.is_some_and(part)
    })
}
