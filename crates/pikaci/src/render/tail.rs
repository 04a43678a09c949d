//! The end of a log, for the eye: the last lines, bounded, nothing that steers a terminal.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::text::printable;

/// At most this many lines.
const LINES: usize = 20;
/// From at most this many bytes.
const BYTES: u64 = 4096;

/// The last lines of a log; none when it is empty.
pub(super) fn last_lines(log: &Path) -> io::Result<Vec<String>> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    let start = length.saturating_sub(BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(BYTES).read_to_end(&mut bytes)?;
    Ok(lines(&bytes, start > 0))
}

fn lines(bytes: &[u8], cut: bool) -> Vec<String> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    // The first is a part of a line, unless it is all there is.
    if cut && lines.len() > 1 {
        lines.remove(0);
    }
    let last = &lines[lines.len().saturating_sub(LINES)..];
    last.iter().map(|line| shown(line)).collect()
}

/// A line of a log as it can be shown: what a terminal would have left of it, harmless.
pub(super) fn shown(line: &[u8]) -> String {
    printable(&plain(line))
}

/// What a terminal would show of a line: the last of what was written over each other, without
/// colours.
pub(crate) fn plain(line: &[u8]) -> Vec<u8> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = line.rsplit(|byte| *byte == b'\r').next().unwrap_or(line);
    let mut plain = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((&byte, after)) = rest.split_first() {
        let Some(sequence) = rest.strip_prefix(b"\x1b[") else {
            plain.push(byte);
            rest = after;
            continue;
        };
        let end = sequence.iter().position(|byte| (0x40..=0x7e).contains(byte));
        rest = end.map_or(&[], |end| &sequence[end + 1..]);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_short_and_harmless() {
        let many: String = (0..100).map(|line| format!("line {line}\n")).collect();
        let tail = lines(many.as_bytes(), true);
        assert_eq!(tail.len(), LINES);
        assert_eq!(tail.first().map(String::as_str), Some("line 80"));
        assert_eq!(lines(b"", false), Vec::<String>::new());
        assert_eq!(lines(b"no newline", true), ["no newline"]);
        assert_eq!(lines(b"half\nwhole\n", true), ["whole"]);
        assert_eq!(lines(b"\x1b[1;31mred\x1b[0m\r\n", false), ["red"]);
        assert_eq!(lines(b" 10%\r 20%\r100%\n", false), ["100%"]);
        assert_eq!(lines(b"\xff\x07\x1b]0;title", false), ["\\xff\\u{7}\\u{1b}]0;title"]);
    }
}
