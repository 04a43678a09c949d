//! The forms in which the value of a secret may show up in a log.
//!
//! Beside the value itself: each of its lines (however they are indented), and of all of these
//! base64 in any alignment and alphabet, percent-encoding, JSON strings, markup, shell quoting
//! and hexadecimal digits.

use std::collections::BTreeSet;

use super::encode::{
    BASE64, backslashed, base64, base64_inside, hexadecimal, json, markup, percent, single_quoted,
};

/// Bytes that a secret must have, line ends and spaces around it not counted. A shorter one
/// cannot be masked: it would be found in words that have nothing to do with it.
pub const LEAST_BYTES: usize = 4;

/// Bytes that a secret may have. Each of them costs the masker about 1.4 kB of memory.
pub const MOST_BYTES: usize = 64 << 10;

/// Why a value cannot be masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Fewer than [`LEAST_BYTES`].
    Short,
    /// More than [`MOST_BYTES`].
    Long,
}

/// Whether a value can be masked.
///
/// # Errors
/// [`Length`].
pub fn check(value: &[u8]) -> Result<(), Length> {
    match value.len() {
        _ if !is_long_enough(value) => Err(Length::Short),
        length if length > MOST_BYTES => Err(Length::Long),
        _ => Ok(()),
    }
}

fn is_long_enough(value: &[u8]) -> bool {
    without_line_ends(value.trim_ascii()).len() >= LEAST_BYTES
}

/// All forms of a value, without the line ends in them.
pub(super) fn forms(value: &[u8]) -> BTreeSet<Vec<u8>> {
    let lines: BTreeSet<&[u8]> =
        value.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii).collect();
    let mut forms = BTreeSet::new();
    for whole in [value, value.trim_ascii()] {
        if is_long_enough(whole) {
            add_dense(whole, &mut forms);
        }
    }
    for line in lines {
        if is_long_enough(line) {
            add_dense(line, &mut forms);
            add_escaped(line, &mut forms);
        }
    }
    forms.into_iter().map(|form| without_line_ends(&form)).filter(|form| form.len() >= LEAST_BYTES).collect()
}

/// The forms in which lines are not lines any more.
fn add_dense(unit: &[u8], forms: &mut BTreeSet<Vec<u8>>) {
    forms.insert(unit.to_vec());
    for alphabet in BASE64 {
        forms.extend((0..3).map(|offset| base64_inside(unit, offset, alphabet)));
        // To its end when it stands alone, with the line end that `echo` adds or without.
        for end in [b"".as_slice(), b"\n"] {
            let mut text = base64(&[unit, end].concat(), alphabet);
            forms.insert(text.clone());
            text.resize(text.len().next_multiple_of(4), b'=');
            forms.insert(text);
        }
    }
    for upper in [true, false] {
        forms.insert(hexadecimal(unit, upper));
    }
}

/// The forms that leave letters and digits as they are.
fn add_escaped(unit: &[u8], forms: &mut BTreeSet<Vec<u8>>) {
    // What RFC 3986, JavaScript, Python and HTML forms leave as it is.
    for kept in ["-_.~", "-_.~!*'()", "-_.~/", "-_.*", "-_.~/:@!$&'()*+,;="] {
        for (upper, plus) in [(true, false), (true, true), (false, false), (false, true)] {
            forms.insert(percent(unit, kept.as_bytes(), upper, plus));
        }
    }
    for apostrophe in ["'", "&#39;", "&apos;", "&#x27;"] {
        forms.insert(markup(unit, apostrophe.as_bytes()));
    }
    forms.insert(single_quoted(unit));
    for kept in ["_-./:=@%+,", "_-./:=@%+,~^#{}[]"] {
        forms.insert(backslashed(unit, kept.as_bytes()));
    }
    let Ok(text) = std::str::from_utf8(unit) else { return };
    for slash in [false, true] {
        let ascii = json(text, slash, |letter| !letter.is_ascii() || letter == '\u{7f}');
        let html = json(text, slash, |letter| matches!(letter, '<' | '>' | '&' | '\u{2028}' | '\u{2029}'));
        for once in [json(text, slash, |_| false), ascii, html] {
            // A JSON text inside another one.
            forms.insert(json(&once, false, |_| false).into_bytes());
            forms.insert(once.into_bytes());
        }
    }
}

fn without_line_ends(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect()
}
