//! Where a state root may be.

use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use jerichoci::run::layout::Layout;

use crate::error::CliError;
use crate::exit::Exit;
use crate::render::text::{shorten, typed};

/// Resolves symbolic links and `..` as far as the path exists, so that one place has one name.
pub(crate) fn resolve_path(path: &Path) -> io::Result<PathBuf> {
    let mut missing = Vec::new();
    let mut existing = path;
    loop {
        match existing.canonicalize() {
            Ok(mut resolved) => {
                for component in missing.into_iter().rev() {
                    match component {
                        Component::ParentDir => {
                            resolved.pop();
                        }
                        other => resolved.push(other),
                    }
                }
                return Ok(resolved);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let (Some(parent), Some(last)) = (existing.parent(), existing.components().next_back())
                else {
                    return Err(error);
                };
                missing.push(last);
                existing = parent;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Refuses a state root that cannot be one. One that is not there yet is fine.
pub(crate) fn check_state_root(path: &Path) -> Result<(), CliError> {
    let unusable = |why: &str| {
        CliError::new(
            Exit::Infrastructure,
            format!("the state root {} {why}", shorten(&path.to_string_lossy())),
        )
    };
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_dir() => Err(unusable("is not a directory")
            .hint("pikaci --state-root DIR, with a directory or a name that is free")),
        Ok(_) => match std::fs::read_dir(path) {
            Ok(_) => Ok(()),
            Err(error) => Err(unusable("cannot be read").because(error).hint(look_at(path))),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(unusable("cannot be reached").because(error).hint(look_at(path))),
    }
}

/// Refuses a state root that somebody chose (resolved) and that is used for something else. A
/// state root is kept out of snapshots and out of git with all that is in it: made of a directory
/// of sources, it would silently take them out of every check.
pub(crate) fn check_chosen_state_root(path: &Path) -> Result<(), CliError> {
    const HINT: &str = "pikaci --state-root DIR, with a name that is free or an empty directory";
    let shown = shorten(&path.to_string_lossy());
    if path.ancestors().any(is_git_directory) {
        let message = format!("the state root {shown} is inside a git directory, which is git's own");
        return Err(CliError::usage(message).hint(HINT));
    }
    check_state_root(path)?;
    let layout = Layout::new(path);
    let known = layout.engine().is_file() || layout.runs().is_dir();
    let used = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    if known || !used {
        return Ok(());
    }
    let message = format!("the directory {shown} is no state root: it has other things in it");
    Err(CliError::usage(message).hint(HINT))
}

/// By its name, or by what git looks for itself, so that a bare repository is one too.
fn is_git_directory(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == ".git")
        || (path.join("HEAD").is_file() && path.join("objects").is_dir() && path.join("refs").is_dir())
}

/// A command that shows what stands in the way of a path.
pub(crate) fn look_at(path: &Path) -> String {
    format!("ls -ld {}", typed(existing(path)))
}

/// The path, or the nearest directory above it that is there.
pub(crate) fn existing(path: &Path) -> &Path {
    path.ancestors().find(|above| above.symlink_metadata().is_ok()).unwrap_or(path)
}
