//! Reads values out of a document and collects what is wrong, each with its place.

use std::ops::Range;

use jerichoci::model::id::check_name;
use toml::de::{DeArray, DeTable, DeValue};

use super::super::error::{printable, quoted};
use super::super::{Problem, TargetError, nearest};
use super::open;

/// Understands the bytes of a file: `document` makes of its root table what it stands for. `file`
/// is its name in problems.
///
/// # Errors
/// [`TargetError::Toml`] with everything that is wrong.
pub(crate) fn read<T>(
    file: &str,
    bytes: &[u8],
    document: impl FnOnce(&mut Reader<'_>, &DeTable<'_>) -> T,
) -> Result<T, TargetError> {
    let text = open::decode(file, bytes)
        .map_err(|problem| TargetError::Toml { problems: vec![problem], more: 0 })?;
    let mut reader = Reader::new(file, text);
    match DeTable::parse(text) {
        Ok(root) => {
            let made = document(&mut reader, root.get_ref());
            reader.finish().map(|()| made)
        }
        Err(error) => Err(reader.syntax(&error)),
    }
}

/// A key and where it stands, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key<'d> {
    pub(crate) name: &'d str,
    pub(crate) at: usize,
}

/// A value and where it stands, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value<'d, 'i> {
    pub(crate) value: &'d DeValue<'i>,
    /// Its key; of an item, that of the array.
    pub(crate) key: &'d str,
    pub(crate) at: usize,
}

/// The entries of a table in the order of the file. The map itself sorts them by name.
pub(crate) fn in_order<'d, 'i>(table: &'d DeTable<'i>) -> Vec<(Key<'d>, Value<'d, 'i>)> {
    let mut entries: Vec<_> = table
        .iter()
        .map(|(key, value)| {
            let key = Key { name: key.get_ref().as_ref(), at: key.span().start };
            (key, Value { value: value.get_ref(), key: key.name, at: value.span().start })
        })
        .collect();
    entries.sort_by_key(|(key, _)| key.at);
    entries
}

/// The items of an array that is the value of `key`.
pub(crate) fn items<'d, 'i>(array: &'d DeArray<'i>, key: &'d str) -> impl Iterator<Item = Value<'d, 'i>> {
    array.iter().map(move |item| Value { value: item.get_ref(), key, at: item.span().start })
}

/// Collects problems while a document is read.
#[derive(Debug)]
pub(crate) struct Reader<'t> {
    file: &'t str,
    text: &'t str,
    /// Place in bytes, message, help.
    found: Vec<(usize, String, Option<String>)>,
    /// Problems that were not kept.
    more: usize,
}

/// Problems that are kept, at most. A person mends a few at a time, and a file made to have many
/// must not cost much.
const MOST_PROBLEMS: usize = 50;

/// Linux gives a program no argument and no variable of more than 128 KiB, and a guest gets its command quoted twice.
const LONGEST_ARGUMENT: usize = 64 * 1024;

impl<'t> Reader<'t> {
    fn new(file: &'t str, text: &'t str) -> Self {
        Self { file, text, found: Vec::new(), more: 0 }
    }

    /// Reports a problem with what to do about it; an empty `help` is none.
    pub(crate) fn problem(&mut self, at: usize, message: impl Into<String>, help: impl Into<String>) {
        if self.is_full() {
            self.more += 1;
            return;
        }
        let message = message.into();
        // The jobs of one matrix are read one by one, and have most problems in common.
        if self.found.iter().any(|(place, said, _)| *place == at && *said == message) {
            return;
        }
        let help = Some(help.into()).filter(|help| !help.is_empty());
        self.found.push((at, message, help));
    }

    /// Whether further problems are only counted, so that nobody needs to find words for them.
    pub(crate) fn is_full(&self) -> bool {
        self.found.len() == MOST_PROBLEMS
    }

    /// Where `needle` begins in a part of the text, or where the part begins.
    pub(crate) fn find(&self, part: Range<usize>, needle: &str) -> usize {
        let text = self.text.get(part.clone()).unwrap_or_default();
        text.find(needle).map_or(part.start, |offset| part.start + offset)
    }

    /// A question for the candidate that `word` was probably meant to be.
    pub(crate) fn suggestion<'c>(
        &self,
        word: &str,
        candidates: impl IntoIterator<Item = &'c str>,
    ) -> Option<String> {
        if self.is_full() {
            return None;
        }
        nearest(word, candidates).map(|nearest| format!("did you mean {}?", quoted(nearest)))
    }

    /// Reports what keeps the text from being TOML.
    fn syntax(&self, error: &toml::de::Error) -> TargetError {
        let (line, column) = self.place(error.span().map_or(0, |span| span.start));
        let message = printable(&error.message().trim().replace('\n', ", "));
        let problem = Problem { file: self.file.to_owned(), line, column, message, help: None };
        TargetError::Toml { problems: vec![problem], more: 0 }
    }

    /// Line and column of a byte.
    pub(crate) fn place(&self, at: usize) -> (usize, usize) {
        place(self.text, at)
    }

    /// What was found, in the order of the file.
    fn finish(mut self) -> Result<(), TargetError> {
        if self.found.is_empty() {
            return Ok(());
        }
        self.found.sort_by_key(|(at, ..)| *at);
        let problems = self.found.into_iter().map(|(at, message, help)| {
            let (line, column) = place(self.text, at);
            Problem { file: self.file.to_owned(), line, column, message, help }
        });
        Err(TargetError::Toml { problems: problems.collect(), more: self.more })
    }

    pub(crate) fn unknown_key(&mut self, key: Key<'_>, place: &str, known: &[&str]) {
        let help = self
            .suggestion(key.name, known.iter().copied())
            .unwrap_or_else(|| format!("the keys are {}", list(known)));
        self.problem(key.at, format!("unknown key {} {place}", quoted(key.name)), help);
    }

    /// Checks a name that is declared, for example of a `job`.
    pub(crate) fn name(&mut self, key: Key<'_>, noun: &str) -> bool {
        let ok = check_name(key.name).is_ok();
        if !ok {
            self.problem(
                key.at,
                format!("{} cannot be the name of a {noun}", quoted(key.name)),
                "a name starts with a letter or digit and has only letters, digits, `.`, `_`, `-`, at most 200",
            );
        }
        ok
    }

    pub(crate) fn string<'d>(&mut self, value: Value<'d, '_>) -> Option<&'d str> {
        match value.value {
            DeValue::String(text) => Some(text.as_ref()),
            _ => self.wrong_type(value, "a string"),
        }
    }

    /// A string for one line of a terminal.
    pub(crate) fn line<'d>(&mut self, value: Value<'d, '_>) -> Option<&'d str> {
        let text = self.string(value)?;
        if text.chars().any(char::is_control) {
            self.problem(value.at, format!("{} is not one line of text", quoted(text)), "");
            return None;
        }
        Some(text)
    }

    /// A string that can be handed to a process.
    pub(crate) fn argument<'d>(&mut self, value: Value<'d, '_>) -> Option<&'d str> {
        let text = self.string(value)?;
        if text.contains('\0') {
            self.problem(value.at, "a NUL cannot be passed to a command", "");
            return None;
        }
        if text.len() > LONGEST_ARGUMENT {
            let message =
                format!("{} bytes are more than the 65536 that a job can be given as one text", text.len());
            self.problem(value.at, message, "put it into a file of the source tree, and use that");
            return None;
        }
        Some(text)
    }

    pub(crate) fn boolean(&mut self, value: Value<'_, '_>) -> Option<bool> {
        match value.value {
            DeValue::Boolean(boolean) => Some(*boolean),
            _ => self.wrong_type(value, "`true` or `false`"),
        }
    }

    pub(crate) fn integer(&mut self, value: Value<'_, '_>) -> Option<i64> {
        let DeValue::Integer(integer) = value.value else {
            return self.wrong_type(value, "an integer");
        };
        let parsed = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        if parsed.is_none() {
            self.problem(value.at, format!("{integer} is too large"), "");
        }
        parsed
    }

    /// A whole number from `least` to `most`.
    pub(crate) fn whole<T: TryFrom<i64>>(
        &mut self,
        value: Value<'_, '_>,
        least: i64,
        most: i64,
    ) -> Option<T> {
        let number = self.integer(value)?;
        let meant = T::try_from(number).ok().filter(|_| (least..=most).contains(&number));
        if meant.is_none() {
            let message = format!("{} cannot be {number}", quoted(value.key));
            let help = match most {
                i64::MAX => format!("write a whole number from {least}"),
                _ => format!("write a whole number from {least} to {most}"),
            };
            self.problem(value.at, message, help);
        }
        meant
    }

    pub(crate) fn table<'d, 'i>(&mut self, value: Value<'d, 'i>) -> Option<&'d DeTable<'i>> {
        match value.value {
            DeValue::Table(table) => Some(table),
            _ => self.wrong_type(value, "a table"),
        }
    }

    /// The strings of an array, each with its place. What is not a string is reported and left out.
    pub(crate) fn strings<'d, 'i>(&mut self, value: Value<'d, 'i>) -> Vec<(&'d str, Value<'d, 'i>)> {
        match value.value {
            DeValue::Array(array) => {
                items(array, value.key).filter_map(|item| Some((self.argument(item)?, item))).collect()
            }
            _ => self.wrong_type(value, "an array of strings").unwrap_or_default(),
        }
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(&mut self, value: Value<'_, '_>, words: &[(&str, T)]) -> Option<T> {
        let text = self.string(value)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let help = self
                .suggestion(text, names.iter().copied())
                .unwrap_or_else(|| format!("write one of {}", list(&names)));
            self.problem(value.at, format!("{} cannot be {}", quoted(value.key), quoted(text)), help);
        }
        found
    }

    /// One of a few words, each with its meaning.
    pub(crate) fn choose<T: Copy, const N: usize>(
        &mut self,
        value: Value<'_, '_>,
        words: &[&str; N],
        meanings: [T; N],
    ) -> Option<T> {
        let pairs: Vec<(&str, T)> = words.iter().copied().zip(meanings).collect();
        self.word(value, &pairs)
    }

    pub(crate) fn wrong_type<T>(&mut self, value: Value<'_, '_>, expected: &str) -> Option<T> {
        let found = match value.value {
            DeValue::String(text) => format!("the string {}", quoted(text)),
            DeValue::Integer(integer) => format!("the integer {integer}"),
            DeValue::Float(float) => format!("the number {float}"),
            DeValue::Boolean(boolean) => format!("`{boolean}`"),
            DeValue::Datetime(datetime) => format!("the date {datetime}"),
            DeValue::Array(_) => "an array".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        let message = format!("{}: expected {expected}, found {found}", quoted(value.key));
        self.problem(value.at, message, "");
        None
    }
}

/// Words between backquotes, comma separated, as many as a person reads.
pub(crate) fn list(words: &[&str]) -> String {
    const MOST: usize = 30;
    let mut out = words.iter().take(MOST).map(|word| quoted(word)).collect::<Vec<_>>().join(", ");
    if words.len() > MOST {
        out.push_str(&format!(" and {} more", words.len() - MOST));
    }
    out
}

/// Line and column of a byte, both from 1, the column in characters.
pub(crate) fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, before[start..].chars().count() + 1)
}
