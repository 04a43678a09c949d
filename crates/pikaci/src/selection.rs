//! Whether a change concerns a target, and why.

use crate::render::text::counted;
use crate::targets::Filters;

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

/// Decides. In doubt the target runs: a check that did not run must never look like one that
/// passed.
#[must_use]
pub fn select(filters: &Filters, changes: &Changes) -> Selection {
    if filters.is_empty() {
        return Selection::Run { message: None };
    }
    match changes {
        Changes::Unknown { why } => Selection::Run {
            message: Some(format!("runs whatever its path filters say: no change list: {why}")),
        },
        Changes::Known { base, files, .. } if files.is_empty() => Selection::Run {
            message: Some(format!("runs whatever its path filters say: nothing differs from {base}")),
        },
        Changes::Known { files, .. } if filters.first_match(files.iter().map(String::as_str)).is_some() => {
            Selection::Run { message: None }
        }
        Changes::Known { base, files, .. } => Selection::Skip {
            message: format!(
                "skipped: {} changed against {base}, and no path filter matches (of {})",
                counted(files.len(), "file"),
                filters.patterns().len(),
            ),
        },
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
        let plain = Selection::Run { message: None };
        assert_eq!(select(&filters, &known(&["docs/a", "src/a.rs"])), plain);
        assert_eq!(select(&Filters::default(), &known(&["docs/a"])), plain);
        assert_eq!(
            select(&filters, &known(&["docs/a", "src/a.md"])),
            Selection::Skip {
                message: "skipped: 2 files changed against main, and no path filter matches (of 2)"
                    .to_owned()
            }
        );
        let Selection::Run { message: Some(why) } = select(&filters, &known(&[])) else { panic!() };
        assert!(why.contains("nothing differs from main"), "{why}");
        let unknown = Changes::Unknown { why: "no base".to_owned() };
        let Selection::Run { message: Some(why) } = select(&filters, &unknown) else { panic!() };
        assert!(why.contains("no base"), "{why}");
    }
}
