//! Opens and makes what lies below a directory without ever following a symbolic link.
//!
//! Jobs write below their own directories, so a name there may be anything by the time it is
//! looked at; here it can only be what it says.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

/// Opens a regular file for reading.
///
/// # Errors
/// What open(2) says; [`io::ErrorKind::InvalidInput`] when a component is a symbolic link, or
/// the file is none.
pub(crate) fn open_file(dir: &Path, relative: &Path) -> io::Result<File> {
    let (parent, name) = split(relative)?;
    let parent = walk(dir, parent, false)?;
    // A FIFO that a job left must not block its reader.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(openat(&parent, name, flags, Mode::empty()).map_err(error_of)?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(refused("not a file")) }
}

/// Opens a directory, and makes it and those above it when asked to.
///
/// # Errors
/// As [`open_file`].
pub(crate) fn walk(dir: &Path, relative: &Path, make: bool) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = openat(rustix::fs::CWD, dir, flags, Mode::empty())?;
    for component in relative.components() {
        let Component::Normal(name) = component else { return Err(refused("not a plain relative path")) };
        if make {
            match mkdirat(&at, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        at = openat(&at, name, flags | OFlags::NOFOLLOW, Mode::empty()).map_err(error_of)?;
    }
    Ok(at)
}

/// Parent and name of a plain relative path.
pub(crate) fn split(relative: &Path) -> io::Result<(&Path, &std::ffi::OsStr)> {
    match (relative.parent(), relative.components().next_back()) {
        (Some(parent), Some(Component::Normal(name))) => Ok((parent, name)),
        _ => Err(refused("not a plain relative path")),
    }
}

fn error_of(error: Errno) -> io::Error {
    match error {
        // With NOFOLLOW: the last component is a symbolic link.
        Errno::LOOP | Errno::MLINK => refused("a symbolic link is in the way"),
        other => other.into(),
    }
}

fn refused(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}
