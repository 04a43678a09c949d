//! A workspace after its job, as this process can see it: the tree below and what the job wrote
//! on top of it, without mounting anything.
//!
//! It reads what an overlay leaves in its upper directory: whiteouts, opaque directories,
//! renamed directories. No symbolic link is ever followed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::beneath;
use crate::snapshot::at;

/// A directory of the workspace: at least one of the two is there.
#[derive(Debug)]
pub(super) struct Dir {
    upper: Option<OwnedFd>,
    lower: Option<OwnedFd>,
}

/// What has a name in a directory.
#[derive(Debug)]
pub(super) enum Node {
    Dir(Dir),
    File(File),
    Link,
    /// A FIFO, a socket, a device.
    Other,
}

/// The two trees of an overlay, or one plain tree.
#[derive(Debug)]
pub(super) struct Roots<'a> {
    pub(super) upper: Option<&'a Path>,
    pub(super) lower: &'a Path,
}

impl Roots<'_> {
    pub(super) fn open(&self) -> io::Result<Dir> {
        let upper = self.upper.map(at::open_root).transpose()?;
        Ok(Dir { upper, lower: Some(at::open_root(self.lower)?) })
    }
}

impl Dir {
    /// The names in it, sorted; some may turn out not to be there.
    pub(super) fn names(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        for dir in [&self.upper, &self.lower].into_iter().flatten() {
            names.extend(at::names_in(dir)?);
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// What has this name; nothing when nothing has.
    pub(super) fn look(&self, name: &[u8], roots: &Roots<'_>) -> io::Result<Option<Node>> {
        let Some(upper) = &self.upper else { return Ok(in_one(self.lower.as_ref(), name)?) };
        let stat = match at::lstat(upper, name) {
            Err(Errno::NOENT) => return Ok(in_one(self.lower.as_ref(), name)?),
            other => other?,
        };
        match at::kind_of(&stat) {
            FileType::CharacterDevice if stat.st_rdev == 0 => Ok(None),
            FileType::Directory => {
                let own = at::open_dir(upper, name)?;
                let lower = match attribute(&own, c"trusted.overlay.redirect") {
                    _ if attribute(&own, c"trusted.overlay.opaque").is_some_and(|value| value == b"y") => {
                        None
                    }
                    Some(redirect) => self.redirected(&redirect, roots)?,
                    None => self.lower_dir(name)?,
                };
                Ok(Some(Node::Dir(Dir { upper: Some(own), lower })))
            }
            FileType::RegularFile => {
                let file = open_file(upper, name)?;
                // Only its mode or owner was changed: the content is below.
                if attribute(&file, c"trusted.overlay.metacopy").is_some() {
                    return Ok(in_one(self.lower.as_ref(), name)?);
                }
                Ok(Some(Node::File(file)))
            }
            FileType::Symlink => Ok(Some(Node::Link)),
            _ => Ok(Some(Node::Other)),
        }
    }

    fn lower_dir(&self, name: &[u8]) -> io::Result<Option<OwnedFd>> {
        let Some(lower) = &self.lower else { return Ok(None) };
        match at::open_dir(lower, name) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Where a renamed directory was before: a name in this directory, or a path from the top.
    fn redirected(&self, to: &[u8], roots: &Roots<'_>) -> io::Result<Option<OwnedFd>> {
        let Some(path) = to.strip_prefix(b"/") else { return self.lower_dir(to) };
        match beneath::walk(roots.lower, at::path_of(path), false) {
            Ok(dir) => Ok(Some(dir)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn in_one(dir: Option<&OwnedFd>, name: &[u8]) -> rustix::io::Result<Option<Node>> {
    let Some(dir) = dir else { return Ok(None) };
    let stat = match at::lstat(dir, name) {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    Ok(Some(match at::kind_of(&stat) {
        FileType::Directory => Node::Dir(Dir { upper: None, lower: Some(at::open_dir(dir, name)?) }),
        FileType::RegularFile => Node::File(open_file(dir, name)?),
        FileType::Symlink => Node::Link,
        _ => Node::Other,
    }))
}

fn open_file(dir: &OwnedFd, name: &[u8]) -> rustix::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::openat(dir, name, flags, Mode::empty()).map(File::from)
}

/// An extended attribute that only an overlay sets; a tree on a file system without any has none.
fn attribute(file: impl AsFd, name: &std::ffi::CStr) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let length = rustix::fs::fgetxattr(file, name, value.as_mut_slice()).ok()?;
    value.truncate(length);
    Some(value)
}
