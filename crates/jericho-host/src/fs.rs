//! Atomic writes, publication by rename, removal: on this machine.
//!
//! Temporary names stand in the directory of their target, start with a dot and end in `.tmp`;
//! what a crash leaves of them is safe to remove when the process in the name is gone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};

use crate::host::Published;

/// Replaces a file: temporary name in the same directory, rename. A reader sees the old or the
/// new content, never a part. Mode 0644 less the umask. `durable` also syncs file and directory.
///
/// # Errors
/// Of the first step that failed; the temporary file is gone and the target as it was then.
pub fn write_atomic(path: &Path, content: &[u8], durable: bool) -> io::Result<()> {
    let (temporary, mut file) = create_beside(path)?;
    let written = (|| {
        file.write_all(content)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)
    })();
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    if durable { sync_dir(parent(path)) } else { Ok(()) }
}

/// Renames the directory `staged` to `target`, atomically. A target that exists wins, and
/// `staged` is removed. Both lie on one file system.
///
/// # Errors
/// Of the rename, or of the removal of what lost.
pub fn publish_dir(staged: &Path, target: &Path) -> io::Result<Published> {
    // A plain rename would replace an empty directory that somebody else has just published.
    let renamed = match rustix::fs::renameat_with(CWD, staged, CWD, target, RenameFlags::NOREPLACE) {
        // The file system does not know the flag: all published directories are non-empty
        // there or equal, so that a plain rename does no harm.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => fs::rename(staged, target),
        other => other.map_err(io::Error::from),
    };
    match renamed {
        Ok(()) => Ok(Published::Renamed),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty)
                && fs::symlink_metadata(target).is_ok_and(|known| known.is_dir())
                && fs::symlink_metadata(staged).is_ok() =>
        {
            remove_tree(staged)?;
            Ok(Published::AlreadyThere)
        }
        Err(error) => Err(error),
    }
}

/// Removes a file or a tree, never following symbolic links. What is gone is success, and so is
/// what somebody else removes at the same time. Directories that forbid it are made writable.
///
/// # Errors
/// Of the first entry that would not go.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let Err(error) = remove_plainly(path) else { return Ok(()) };
    if error.kind() != io::ErrorKind::PermissionDenied {
        return Err(error);
    }
    make_writable(path)?;
    remove_plainly(path)
}

/// Syncs a directory, so that names in it survive a power loss.
///
/// # Errors
/// What open(2) or fsync(2) says.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Opens a file for appending; it is made, with mode 0644 less the umask, when it is not there.
///
/// # Errors
/// What open(2) says.
pub fn open_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o644).open(path)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A name that no other process on this machine uses now: process id and a counter.
fn temporary_name(stem: &str) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    // The target's name may be as long as names can be.
    let stem: String = stem.chars().take(40).collect();
    format!(".{stem}.{}-{count}.tmp", std::process::id())
}

/// Makes an empty directory, for this user alone, under a temporary name in `dir`.
///
/// # Errors
/// What mkdir(2) says.
pub fn create_temporary_dir(dir: &Path, stem: &str) -> io::Result<PathBuf> {
    loop {
        let path = dir.join(temporary_name(stem));
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            // Left by an earlier process with our id.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other.map(|()| path),
        }
    }
}

fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"));
    };
    loop {
        let temporary = parent(path).join(temporary_name(&name.to_string_lossy()));
        match OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other.map(|file| (temporary, file)),
        }
    }
}

fn remove_plainly(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(known) if known.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Gives the owner all rights on every directory of a tree, top down. Opens by descriptor and
/// without following links, so that a tree that is changed meanwhile leads nowhere else.
fn make_writable(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(known) if known.is_dir() => {}
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    // A directory without any right cannot be opened, so the first step is by name.
    let known = fs::symlink_metadata(path)?.permissions().mode();
    if known & 0o700 != 0o700 {
        let mode = Mode::from_raw_mode(known | 0o700);
        match rustix::fs::chmodat(CWD, path, mode, AtFlags::SYMLINK_NOFOLLOW) {
            // Kernels before 6.6 cannot chmod without following: what is a directory now is not
            // a link, and whoever may swap it for one could have changed the target themselves.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                rustix::fs::chmodat(CWD, path, mode, AtFlags::empty())?;
            }
            other => other?,
        }
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Ok(dir) => dir,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for entry in rustix::fs::Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." || !may_be_dir(entry.file_type()) {
            continue;
        }
        make_writable(&path.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name)))?;
    }
    Ok(())
}

fn may_be_dir(kind: rustix::fs::FileType) -> bool {
    matches!(kind, rustix::fs::FileType::Directory | rustix::fs::FileType::Unknown)
}
