//! Typed access to parsed TOML that notes what is wrong and where, and goes on.

use std::ops::Range;

use ::toml::Spanned;
use ::toml::de::{DeString, DeTable, DeValue};

use super::keys::Keys;
use crate::nearest::nearest;
use crate::render::text::shorten;

pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// A key and its value.
#[derive(Clone, Copy)]
pub(super) struct Entry<'d, 't>(pub(super) &'d Spanned<DeString<'t>>, pub(super) &'d Value<'t>);

impl<'d> Entry<'d, '_> {
    /// The key.
    pub(super) fn name(&self) -> &'d str {
        self.0.get_ref()
    }

    /// The key, fit for a message.
    pub(super) fn shown(&self) -> String {
        shorten(self.name())
    }
}

/// All entries in the order of the file.
pub(super) fn entries<'d, 't>(table: &'d DeTable<'t>) -> Vec<Entry<'d, 't>> {
    let mut entries: Vec<_> = table.iter().map(|(key, value)| Entry(key, value)).collect();
    entries.sort_by_key(|entry| entry.0.span().start);
    entries
}

/// A value, in a few words.
pub(super) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string \"{}\"", shorten(text)),
        DeValue::Integer(number) => format!("the number {}", shorten(number.as_str())),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
        DeValue::Float(_) => "a fraction".to_owned(),
        DeValue::Datetime(_) => "a date".to_owned(),
    }
}

/// Notes problems as it reads.
#[derive(Default)]
pub(super) struct Reader {
    problems: Vec<(Range<usize>, String)>,
}

impl Reader {
    pub(super) fn problem(&mut self, span: Range<usize>, message: String) {
        self.problems.push((span, message));
    }

    pub(super) fn into_problems(self) -> Vec<(Range<usize>, String)> {
        self.problems
    }

    pub(super) fn wrong_type(&mut self, value: &Value<'_>, of: &str, expected: &str) {
        self.problem(value.span(), format!("{of} must be {expected}, not {}", describe(value.get_ref())));
    }

    pub(super) fn table<'d, 't>(&mut self, value: &'d Value<'t>, of: &str) -> Option<&'d DeTable<'t>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(value, of, "a table");
        }
        table
    }

    /// A string that an operating system can take: without NUL.
    pub(super) fn string(&mut self, value: &Value<'_>, of: &str) -> Option<String> {
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(value, of, "a string");
            return None;
        };
        if text.contains('\0') {
            self.problem(value.span(), format!("{of} has a NUL character"));
            return None;
        }
        Some(text.to_owned())
    }

    /// A string of one line that says something.
    pub(super) fn line(&mut self, value: &Value<'_>, of: &str) -> Option<String> {
        let text = self.string(value, of)?;
        if text.trim().is_empty() {
            self.problem(value.span(), format!("{of} is empty"));
            return None;
        }
        if text.chars().any(char::is_control) {
            self.problem(value.span(), format!("{of} must be one line without control characters"));
            return None;
        }
        Some(text)
    }

    /// Strings with their places.
    pub(super) fn strings(&mut self, value: &Value<'_>, of: &str) -> Option<Vec<(Range<usize>, String)>> {
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(value, of, "an array of strings");
            return None;
        };
        let item = format!("each item of {of}");
        let mut strings = Vec::new();
        for value in array.iter() {
            strings.push((value.span(), self.string(value, &item)?));
        }
        Some(strings)
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, value: &Value<'_>, of: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.string(value, of)?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*meaning);
        }
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let meant = suggestion(&text, &all);
        self.problem(value.span(), format!("{of} is `{}`, which is unknown; {meant}", shorten(&text)));
        None
    }

    pub(super) fn unknown_key(&mut self, entry: Entry<'_, '_>, of: &str, keys: &Keys) {
        let name = entry.shown();
        let message = if keys.later.contains(&entry.name()) {
            format!("`{name}` of {of} is not supported by this version of pikaci")
        } else {
            let meant = nearest(entry.name(), keys.known.iter().chain(keys.later).copied());
            let meant = match meant {
                Some(word) => format!("did you mean `{word}`?"),
                None => format!("known are {}", listed(keys.known)),
            };
            format!("unknown key `{name}` in {of}; {meant}")
        };
        self.problem(entry.0.span(), message);
    }
}

/// What a word was probably meant to be, as half a sentence.
pub(super) fn suggestion(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(word) => format!("did you mean `{word}`?"),
        None if known.is_empty() => "there is none".to_owned(),
        None => format!("known are {}", listed(known)),
    }
}

fn listed(words: &[&str]) -> String {
    const MOST: usize = 20;
    let mut list =
        words.iter().take(MOST).map(|word| format!("`{}`", shorten(word))).collect::<Vec<_>>().join(", ");
    if words.len() > MOST {
        list.push_str(", …");
    }
    list
}
