//! Text that is safe and short enough for a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// Bytes as one line of text: control characters and what is not UTF-8 are escaped, so that
/// nothing a job or a file says can steer the terminal.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\t' => text.push(' '),
                control if control.is_control() || steers(control) => text.extend(control.escape_default()),
                other => text.push(other),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Whether a character that is no control character changes how those around it are shown: ends a
/// line, or turns the direction of writing.
const fn steers(character: char) -> bool {
    matches!(character, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A word fit for the middle of a sentence: escaped, and at most 80 characters.
pub(crate) fn shorten(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

/// A path as it can be typed into a shell.
pub(crate) fn typed(path: &Path) -> String {
    let quoted = jericho_host::quote::quote(path.as_os_str());
    let quoted = quoted
        .map_or_else(|_| path.to_string_lossy(), |quoted| Cow::Owned(quoted.to_string_lossy().into_owned()));
    quoted.into_owned()
}

/// A duration with as many digits as matter.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A duration that is watched: whole seconds.
pub(crate) fn elapsed(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        _ => self::duration(duration),
    }
}

/// A number of things.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

/// A number of bytes.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, size)| count >= *size) {
        // In tenths, so that no fraction is needed.
        Some((unit, size)) => format!("{}.{} {unit}", count / size, count % size * 10 / size),
        None => format!("{count} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_printed_can_steer_the_terminal() {
        assert_eq!(printable(b"a\x1b[31m\xff\tb\x00"), "a\\u{1b}[31m\\xff b\\u{0}");
        assert_eq!(printable("grün".as_bytes()), "grün");
        assert_eq!(printable("a\u{202e}b\u{2028}".as_bytes()), "a\\u{202e}b\\u{2028}");
    }

    #[test]
    fn durations_have_the_digits_that_matter() {
        let table = [
            (12, "12 ms"),
            (1500, "1.5 s"),
            (59_999, "60.0 s"),
            (61_000, "1 min 01 s"),
            (3_700_000, "1 h 01 min"),
        ];
        for (millis, text) in table {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }
}
