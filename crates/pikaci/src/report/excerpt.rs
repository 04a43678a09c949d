//! Head and tail of a log that may be long, cut where lines end.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

/// What is shown of a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Excerpt {
    /// The beginning; all of it when nothing is left out.
    pub(crate) head: Vec<u8>,
    /// Bytes between head and tail.
    pub(crate) left_out: u64,
    /// The end; empty when nothing is left out.
    pub(crate) tail: Vec<u8>,
}

impl Excerpt {
    /// At most `head` bytes of the beginning and `tail` bytes of the end of a file.
    pub(crate) fn of(file: &mut File, head: u64, tail: u64) -> io::Result<Self> {
        // The log of a job that runs grows while it is read.
        let length = file.metadata()?.len();
        let read = |file: &mut File, from: u64, most: u64| -> io::Result<Vec<u8>> {
            file.seek(SeekFrom::Start(from))?;
            let mut bytes = Vec::new();
            file.take(most).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        if length <= head.saturating_add(tail) {
            return Ok(Self { head: read(file, 0, length)?, left_out: 0, tail: Vec::new() });
        }
        let mut first = read(file, 0, head)?;
        if let Some(end) = first.iter().rposition(|byte| *byte == b'\n') {
            first.truncate(end + 1);
        }
        let mut last = read(file, length - tail, tail)?;
        // A last line longer than the tail is shown in part.
        if let Some(end) = last.iter().position(|byte| *byte == b'\n').filter(|end| end + 1 < last.len()) {
            last.drain(..=end);
        }
        let shown = (first.len() + last.len()) as u64;
        Ok(Self { head: first, left_out: length - shown.min(length), tail: last })
    }

    /// Only the end.
    pub(crate) fn tail_of(file: &mut File, tail: u64) -> io::Result<Self> {
        Self::of(file, 0, tail)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn excerpt(content: &[u8], head: u64, tail: u64) -> (String, u64, String) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        let Excerpt { head, left_out, tail } = Excerpt::of(&mut file, head, tail).unwrap();
        (String::from_utf8(head).unwrap(), left_out, String::from_utf8(tail).unwrap())
    }

    #[test]
    fn a_long_log_is_cut_between_lines_and_what_is_left_out_is_counted() {
        let is = |head: &str, left_out, tail: &str| (head.to_owned(), left_out, tail.to_owned());
        assert_eq!(excerpt(b"one\ntwo\nthree\n", 100, 100), is("one\ntwo\nthree\n", 0, ""));
        assert_eq!(excerpt(b"one\ntwo\nthree\n", 7, 7), is("one\ntwo\nthree\n", 0, ""));
        assert_eq!(excerpt(b"one\ntwo\nthree\nfour\n", 5, 7), is("one\n", 10, "four\n"));
        assert_eq!(excerpt(b"one\ntwo\nthree\nfour\n", 0, 7), is("", 14, "four\n"));
        assert_eq!(excerpt(b"", 0, 7), is("", 0, ""));
        // Nowhere to cut.
        assert_eq!(excerpt(b"0123456789", 2, 3), is("01", 5, "789"));
        assert_eq!(excerpt(b"012345678\n", 2, 3), is("01", 5, "78\n"));
    }
}
