//! The last lines of a log, bounded, ready for a terminal.

use std::io::{self, Read, Seek, SeekFrom};

use super::printable;

/// Most lines that are shown.
const LINES: usize = 20;
/// Most bytes that are read.
const BYTES: u64 = 4096;

/// The last lines of `log`: at most 20, from at most its last 4 KiB. A first line that was cut
/// starts with `…`. Reads only the end, however long the log is.
///
/// # Errors
/// Those of reading.
pub(crate) fn last_lines(log: &mut (impl Read + Seek)) -> io::Result<Vec<String>> {
    let end = log.seek(SeekFrom::End(0))?;
    let start = end.saturating_sub(BYTES);
    log.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    log.take(BYTES).read_to_end(&mut bytes)?;
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let all: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let first = all.len().saturating_sub(LINES);
    Ok(all[first..]
        .iter()
        .enumerate()
        .map(|(index, line)| {
            let cut = start > 0 && first + index == 0;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            format!("{}{}", if cut { "…" } else { "" }, printable::bytes(line))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn of(text: impl AsRef<[u8]>) -> Vec<String> {
        last_lines(&mut Cursor::new(text.as_ref())).expect("reading memory")
    }

    #[test]
    fn at_most_twenty_lines_are_shown() {
        let text: String = (1..=30).map(|n| format!("line {n}\n")).collect();
        let shown = of(&text);
        assert_eq!((shown.len(), shown[0].as_str(), shown[19].as_str()), (20, "line 11", "line 30"));
    }

    #[test]
    fn at_most_four_kibibytes_are_shown() {
        let shown = of("x".repeat(1 << 20));
        assert_eq!(shown.len(), 1);
        assert_eq!(shown[0].chars().count(), 4097);
        assert!(shown[0].starts_with('…'));
    }

    #[test]
    fn odd_ends_and_bytes_are_shown_as_they_are() {
        assert_eq!(of(""), Vec::<String>::new());
        assert_eq!(of("one\r\ntwo"), ["one", "two"]);
        assert_eq!(of("one\n\n"), ["one", ""]);
        assert_eq!(of(b"\x1b[31m\xff\n"), ["\\x1b[31m\\xff"]);
    }
}
