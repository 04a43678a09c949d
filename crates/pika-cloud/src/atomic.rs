//! Replaces a file in one step: a reader sees the old content or the new, never a part.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use jericho_host::fs::sync_dir;

/// Whether a write is on disk once it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    /// It is.
    Now,
    /// When the system comes to it. A loss of power may take it back, the end of a process does not.
    Later,
}

/// Writes `.tmp.<name>.<pid>.<n>` beside the file, syncs it, renames it over the file and syncs
/// the directory: a guest that is stopped by force a moment later must still show its result.
///
/// Missing parent directories are made. On failure the temporary file is removed and the old
/// content is untouched.
pub(crate) fn write_atomic(path: &Path, content: &[u8], sync: Sync) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"))?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(directory)?;
    let (temporary, file) = create_temporary(directory, name)?;
    let written = fill(file, content, sync).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // The first error is the one to tell; a left-over is harmless and named as one.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    if sync == Sync::Now { sync_dir(directory) } else { Ok(()) }
}

fn fill(mut file: File, content: &[u8], sync: Sync) -> io::Result<()> {
    file.write_all(content)?;
    if sync == Sync::Now { file.sync_all() } else { Ok(()) }
}

fn create_temporary(directory: &Path, name: &OsStr) -> io::Result<(PathBuf, File)> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    loop {
        let mut temporary = OsString::from(".tmp.");
        temporary.push(name);
        temporary.push(format!(".{}.{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
        let temporary = directory.join(temporary);
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Ok(file) => return Ok((temporary, file)),
            // A left-over of a killed process that had this id, or a writer in another pid namespace.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_files_stand_beside_their_target_under_the_documented_name() {
        let directory = tempfile::tempdir().unwrap();
        let (path, _file) = create_temporary(directory.path(), OsStr::new("status.json")).unwrap();
        assert_eq!(path.parent(), Some(directory.path()));
        let name = path.file_name().unwrap().to_str().unwrap();
        let rest = name.strip_prefix(".tmp.status.json.").unwrap();
        let (pid, number) = rest.split_once('.').unwrap();
        assert_eq!(pid, std::process::id().to_string());

        // What a killed process of the same id left is neither used nor removed.
        let number: u32 = number.parse().unwrap();
        for taken in number + 1..number + 4 {
            fs::write(directory.path().join(format!(".tmp.status.json.{pid}.{taken}")), "left").unwrap();
        }
        write_atomic(&directory.path().join("status.json"), b"new", Sync::Now).unwrap();
        assert_eq!(fs::read(directory.path().join("status.json")).unwrap(), b"new");
        let left = directory.path().join(format!(".tmp.status.json.{pid}.{}", number + 1));
        assert_eq!(fs::read(left).unwrap(), b"left");
    }

    #[test]
    fn a_path_without_a_file_name_is_an_error() {
        assert_eq!(
            write_atomic(Path::new("/"), b"", Sync::Now).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        assert_eq!(
            write_atomic(Path::new(""), b"", Sync::Now).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }
}
