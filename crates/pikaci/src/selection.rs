//! Whether a change concerns a target, and why.

use std::fmt;

use crate::render::text::counted;
use crate::targets::{Filters, TargetSpec};

/// What is known about the change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// Files that differ from the base, relative to the source root.
    Known {
        /// What they were compared with.
        base: String,
        /// Commit that the head and it have in common.
        merge_base: String,
        /// Their names.
        files: Vec<String>,
    },
    /// There is nothing to compare with.
    Unknown {
        /// Why, as the rest of a sentence that begins with "no change list".
        why: String,
    },
}

/// Why a target runs or is skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// It runs: it has no path filters.
    Unfiltered,
    /// It runs: this file changed.
    Matched {
        /// The first changed file that is selected.
        file: String,
        /// The pattern that selects it, as it was written.
        pattern: String,
    },
    /// It runs: the file that holds its filters changed.
    DefinitionChanged {
        /// That file.
        file: String,
    },
    /// It runs: nothing changed, and nothing says that this is on purpose.
    NothingChanged {
        /// What was compared with.
        base: String,
    },
    /// It runs: nobody knows what changed.
    NoChangeList {
        /// Why.
        why: String,
    },
    /// It is skipped.
    NoMatch {
        /// What was compared with.
        base: String,
        /// How many files changed.
        files: usize,
        /// How many patterns there are.
        patterns: usize,
    },
}

impl Reason {
    /// Whether the target runs.
    #[must_use]
    pub const fn runs(&self) -> bool {
        !matches!(self, Self::NoMatch { .. })
    }

    /// The word that documents use.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Unfiltered => "no_filters",
            Self::Matched { .. } => "path_matched",
            Self::DefinitionChanged { .. } => "definition_changed",
            Self::NothingChanged { .. } => "nothing_changed",
            Self::NoChangeList { .. } => "no_change_list",
            Self::NoMatch { .. } => "no_path_matched",
        }
    }

    /// The record's message: none where it is plain why a target runs.
    fn message(&self) -> Option<String> {
        match self {
            Self::Unfiltered | Self::Matched { .. } => None,
            other => Some(other.to_string()),
        }
    }
}

/// One line for people that follows the name of the target.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfiltered => write!(f, "runs: it has no path filters"),
            Self::Matched { file, pattern } => write!(f, "runs: {file} changed and matches {pattern}"),
            Self::DefinitionChanged { file } => {
                write!(f, "runs whatever its path filters say: {file} changed, which holds them")
            }
            Self::NothingChanged { base } => {
                write!(f, "runs whatever its path filters say: nothing differs from {base}")
            }
            Self::NoChangeList { why } => {
                write!(f, "runs whatever its path filters say: no change list: {why}")
            }
            Self::NoMatch { base, files, patterns } => {
                let files = counted(*files, "file");
                write!(
                    f,
                    "skipped: {files} changed against {base}, and no path filter matches (of {patterns})"
                )
            }
        }
    }
}

/// What follows for a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// It runs; the message says why when that is not plain.
    Run {
        /// One line for people.
        message: Option<String>,
    },
    /// It is recorded as skipped.
    Skip {
        /// One line for people.
        message: String,
    },
}

/// Decides for a target that a person named.
#[must_use]
pub fn select(target: &TargetSpec, changes: &Changes) -> Selection {
    let reason = reason(&target.filters, target.definition, changes);
    match reason.runs() {
        true => Selection::Run { message: reason.message() },
        false => Selection::Skip { message: reason.to_string() },
    }
}

/// Decides. In doubt the target runs: a check that did not run must never look like one that passed.
/// `definition` is the file whose change selects whatever the filters say.
#[must_use]
pub fn reason(filters: &Filters, definition: Option<&str>, changes: &Changes) -> Reason {
    if filters.is_empty() {
        return Reason::Unfiltered;
    }
    let (base, files) = match changes {
        Changes::Unknown { why } => return Reason::NoChangeList { why: why.clone() },
        Changes::Known { base, files, .. } if files.is_empty() => {
            return Reason::NothingChanged { base: base.clone() };
        }
        Changes::Known { base, files, .. } => (base, files),
    };
    if let Some((file, pattern)) = filters.first_match(files.iter().map(String::as_str)) {
        return Reason::Matched { file: file.to_owned(), pattern: pattern.to_owned() };
    }
    match definition.filter(|definition| files.iter().any(|file| file == definition)) {
        Some(file) => Reason::DefinitionChanged { file: file.to_owned() },
        None => {
            Reason::NoMatch { base: base.clone(), files: files.len(), patterns: filters.patterns().len() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(files: &[&str]) -> Changes {
        Changes::Known {
            base: "main".to_owned(),
            merge_base: "0123".to_owned(),
            files: files.iter().map(|file| (*file).to_owned()).collect(),
        }
    }

    #[test]
    fn a_target_is_skipped_only_when_a_known_change_matches_no_filter() {
        let filters = Filters::new(["src/**", "!**/*.md"]).unwrap();
        let why = |changes: &Changes| reason(&filters, Some("ci/lanes"), changes);
        let matched = Reason::Matched { file: "src/a.rs".to_owned(), pattern: "src/**".to_owned() };
        assert_eq!(why(&known(&["docs/a", "src/a.rs"])), matched);
        assert_eq!(reason(&Filters::default(), None, &known(&["docs/a"])), Reason::Unfiltered);
        let skipped = why(&known(&["docs/a", "src/a.md"]));
        assert!(!skipped.runs());
        assert_eq!(
            skipped.to_string(),
            "skipped: 2 files changed against main, and no path filter matches (of 2)"
        );
        assert_eq!(why(&known(&[])), Reason::NothingChanged { base: "main".to_owned() });
        let unknown = Changes::Unknown { why: "no base".to_owned() };
        assert_eq!(why(&unknown), Reason::NoChangeList { why: "no base".to_owned() });
        let definition = Reason::DefinitionChanged { file: "ci/lanes".to_owned() };
        assert_eq!(why(&known(&["ci/lanes", "docs/a"])), definition);
        assert!(definition.runs() && definition.message().is_some_and(|text| text.contains("ci/lanes")));
        assert_eq!(matched.message(), None);
    }
}
