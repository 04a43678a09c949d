//! The forms in which the value of a secret may show up in a log.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Bytes that a secret must have, line ends and spaces around it not counted. A shorter one cannot be
/// masked: it would be found in words that have nothing to do with it.
pub const LEAST_BYTES: usize = 4;

const ALPHABETS: [&[u8; 64]; 2] = [
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
];

/// Whether a value is long enough to be masked.
#[must_use]
pub fn is_long_enough(value: &[u8]) -> bool {
    without_line_ends(value.trim_ascii()).len() >= LEAST_BYTES
}

/// All forms of a value, without the line ends in them.
pub(super) fn forms(value: &[u8]) -> BTreeSet<Vec<u8>> {
    let lines = value.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii);
    let units: BTreeSet<&[u8]> = [value, value.trim_ascii()].into_iter().chain(lines).collect();
    let mut forms = BTreeSet::new();
    for unit in units.into_iter().filter(|unit| is_long_enough(unit)) {
        forms.insert(unit.to_vec());
        for alphabet in ALPHABETS {
            forms.extend((0..3).map(|offset| base64_inside(unit, offset, alphabet)));
            for end in [b"".as_slice(), b"\n"] {
                let mut text = base64(&[unit, end].concat(), alphabet);
                forms.insert(text.clone());
                text.resize(text.len().next_multiple_of(4), b'=');
                forms.insert(text);
            }
        }
        forms.insert(percent(unit, false));
        forms.insert(percent(unit, true));
        if let Ok(text) = std::str::from_utf8(unit) {
            forms.insert(json(text).into_bytes());
        }
    }
    forms.into_iter().map(|form| without_line_ends(&form)).filter(|form| form.len() >= LEAST_BYTES).collect()
}

fn without_line_ends(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect()
}

/// Base64 without padding.
fn base64(bytes: &[u8], alphabet: &[u8; 64]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        text.extend((0..=group.len()).map(|digit| alphabet[(bits >> (18 - 6 * digit) & 63) as usize]));
    }
    text
}

/// The part of the base64 of any text with `bytes` in it that `bytes` alone decides, when `offset` bytes
/// (0, 1 or 2, modulo 3) come before them.
fn base64_inside(bytes: &[u8], offset: usize, alphabet: &[u8; 64]) -> Vec<u8> {
    let padded = [&[0; 2][..offset], bytes].concat();
    let first = (offset * 8).div_ceil(6);
    let end = padded.len() * 8 / 6;
    base64(&padded, alphabet).get(first..end).unwrap_or_default().to_vec()
}

/// Percent-encoding of everything but letters, digits and `-_.~`.
fn percent(bytes: &[u8], plus: bool) -> Vec<u8> {
    let mut text = String::with_capacity(bytes.len() * 3);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = match byte {
            b' ' if plus => text.write_char('+'),
            byte if byte.is_ascii_alphanumeric() || b"-_.~".contains(byte) => {
                text.write_char(char::from(*byte))
            }
            byte => write!(text, "%{byte:02X}"),
        };
    }
    text.into_bytes()
}

/// The inside of a JSON string.
fn json(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        // Writing to a string cannot fail.
        let _ = match letter {
            '"' => escaped.write_str("\\\""),
            '\\' => escaped.write_str("\\\\"),
            '\n' => escaped.write_str("\\n"),
            '\r' => escaped.write_str("\\r"),
            '\t' => escaped.write_str("\\t"),
            letter if letter < ' ' => write!(escaped, "\\u{:04x}", u32::from(letter)),
            letter => escaped.write_char(letter),
        };
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inside_of_base64_is_found_whatever_stands_around_it() {
        assert_eq!(base64(b"fo", ALPHABETS[0]), b"Zm8");
        let secret = b"correct horse";
        for before in 0..7 {
            let text = [&vec![b'\xa5'; before], secret.as_slice(), b"\x5a\x5a"].concat();
            let inside = base64_inside(secret, before % 3, ALPHABETS[0]);
            let all = base64(&text, ALPHABETS[0]);
            assert!(all.windows(inside.len()).any(|window| window == inside), "{before}");
        }
    }

    #[test]
    fn lines_and_escaped_forms_are_known() {
        let forms = forms(b"key \"one\"\n  line+two\n");
        for form in
            [&b"line+two"[..], b"key \\\"one\\\"", b"line%2Btwo", b"key%20%22one%22", b"key+%22one%22"]
        {
            assert!(forms.contains(form), "{}", String::from_utf8_lossy(form));
        }
    }
}
