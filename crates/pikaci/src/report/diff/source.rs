//! How the sources of two runs differ, by the lists of their snapshots.

use jerichoci::snapshot::{Entry, EntryKind, Manifest};
use serde::Serialize;

use super::Change;
use crate::report::recorded::Recorded;

/// Files that differ.
#[derive(Debug, Serialize)]
pub(super) struct SourceDiff {
    /// Null when a snapshot is not known any more.
    pub(super) same: Option<bool>,
    /// Why it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
    /// Sorted by path.
    pub(super) files: Vec<FileDiff>,
}

/// A file, or a link, that differs.
#[derive(Debug, Serialize)]
pub(super) struct FileDiff {
    pub(super) path: String,
    pub(super) change: Change,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) a: Option<Facts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) b: Option<Facts>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Facts {
    /// `file`, `executable` or `symlink`.
    pub(super) kind: &'static str,
    pub(super) bytes: u64,
}

pub(super) fn diff(a: &Recorded, b: &Recorded) -> SourceDiff {
    let unknown = |why: String| SourceDiff { same: None, why: Some(why), files: Vec::new() };
    if let (Some(old), Some(new)) = (&a.run.snapshot_hash, &b.run.snapshot_hash)
        && old == new
    {
        return SourceDiff { same: Some(true), why: None, files: Vec::new() };
    }
    let load = |side: &Recorded| match side.manifest() {
        Ok(Some(manifest)) => Ok(manifest),
        Ok(None) => Err(format!("run {} has no snapshot", side.run_id)),
        Err(error) => Err(format!("the snapshot of run {} cannot be read: {error}", side.run_id)),
    };
    match (load(a), load(b)) {
        (Ok(old), Ok(new)) => {
            let files: Vec<FileDiff> = Manifest::diff(&old, &new).iter().map(file).collect();
            SourceDiff { same: Some(files.is_empty()), why: None, files }
        }
        (Err(why), _) | (_, Err(why)) => unknown(why),
    }
}

fn file(change: &jerichoci::snapshot::Change<'_>) -> FileDiff {
    let facts = |entry: Entry<'_>| Facts {
        kind: match entry.kind {
            EntryKind::File => "file",
            EntryKind::Executable => "executable",
            EntryKind::Symlink => "symlink",
        },
        bytes: entry.size,
    };
    FileDiff {
        path: String::from_utf8_lossy(change.path()).into_owned(),
        change: match (&change.old, &change.new) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            _ => Change::Changed,
        },
        a: change.old.map(facts),
        b: change.new.map(facts),
    }
}
