//! Makes a prepared output visible: a symbolic link where a job looks for it.
//!
//! The link replaces whatever was there in one step, so nobody ever finds nothing. Below a run
//! directory even a directory tree gives way (a job may have made one); outside of one only a
//! file, a link or an empty directory does.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use jericho_host::fs::remove_tree;
use rustix::fs::{AtFlags, readlinkat, renameat, symlinkat, unlinkat};
use rustix::io::Errno;

use super::OutputsError;
use crate::beneath;

/// Makes `path` a link to `realized`. With a run directory, `path` must lie below it, also after
/// symbolic links: those on the way are refused.
///
/// # Errors
/// [`OutputsError::Invalid`] for a path that is not absolute and plain or leaves the run
/// directory, [`OutputsError::Expose`].
pub fn expose(run_dir: Option<&Path>, path: &Path, realized: &Path) -> Result<(), OutputsError> {
    check_absolute(path)?;
    let failed = |source| OutputsError::Expose { path: path.to_path_buf(), source };
    match run_dir {
        Some(run_dir) => {
            let relative = below(run_dir, path)?;
            let (parent, name) = beneath::split(&relative).map_err(failed)?;
            let dir = beneath::walk(run_dir, parent, true).map_err(failed)?;
            let name = Path::new(name);
            link(&dir, name, realized, |aside| {
                // The tree has a new name by now, which nobody waits for.
                remove_tree(&run_dir.join(parent).join(aside))
            })
            .map_err(failed)
        }
        None => {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(OutputsError::Invalid(format!("{}: not a place for a link", path.display())));
            };
            std::fs::create_dir_all(parent).map_err(failed)?;
            let dir = beneath::walk(parent, Path::new(""), false).map_err(failed)?;
            match unlinkat(&dir, name, AtFlags::REMOVEDIR) {
                // Not there, or not a directory: the link replaces it.
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(Errno::NOTEMPTY | Errno::EXIST) => {
                    return Err(failed(io::Error::new(
                        io::ErrorKind::DirectoryNotEmpty,
                        "a directory with something in it is in the way, and lies in no run directory",
                    )));
                }
                Err(other) => return Err(failed(other.into())),
            }
            link(&dir, Path::new(name), realized, |_| Ok(())).map_err(failed)
        }
    }
}

/// Whether a path is absolute and has neither `.` nor `..` in it.
///
/// # Errors
/// [`OutputsError::Invalid`], naming it.
pub(super) fn check_absolute(path: &Path) -> Result<(), OutputsError> {
    let mut components = path.components();
    let plain = components.next() == Some(Component::RootDir)
        && components.all(|component| matches!(component, Component::Normal(_)))
        // `components` passes over a `.` in the middle.
        && !path.as_os_str().as_encoded_bytes().split(|byte| *byte == b'/').any(|part| part == b".");
    if plain {
        return Ok(());
    }
    Err(OutputsError::Invalid(format!("{}: not an absolute path without `.` and `..`", path.display())))
}

fn below(run_dir: &Path, path: &Path) -> Result<PathBuf, OutputsError> {
    if let Ok(relative) = path.strip_prefix(run_dir) {
        return Ok(relative.to_path_buf());
    }
    // The state root may be reached by more than one name.
    if let Ok(run_dir) = run_dir.canonicalize()
        && let Ok(relative) = path.strip_prefix(run_dir)
    {
        return Ok(relative.to_path_buf());
    }
    Err(OutputsError::Invalid(format!(
        "{}: not below the run directory {}",
        path.display(),
        run_dir.display()
    )))
}

fn link(
    dir: &OwnedFd,
    name: &Path,
    target: &Path,
    remove_aside: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let dir = dir.as_fd();
    if let Ok(known) = readlinkat(dir, name, Vec::new())
        && known.as_bytes() == target.as_os_str().as_encoded_bytes()
    {
        return Ok(());
    }
    let temporary = temporary_name();
    symlinkat(target, dir, &temporary)?;
    let renamed = match renameat(dir, &temporary, dir, name) {
        // A directory does not give way to a link.
        Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => {
            let aside = temporary_name();
            renameat(dir, name, dir, &aside)
                .and_then(|()| renameat(dir, &temporary, dir, name))
                .map_err(io::Error::from)
                .and_then(|()| remove_aside(&aside))
        }
        other => other.map_err(io::Error::from),
    };
    if renamed.is_err() {
        let _ = unlinkat(dir, &temporary, AtFlags::empty());
    }
    renamed
}

fn temporary_name() -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    PathBuf::from(format!(".exposure.{}-{count}.tmp", std::process::id()))
}
