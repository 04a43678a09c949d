//! File operations that the standard library does not offer.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{CWD, FallocateFlags, FileType, Mode};

/// Makes sure that `length` bytes from the start of `file` can be written later without running
/// out of space. The size of the file as readers see it does not change.
///
/// # Errors
/// `StorageFull` when the space is not there; `Unsupported` when the file system cannot reserve.
pub fn reserve(file: &File, length: u64) -> io::Result<()> {
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, length) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map_err(Into::into),
        }
    }
}

/// Makes a named pipe that only this user may open.
///
/// # Errors
/// What mknod(2) says; `AlreadyExists` when there is something at `path`.
pub fn make_fifo(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?)
}
