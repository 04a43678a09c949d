//! Files, links and directories of a tree that is being made: written from a stream, copied or linked
//! from another tree, moved into place.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use jericho_manifest::at::{self, DirCursor, Failed};
use jericho_manifest::delta::Content;
use jericho_manifest::protocol::Fault;
use jericho_manifest::shown::shown;
use jericho_manifest::{ContentHash, Delta, Encoded, Entry, EntryKind, Manifest};
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::check;
use super::refused::Refused;
use super::work_dir::write_all;

/// Up to this length a content is held in memory, to be written to all of its entries.
const SMALL: u64 = 1 << 20;
/// What is read at once of a longer one.
const PIECE: usize = 256 << 10;

/// Where new files go.
pub(super) enum Place<'t> {
    /// To their paths.
    Tree(DirCursor<'t>),
    /// Into one directory, by position: nothing of the base is touched before all is there.
    Aside(BorrowedFd<'t>),
}

/// Writes contents.
pub(super) struct Writer<'t> {
    place: Place<'t>,
    set: &'t Manifest,
    buffer: Vec<u8>,
}

impl<'t> Writer<'t> {
    pub(super) fn new(place: Place<'t>, set: &'t Manifest) -> Self {
        Self { place, set, buffer: Vec::new() }
    }

    /// Reads a content and writes it to all of its entries, proving it against its name.
    pub(super) fn write(&mut self, content: &Content<'_>, from: &mut dyn Read) -> Result<(), Refused> {
        if content.size <= SMALL {
            let mut bytes = std::mem::take(&mut self.buffer);
            bytes.resize(usize::try_from(content.size).unwrap_or(0), 0);
            let written = from.read_exact(&mut bytes).map_err(|error| lost(&error)).and_then(|()| {
                self.prove(content, ContentHash::of(&bytes))?;
                content.entries.iter().try_for_each(|&position| self.create(position, &bytes).map(drop))
            });
            self.buffer = bytes;
            return written;
        }
        let mut files = Vec::new();
        for &position in &content.entries {
            files.extend(self.create(position, b"")?);
        }
        let mut hasher = Sha256::new();
        let mut left = content.size;
        let mut buffer = vec![0; PIECE];
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let piece = buffer.get_mut(..length).unwrap_or_default();
            from.read_exact(piece).map_err(|error| lost(&error))?;
            hasher.update(&*piece);
            for (position, file) in content.entries.iter().zip(&files) {
                write_all(file, piece).map_err(|errno| self.failed("write", *position, errno))?;
            }
            left -= length as u64;
        }
        self.prove(content, ContentHash(hasher.finalize().into()))
    }

    fn prove(&self, content: &Content<'_>, found: ContentHash) -> Result<(), Refused> {
        if found == content.hash {
            return Ok(());
        }
        let path = content.entries.first().map_or_else(String::new, |&position| self.shown(position));
        // Of a base it is the tree there that is wrong.
        let fault = if content.base.is_some() { Fault::Base } else { Fault::Content };
        Err(Refused::new(fault, format!("the content for {path} is not what its name says")))
    }

    /// Makes one entry, with `bytes` as the start of it. The file, when it is one.
    fn create(&mut self, position: usize, bytes: &[u8]) -> Result<Option<OwnedFd>, Refused> {
        let set = self.set;
        let Some(entry) = set.at(position) else { return Ok(None) };
        let own_name;
        let (parent, name) = match &mut self.place {
            Place::Tree(cursor) => {
                let (dir, name) = at::split(entry.path);
                let parent = cursor.enter_or_make(dir).map_err(|errno| {
                    Refused::step(format_args!("make the directory of {}", shown(entry.path)), errno)
                })?;
                (parent, name)
            }
            Place::Aside(dir) => {
                own_name = position.to_string();
                (*dir, own_name.as_bytes())
            }
        };
        let made = match entry.kind {
            EntryKind::Symlink => rustix::fs::symlinkat(bytes, parent, name).map(|()| None),
            EntryKind::File | EntryKind::Executable => new_file(parent, name, entry.kind)
                .and_then(|file| write_all(&file, bytes).map(|()| Some(file))),
        };
        made.map_err(|errno| self.failed("write", position, errno))
    }

    fn failed(&self, action: &str, position: usize, errno: Errno) -> Refused {
        Refused::step(format_args!("{action} {}", self.shown(position)), errno)
    }

    fn shown(&self, position: usize) -> String {
        self.set.at(position).map_or_else(String::new, |entry| shown(entry.path))
    }
}

fn lost(error: &io::Error) -> Refused {
    Refused::io("read what is sent", error)
}

/// Always a new inode: others may have the old one under another name.
fn new_file(parent: impl AsFd, name: &[u8], kind: EntryKind) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = if kind == EntryKind::Executable { 0o755 } else { 0o644 };
    rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(mode))
}

/// A tree that is not what its manifest says, as far as errors tell.
fn of_base(refused: impl FnOnce(Errno) -> Refused, errno: Errno) -> Refused {
    let misses = [Errno::NOENT, Errno::NOTDIR, Errno::ISDIR, Errno::NOTEMPTY, Errno::EXIST, Errno::LOOP];
    let refused = refused(errno);
    if misses.contains(&errno) { Refused { fault: Fault::Base, ..refused } } else { refused }
}

/// Removes what goes, so that new entries find their places free.
pub(super) fn remove_gone(root: BorrowedFd<'_>, delta: &Delta) -> Result<(), Refused> {
    let removed = at::remove_files(root, delta.gone_paths());
    removed.map(drop).map_err(|failed: Failed| of_base(|_| Refused::in_tree(&failed), failed.errno))
}

/// Moves what [`Place::Aside`] took to its paths, over what is there.
pub(super) fn move_in(root: BorrowedFd<'_>, aside: BorrowedFd<'_>, set: &Manifest) -> Result<(), Refused> {
    let mut cursor = DirCursor::new(root);
    for (position, entry) in set.iter().enumerate() {
        let (dir, name) = at::split(entry.path);
        let moved = cursor
            .enter_or_make(dir)
            .and_then(|parent| rustix::fs::renameat(aside, position.to_string().as_str(), parent, name));
        moved.map_err(|errno| {
            of_base(|errno| Refused::step(format_args!("put {} in place", shown(entry.path)), errno), errno)
        })?;
    }
    Ok(())
}

/// Gives the tree at `root` the files of another one that are in `manifest` and not in `set`. They are the
/// same files where the file system allows it: nobody writes to them.
pub(super) fn link_kept(
    from: BorrowedFd<'_>,
    root: BorrowedFd<'_>,
    manifest: &Encoded,
    set: &Manifest,
) -> Result<(), Refused> {
    let mut new = set.iter().peekable();
    let (mut source, mut target) = (DirCursor::new(from), DirCursor::new(root));
    let mut links = true;
    for entry in manifest.iter() {
        if new.next_if(|new| new.path == entry.path).is_some() {
            continue;
        }
        let (dir, name) = at::split(entry.path);
        let failed = |errno| Refused::step(format_args!("take over {}", shown(entry.path)), errno);
        let from = source.enter(dir).map_err(|errno| of_base(failed, errno))?;
        let to = target.enter_or_make(dir).map_err(failed)?;
        if links {
            match rustix::fs::linkat(from, name, to, name, AtFlags::empty()) {
                Ok(()) => continue,
                // No links here, no more of this file, or not of files like this one.
                Err(Errno::PERM | Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS) => links = false,
                Err(Errno::MLINK) => {}
                Err(errno) => return Err(of_base(failed, errno)),
            }
        }
        copy(from, to, name, &entry).map_err(|error| {
            let refused = Refused::io(format_args!("copy {}", shown(entry.path)), &error);
            of_base(|_| refused, error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))
        })?;
    }
    Ok(())
}

/// Copies one entry with its time.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &[u8], entry: &Entry<'_>) -> io::Result<()> {
    if entry.kind == EntryKind::Symlink {
        let target = rustix::fs::readlinkat(from, name, Vec::new())?;
        return Ok(rustix::fs::symlinkat(&target, to, name)?);
    }
    let mut source = check::open_file(from, name)?;
    let stat = rustix::fs::fstat(&source)?;
    let mut target = std::fs::File::from(new_file(to, name, entry.kind)?);
    if io::copy(&mut source, &mut target)? != entry.size {
        return Err(Errno::NOENT.into());
    }
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0) };
    Ok(rustix::fs::futimens(&target, &Timestamps { last_access: time, last_modification: time })?)
}
