//! What `pikaci explain` found: for people, and as the document that a forge reads.

use std::fmt::Write as _;
use std::io::Write as _;

use jerichoci::snapshot::{Base, ChangedFiles};
use serde::Serialize;

use super::document;
use super::text::{counted, printable};
use crate::error::CliError;
use crate::selection::{Changes, Reason};
use crate::targets::Trigger;

/// Version of the document.
const SCHEMA_VERSION: u32 = 1;

/// Changed files that people are shown.
const MOST_FILES: usize = 10;

/// Patterns without a file that people are shown.
const MOST_WARNINGS: usize = 10;

/// Everything there is to say.
pub(crate) struct Explained<'a> {
    /// The occasion that was asked about.
    pub(crate) trigger: Option<Trigger>,
    /// When the nightly lanes are due.
    pub(crate) nightly_schedule_utc: Option<&'a str>,
    /// Up to what changes were counted.
    pub(crate) head: Head<'a>,
    /// What decided.
    pub(crate) changes: &'a Changes,
    /// The same with commits.
    pub(crate) changed: &'a ChangedFiles,
    /// Lanes first.
    pub(crate) rows: Vec<Row<'a>>,
}

/// Up to what changes were counted.
pub(crate) enum Head<'a> {
    /// What is not committed counts too.
    WorkTree,
    /// A revision, as given.
    Commit {
        /// The revision.
        rev: &'a str,
    },
}

/// A lane, or a target that is none.
pub(crate) struct Row<'a> {
    pub(crate) id: &'a str,
    pub(crate) title: &'a str,
    pub(crate) target: &'a str,
    pub(crate) trigger: Trigger,
    pub(crate) staged: bool,
    pub(crate) concurrency_group: Option<&'a str>,
    pub(crate) paths: &'a [String],
    pub(crate) reason: Reason,
    /// Patterns that match no file today.
    pub(crate) without_file: Vec<&'a str>,
}

impl<'a> Explained<'a> {
    /// Patterns that match no file today, each with the lanes that have it, in the order of the first of them.
    fn without_file(&self) -> Vec<(&'a str, Vec<&'a str>)> {
        let mut found: Vec<(&str, Vec<&str>)> = Vec::new();
        for row in &self.rows {
            for pattern in &row.without_file {
                match found.iter_mut().find(|(known, _)| known == pattern) {
                    Some((_, lanes)) => lanes.push(row.id),
                    None => found.push((pattern, vec![row.id])),
                }
            }
        }
        found
    }

    /// The same as lines for people, not too many.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let found = self.without_file();
        let mut lines: Vec<String> = found
            .iter()
            .take(MOST_WARNINGS)
            .map(|(pattern, lanes)| match lanes.as_slice() {
                [first, second, third, _, ..] => {
                    let more = lanes.len() - 3;
                    format!("{} ({first}, {second}, {third} and {more} more)", no_file(pattern))
                }
                few => format!("{} ({})", no_file(pattern), few.join(", ")),
            })
            .collect();
        if found.len() > MOST_WARNINGS {
            let more = found.len() - MOST_WARNINGS;
            lines.push(format!("{} match no file today; --json has all", counted(more, "more pattern")));
        }
        lines
    }
}

fn no_file(pattern: &str) -> String {
    format!("the pattern `{}` matches no file today", printable(pattern.as_bytes()))
}

/// Prints it for people.
pub(crate) fn text(explained: &Explained<'_>) -> Result<(), CliError> {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = compared(&mut out, explained);
    let width = explained.rows.iter().map(|row| row.id.chars().count()).max().unwrap_or_default();
    for row in &explained.rows {
        let reason = printable(row.reason.to_string().as_bytes());
        let _ = writeln!(out, "{:<width$}  {reason}", row.id);
    }
    if explained.rows.is_empty() {
        out.push_str("no lane is run then\n");
    }
    std::io::stdout().write_all(out.as_bytes()).map_err(CliError::output)
}

fn compared(out: &mut String, explained: &Explained<'_>) -> std::fmt::Result {
    let head = explained.changed.head.as_deref().map(short);
    let head = match (&explained.head, head) {
        (Head::WorkTree, Some(head)) => format!("the work tree on {head}"),
        (Head::WorkTree, None) => "the work tree".to_owned(),
        (Head::Commit { rev }, Some(head)) => format!("{} ({head})", printable(rev.as_bytes())),
        (Head::Commit { rev }, None) => printable(rev.as_bytes()),
    };
    match (&explained.changed.base, explained.changes) {
        (Base::Used { rev, merge_base }, Changes::Known { files, .. }) => {
            let (rev, merge_base) = (printable(rev.as_bytes()), short(merge_base));
            writeln!(out, "base     {rev}, merge base {merge_base}")?;
            writeln!(out, "head     {head}")?;
            writeln!(out, "changed  {}", counted(files.len(), "file"))?;
            for file in files.iter().take(MOST_FILES) {
                writeln!(out, "  {}", printable(file.as_bytes()))?;
            }
            if files.len() > MOST_FILES {
                writeln!(out, "  … and {} more; --json has all", files.len() - MOST_FILES)?;
            }
        }
        (_, changes) => {
            let why = match changes {
                Changes::Unknown { why } => printable(why.as_bytes()),
                Changes::Known { .. } => String::new(),
            };
            writeln!(out, "base     none: {why}")?;
            writeln!(out, "head     {head}")?;
        }
    }
    writeln!(out)
}

/// As much of a commit id as people read.
fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

/// Prints the document.
pub(crate) fn json(explained: &Explained<'_>) -> Result<(), CliError> {
    document::print(&Document {
        schema_version: SCHEMA_VERSION,
        trigger: explained.trigger.map(Trigger::word),
        nightly_schedule_utc: explained.nightly_schedule_utc,
        changes: ChangesDocument::new(explained),
        lanes: explained.rows.iter().map(LaneDocument::new).collect(),
        warnings: explained
            .without_file()
            .into_iter()
            .map(|(pattern, lanes)| WarningDocument {
                kind: "pattern_matches_no_file",
                message: no_file(pattern),
                pattern,
                lanes,
            })
            .collect(),
    })
}

#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    trigger: Option<&'static str>,
    nightly_schedule_utc: Option<&'a str>,
    changes: ChangesDocument<'a>,
    lanes: Vec<LaneDocument<'a>>,
    warnings: Vec<WarningDocument<'a>>,
}

#[derive(Serialize)]
struct ChangesDocument<'a> {
    /// `known` or `unknown`.
    kind: &'static str,
    /// Why they are unknown.
    why: Option<&'a str>,
    base: Option<&'a str>,
    merge_base: Option<&'a str>,
    head: Option<&'a str>,
    /// Whether what is not committed counts.
    work_tree: bool,
    files: &'a [String],
}

impl<'a> ChangesDocument<'a> {
    fn new(explained: &'a Explained<'a>) -> Self {
        let (base, merge_base) = match &explained.changed.base {
            Base::Used { rev, merge_base } => (Some(rev.as_str()), Some(merge_base.as_str())),
            Base::None { .. } => (None, None),
        };
        let (kind, why, files) = match explained.changes {
            Changes::Known { files, .. } => ("known", None, files.as_slice()),
            Changes::Unknown { why } => ("unknown", Some(why.as_str()), [].as_slice()),
        };
        Self {
            kind,
            why,
            base,
            merge_base,
            head: explained.changed.head.as_deref(),
            work_tree: matches!(explained.head, Head::WorkTree),
            files,
        }
    }
}

#[derive(Serialize)]
struct LaneDocument<'a> {
    id: &'a str,
    title: &'a str,
    target: &'a str,
    trigger: &'static str,
    staged: bool,
    concurrency_group: Option<&'a str>,
    /// `run` or `skip`.
    decision: &'static str,
    reason: &'static str,
    /// The changed file that decided.
    file: Option<&'a str>,
    /// The pattern that it matches.
    pattern: Option<&'a str>,
    message: String,
    paths: &'a [String],
}

impl<'a> LaneDocument<'a> {
    fn new(row: &'a Row<'a>) -> Self {
        let (file, pattern) = match &row.reason {
            Reason::Matched { file, pattern } => (Some(file.as_str()), Some(pattern.as_str())),
            Reason::DefinitionChanged { file } => (Some(file.as_str()), None),
            _ => (None, None),
        };
        Self {
            id: row.id,
            title: row.title,
            target: row.target,
            trigger: row.trigger.word(),
            staged: row.staged,
            concurrency_group: row.concurrency_group,
            decision: if row.reason.runs() { "run" } else { "skip" },
            reason: row.reason.word(),
            file,
            pattern,
            message: row.reason.to_string(),
            paths: row.paths,
        }
    }
}

#[derive(Serialize)]
struct WarningDocument<'a> {
    kind: &'static str,
    pattern: &'a str,
    /// Ids of the lanes that have it.
    lanes: Vec<&'a str>,
    message: String,
}
