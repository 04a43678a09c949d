//! Why a target cannot be had, and what to do about it.

use std::fmt;
use std::path::{Path, PathBuf};

use super::FILE_NAME;

/// Why a catalog cannot be loaded, or a target is not in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// No target has this name.
    #[error("no target is called {}", quoted(.name))]
    UnknownTarget {
        /// What was asked for.
        name: String,
        /// The target that was probably meant.
        nearest: Option<String>,
        /// All targets, sorted.
        known: Vec<String>,
    },
    /// No name was given, and no target is the default.
    #[error("no target was named, and none is the default")]
    NoDefault {
        /// All targets, sorted.
        known: Vec<String>,
    },
    /// The file is there and cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is larger than any that a person writes.
    #[error("{} is larger than 1 MiB", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The name of the file is taken by something that is not a file.
    #[error("{} is {what}", path.display())]
    NotAFile {
        /// What was found in its place.
        path: PathBuf,
        /// For example `a directory, not a file`.
        what: String,
    },
    /// The file was read and says something wrong. Each problem is one line.
    #[error("{}", lines(.problems, *.more))]
    Toml {
        /// In the order of the file; never empty.
        problems: Vec<Problem>,
        /// How many more there are.
        more: usize,
    },
}

impl TargetError {
    /// What to do next, when there is something to say that the message does not.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownTarget { nearest: Some(nearest), .. } => {
                Some(format!("did you mean `pikaci run {nearest}`?"))
            }
            Self::UnknownTarget { known, .. } | Self::NoDefault { known } if known.len() <= 1 => {
                Some(format!(
                    "declare one: printf '[targets.check.jobs.test]\\ncommand = \"make test\"\\n' > {FILE_NAME}; built in is {}",
                    first(known)
                ))
            }
            Self::UnknownTarget { known, .. } => Some(format!("the targets are: {}", first(known))),
            Self::NoDefault { known } => {
                Some(format!("name one of: {}; or set `default = true` in {FILE_NAME}", first(known)))
            }
            Self::TooLarge { path } => Some(format!(
                "let jobs call scripts, and {} say only which; what is generated belongs elsewhere",
                name(path)
            )),
            Self::File { path, .. } => Some(format!("make {} readable, or remove it", name(path))),
            Self::NotAFile { path, .. } => {
                Some(format!("{} is a file that people write; move the other thing away", name(path)))
            }
            Self::Toml { .. } => None,
        }
    }
}

/// One thing that is wrong in a file of targets. Displayed as `file:line:column: message; help`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, relative to the source root.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong, with the offending word.
    pub message: String,
    /// What to write in its place.
    pub help: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, message, help } = self;
        write!(f, "{file}:{line}:{column}: {message}")?;
        match help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

/// The last component.
fn name(path: &Path) -> String {
    path.file_name().map(|name| printable(&name.to_string_lossy())).unwrap_or_default()
}

/// As many names as a person reads, comma separated.
fn first(names: &[String]) -> String {
    const MOST: usize = 20;
    let mut text = names.iter().take(MOST).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > MOST {
        text.push_str(&format!(", … and {} more", names.len() - MOST));
    }
    text
}

fn lines(problems: &[Problem], more: usize) -> String {
    let mut lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    if more > 0 {
        lines.push(format!("and {more} more problems"));
    }
    lines.join("\n")
}

/// A word of the input between backquotes, fit for one line of a terminal: control characters are
/// escaped and a long word is cut.
pub(crate) fn quoted(word: &str) -> String {
    const LONGEST: usize = 80;
    match word.char_indices().nth(LONGEST) {
        None => format!("`{}`", printable(word)),
        Some((end, _)) => format!("`{}…`", printable(&word[..end])),
    }
}

/// A text with its control characters escaped.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}
