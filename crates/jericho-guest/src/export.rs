//! Tells the files below a directory with their contents, for an engine that brings them home.
//!
//! What is there may have been put there to mislead: links are not followed, and nothing but a file is read.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags};

use crate::BOOTSTRAP_ERROR;
use crate::frame;
use crate::runner::complain;

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportLimits {
    /// Files.
    pub files: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// Tells one frame for each file, warnings, and the sums at the end. A directory that is not there has no
/// files.
pub(crate) fn export(dir: &Path, limits: ExportLimits) -> u8 {
    let mut out = io::BufWriter::with_capacity(256 << 10, io::stdout());
    match try_export(dir, limits, &mut out).and_then(|()| out.flush()) {
        Ok(()) => 0,
        Err(error) => {
            complain(&format!("cannot send {}: {error}", dir.display()));
            BOOTSTRAP_ERROR
        }
    }
}

fn try_export(dir: &Path, limits: ExportLimits, out: &mut dyn Write) -> io::Result<()> {
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut sums = (0u64, 0u64);
    let root = match rustix::fs::openat(CWD, dir, directory, Mode::empty()) {
        Ok(root) => root,
        Err(rustix::io::Errno::NOENT) => return frame::put(out, "end", &[0, 0], &[]),
        Err(error) => return Err(error.into()),
    };
    // Directories that wait, as paths: descriptors would run out.
    let mut waiting = vec![Vec::new()];
    let mut left_out = 0u64;
    while let Some(path) = waiting.pop() {
        let opened = if path.is_empty() {
            rustix::fs::openat(&root, ".", directory, Mode::empty())
        } else {
            open(&root, &path, directory)
        };
        let Ok(here) = opened else {
            frame::put(out, "warning", &[], &[b"cannot be read: ", path.as_slice()].concat())?;
            continue;
        };
        let mut names = Vec::new();
        for entry in Dir::read_from(&here)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort();
        let mut below = Vec::new();
        for name in names {
            let inner = if path.is_empty() { name.clone() } else { [path.as_slice(), b"/", &name].concat() };
            let stat = match rustix::fs::statat(&here, name.as_slice(), rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
            {
                Ok(stat) => stat,
                Err(error) => {
                    frame::put(
                        out,
                        "warning",
                        &[],
                        &[&inner, b": ".as_slice(), error.to_string().as_bytes()].concat(),
                    )?;
                    continue;
                }
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => below.push(inner),
                FileType::RegularFile => {
                    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
                    if sums.0 >= limits.files || size > limits.bytes - sums.1 {
                        left_out += 1;
                        continue;
                    }
                    if let Some(bytes) = send(&here, &name, &inner, limits.bytes - sums.1, out)? {
                        sums = (sums.0 + 1, sums.1 + bytes);
                    }
                }
                _ => {
                    frame::put(out, "warning", &[], &[inner.as_slice(), b": is no file"].concat())?;
                }
            }
        }
        waiting.extend(below.into_iter().rev());
    }
    if left_out > 0 {
        let line = format!(
            "{left_out} files were left out: there are more than {} files or {} bytes",
            limits.files, limits.bytes
        );
        frame::put(out, "warning", &[], line.as_bytes())?;
    }
    frame::put(out, "end", &[sums.0, sums.1], &[])
}

fn open(root: &OwnedFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, rustix::io::Errno> {
    use rustix::fs::ResolveFlags;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)
}

/// Tells one file. Nothing when it cannot be read, which is told in its place.
fn send(dir: &OwnedFd, name: &[u8], path: &[u8], most: u64, out: &mut dyn Write) -> io::Result<Option<u64>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(io::Error::from);
    let opened = opened.map(File::from).and_then(|file| file.metadata().map(|metadata| (file, metadata)));
    let (file, metadata) = match opened {
        Ok((file, metadata)) if metadata.is_file() && metadata.len() <= most => (file, metadata),
        Ok(_) => return Ok(None),
        Err(error) => {
            let line = [path, b": ", error.to_string().as_bytes()].concat();
            return frame::put(out, "warning", &[], &line).map(|()| None);
        }
    };
    let size = metadata.len();
    let mode = u64::from(metadata.mode() & 0o777);
    frame::head(out, "file", &[mode, path.len() as u64], path.len() as u64 + size)?;
    out.write_all(path)?;
    let copied = io::copy(&mut file.take(size), out)?;
    if copied != size {
        // So many were promised, and there is nothing else to say it with.
        return Err(io::Error::other("a file became shorter while it was read"));
    }
    Ok(Some(size))
}
