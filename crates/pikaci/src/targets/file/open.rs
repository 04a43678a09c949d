//! The bytes of the file: what stands in its place, how large it is, whether they are text.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::super::{Problem, TargetError};
use super::reader::place;

/// Far above any file that a person writes, far below what would be felt.
const MOST_BYTES: u64 = 1 << 20;

/// The bytes, or `None` when there is no file of this name.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, TargetError> {
    let failed = |source| TargetError::File { path: path.to_owned(), source };
    let not_a_file = |what: &str| TargetError::NotAFile { path: path.to_owned(), what: what.to_owned() };
    // Asked before it is opened: opening a FIFO waits for a writer.
    let kind = match fs::metadata(path) {
        Ok(metadata) => metadata.file_type(),
        // A part of the way there may be a file of something else.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            let dangling = fs::symlink_metadata(path).is_ok();
            return if dangling { Err(not_a_file("a symbolic link to nothing")) } else { Ok(None) };
        }
        Err(error) => return Err(failed(error)),
    };
    if kind.is_dir() {
        return Err(not_a_file("a directory, not a file"));
    }
    if kind.is_fifo() {
        return Err(not_a_file("a FIFO, not a file"));
    }
    if !kind.is_file() {
        return Err(not_a_file("a device or a socket, not a file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(TargetError::TooLarge { path: path.to_owned() });
    }
    Ok(Some(bytes))
}

/// The text, without the byte order mark that some editors put first.
/// `file` is its name in a problem.
pub(crate) fn decode<'b>(file: &str, bytes: &'b [u8]) -> Result<&'b str, Problem> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let valid = &bytes[..error.valid_up_to()];
        let (line, column) = place(&String::from_utf8_lossy(valid), valid.len());
        Problem {
            file: file.to_owned(),
            line,
            column,
            message: format!("the byte 0x{:02x} is not UTF-8", bytes[error.valid_up_to()]),
            help: Some("save the file as UTF-8".to_owned()),
        }
    })
}
