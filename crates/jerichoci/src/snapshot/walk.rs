//! The view of a tree that is no git repository: everything that its `.gitignore` files allow.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::WalkBuilder;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::error::{SnapshotError, shown};
use super::git::Listing;

/// The file with further exclusions, directly under the source root.
pub(crate) const IGNORE_FILE: &str = ".jerichociignore";

/// Lists files, links and others, hidden ones too, without `.git`. Rules above the root and
/// the user's own are not looked at: the same tree gives the same list everywhere.
pub(crate) fn list(root: &Path) -> Result<Listing, SnapshotError> {
    let walk = WalkBuilder::new(root)
        .standard_filters(false)
        .git_ignore(true)
        .require_git(false)
        .follow_links(false)
        .filter_entry(|entry| entry.depth() == 0 || entry.file_name() != ".git")
        .build();
    let mut listing = Listing::default();
    for entry in walk {
        let entry = entry.map_err(|error| walk_error(root, error))?;
        if entry.depth() == 0 || entry.file_type().is_none_or(|kind| kind.is_dir()) {
            continue;
        }
        if let Ok(relative) = entry.path().strip_prefix(root) {
            listing.push(b"", relative.as_os_str().as_bytes())?;
        }
    }
    listing.sort();
    Ok(listing)
}

fn walk_error(root: &Path, error: ignore::Error) -> SnapshotError {
    fn path_in(error: &ignore::Error) -> Option<&Path> {
        match error {
            ignore::Error::WithPath { path, .. } => Some(path),
            ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => path_in(err),
            _ => None,
        }
    }
    let path = path_in(&error).unwrap_or(root);
    let relative = path.strip_prefix(root).unwrap_or(path);
    let file = shown(relative.as_os_str().as_bytes());
    let words = error.to_string();
    let source = error.into_io_error().unwrap_or_else(|| std::io::Error::other(words));
    SnapshotError::Unreadable { file, source }
}

/// The rules of `.jerichociignore`; `None` when there is no such file.
pub(crate) fn own_rules(root: &Path) -> Result<Option<Gitignore>, SnapshotError> {
    let path = root.join(IGNORE_FILE);
    match std::fs::symlink_metadata(&path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(SnapshotError::io("read", path)(error)),
    }
    let bad = |message: String| SnapshotError::BadIgnoreFile { path: path.clone(), message };
    let mut builder = GitignoreBuilder::new(root);
    if let Some(error) = builder.add(&path) {
        return Err(bad(error.to_string()));
    }
    builder.build().map(Some).map_err(|error| bad(error.to_string()))
}

/// Whether the rules leave this file out; a directory that is left out takes all below with it.
pub(crate) fn is_left_out(rules: &Gitignore, path: &[u8]) -> bool {
    rules.matched_path_or_any_parents(super::at::path_of(path), false).is_ignore()
}
