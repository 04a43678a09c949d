//! Problems of a document: all of them at once, each with its field, value and what is allowed.

use std::error::Error;
use std::fmt;

/// Longest part of a value that is repeated in a message, in characters.
const SHOWN: usize = 120;

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidationError {
    /// Path of the field in the document, such as `mounts[1].guest_path`.
    pub field: String,
    /// The value found, as JSON text, cut when long; `None` when the field is missing.
    pub value: Option<String>,
    /// What is wrong with it, to be read after the value: `is blank`.
    pub problem: String,
    /// What would have been right.
    pub allowed: String,
}

impl fmt::Display for ValidationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, value, problem, allowed } = self;
        match value {
            Some(value) => write!(f, "{field}: {value} {problem} (allowed: {allowed})"),
            None => write!(f, "{field}: {problem} (allowed: {allowed})"),
        }
    }
}

/// Every broken rule of one document, in the order of its fields. Never empty.
///
/// Its text has a headline and then one line per problem:
///
/// ```text
/// the runtime spec has 2 problems:
///   identity.runtime_id: "" is blank (allowed: some text)
///   mounts[1].guest_path: "data" is relative (allowed: an absolute path without `..`)
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidationErrors {
    document: &'static str,
    problems: Vec<ValidationError>,
}

impl ValidationErrors {
    /// The problems, in the order of the document's fields.
    pub fn iter(&self) -> std::slice::Iter<'_, ValidationError> {
        self.problems.iter()
    }

    /// How many problems there are: at least one.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.problems.len()
    }
}

impl fmt::Display for ValidationErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        write!(f, "the {} has {count} problem{}:", self.document, if count == 1 { "" } else { "s" })?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl Error for ValidationErrors {}

impl<'a> IntoIterator for &'a ValidationErrors {
    type Item = &'a ValidationError;
    type IntoIter = std::slice::Iter<'a, ValidationError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Collects problems while a document is walked.
#[derive(Debug)]
pub(crate) struct Problems {
    document: &'static str,
    found: Vec<ValidationError>,
}

impl Problems {
    pub(crate) fn of(document: &'static str) -> Self {
        Self { document, found: Vec::new() }
    }

    /// A value that breaks a rule.
    pub(crate) fn add(
        &mut self,
        field: impl Into<String>,
        value: impl Into<serde_json::Value>,
        problem: impl Into<String>,
        allowed: impl Into<String>,
    ) {
        self.found.push(ValidationError {
            field: field.into(),
            value: Some(shown(&value.into())),
            problem: problem.into(),
            allowed: allowed.into(),
        });
    }

    /// A field that must be there and is not.
    pub(crate) fn missing(&mut self, field: &str, allowed: &str) {
        self.found.push(ValidationError {
            field: field.to_owned(),
            value: None,
            problem: "is missing".to_owned(),
            allowed: allowed.to_owned(),
        });
    }

    pub(crate) fn finish(self) -> Result<(), ValidationErrors> {
        if self.found.is_empty() {
            Ok(())
        } else {
            Err(ValidationErrors { document: self.document, problems: self.found })
        }
    }
}

fn shown(value: &serde_json::Value) -> String {
    // JSON leaves some control characters as they are; a terminal must not see them.
    let text = value.to_string().replace('\u{7f}', "\\u007f");
    let text: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}… ({} bytes)", &text[..cut], text.len()),
        None => text,
    }
}
