//! Errors in `jericho.toml`: file, line, column, the line itself, and what was probably meant.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::render::text::{printable, shorten, typed};

/// Why the targets of a source tree are not known.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The file is there but cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file does not make sense.
    #[error("{}", Listed(.0))]
    Invalid(Vec<Problem>),
    /// No target has this name.
    #[error("no target is called `{}`; known are {}", shorten(name), known.join(", "))]
    UnknownTarget {
        /// The name.
        name: String,
        /// The known one that was probably meant.
        nearest: Option<String>,
        /// All known ones.
        known: Vec<String>,
    },
    /// No name was given, and no target is the default.
    #[error("which target? None is the default; known are {}", known.join(", "))]
    NoDefault {
        /// All known ones.
        known: Vec<String>,
    },
}

impl TargetError {
    /// What to type next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownTarget { nearest: Some(name), .. } => Some(format!("pikaci run {name}")),
            Self::UnknownTarget { known, .. } | Self::NoDefault { known } => {
                known.first().map(|name| format!("pikaci run {name}"))
            }
            Self::Read { path, .. } => Some(format!("ls -l {}", typed(path))),
            Self::Invalid(_) => None,
        }
    }
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong, in one line; names the offending word.
    pub message: String,
    excerpt: Option<Excerpt>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    text: String,
    indent: usize,
    width: usize,
}

/// Lines longer than this are not shown: an excerpt is for the eye.
const LONGEST_EXCERPT: usize = 160;

impl Problem {
    /// At these bytes of the text.
    #[must_use]
    pub fn new(path: &Path, text: &str, span: Range<usize>, message: String) -> Self {
        let start = floor(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let line = text[line_start..line_end].trim_end_matches('\r');
        let end = floor(text, span.end.max(start)).min(line_start + line.len()).max(start);
        let before = printable(text[line_start..start].as_bytes());
        let shown = printable(line.as_bytes());
        let excerpt =
            (shown.chars().count() <= LONGEST_EXCERPT && !line.trim().is_empty()).then(|| Excerpt {
                indent: before.chars().count(),
                width: printable(text[start..end].as_bytes()).chars().count().max(1),
                text: shown,
            });
        Self {
            path: path.to_path_buf(),
            line: text[..line_start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            message,
            excerpt,
        }
    }
}

/// The nearest character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.path.display(), self.line, self.column, self.message)?;
        let Some(excerpt) = &self.excerpt else { return Ok(()) };
        let number = self.line.to_string();
        write!(f, "\n  {number} | {}", excerpt.text)?;
        write!(
            f,
            "\n  {:pad$} | {:indent$}{}",
            "",
            "",
            "^".repeat(excerpt.width),
            pad = number.len(),
            indent = excerpt.indent
        )
    }
}

/// All problems, one below the other.
struct Listed<'a>(&'a [Problem]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}
