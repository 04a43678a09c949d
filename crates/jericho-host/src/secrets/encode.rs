//! The encodings that tools put values into before they print them.

use std::fmt::Write as _;

/// The two alphabets of base64, without padding.
pub(super) const BASE64: [&[u8; 64]; 2] = [
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
];

/// Base64 of bytes, without padding.
pub(super) fn base64(bytes: &[u8], alphabet: &[u8; 64]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..=group.len() {
            text.push(alphabet[(bits >> (18 - 6 * digit) & 63) as usize]);
        }
    }
    text
}

/// The part of the base64 of any text with `bytes` in it that `bytes` alone decides, when
/// `offset` bytes (0, 1 or 2, modulo 3) come before them.
pub(super) fn base64_inside(bytes: &[u8], offset: usize, alphabet: &[u8; 64]) -> Vec<u8> {
    let mut padded = vec![0; offset];
    padded.extend_from_slice(bytes);
    let first = (offset * 8).div_ceil(6);
    let end = padded.len() * 8 / 6;
    base64(&padded, alphabet).get(first..end).unwrap_or_default().to_vec()
}

/// Percent-encoding of everything but letters, digits and `kept`.
pub(super) fn percent(bytes: &[u8], kept: &[u8], upper: bool, plus: bool) -> Vec<u8> {
    let mut text = String::with_capacity(bytes.len() * 3);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = match byte {
            b' ' if plus => text.write_char('+'),
            byte if byte.is_ascii_alphanumeric() || kept.contains(byte) => text.write_char(char::from(*byte)),
            byte if upper => write!(text, "%{byte:02X}"),
            byte => write!(text, "%{byte:02x}"),
        };
    }
    text.into_bytes()
}

/// Hexadecimal digits.
pub(super) fn hexadecimal(bytes: &[u8], upper: bool) -> Vec<u8> {
    let text = if upper { hex::encode_upper(bytes) } else { hex::encode(bytes) };
    text.into_bytes()
}

/// The inside of a JSON string. Beyond what must be, `also` says what becomes `\u00xx`.
pub(super) fn json(text: &str, slash: bool, also: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        // Writing to a string cannot fail.
        let _ = match letter {
            '"' => escaped.write_str("\\\""),
            '\\' => escaped.write_str("\\\\"),
            '/' if slash => escaped.write_str("\\/"),
            '\n' => escaped.write_str("\\n"),
            '\r' => escaped.write_str("\\r"),
            '\t' => escaped.write_str("\\t"),
            '\u{8}' => escaped.write_str("\\b"),
            '\u{c}' => escaped.write_str("\\f"),
            letter if letter < ' ' || also(letter) => {
                let mut units = [0; 2];
                letter.encode_utf16(&mut units).iter().try_for_each(|unit| write!(escaped, "\\u{unit:04x}"))
            }
            letter => escaped.write_char(letter),
        };
    }
    escaped
}

/// Text of an XML or HTML document.
pub(super) fn markup(bytes: &[u8], apostrophe: &[u8]) -> Vec<u8> {
    replaced(bytes, |byte| match byte {
        b'&' => Some(b"&amp;"),
        b'<' => Some(b"&lt;"),
        b'>' => Some(b"&gt;"),
        b'"' => Some(b"&quot;"),
        b'\'' => Some(apostrophe),
        _ => None,
    })
}

/// Inside single quotes of a shell, as `set -x` prints it.
pub(super) fn single_quoted(bytes: &[u8]) -> Vec<u8> {
    replaced(bytes, |byte| (byte == b'\'').then_some(br"'\''".as_slice()))
}

/// With a backslash before all that a shell does not take as it is, as `printf %q` prints it.
pub(super) fn backslashed(bytes: &[u8], kept: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len() * 2);
    for byte in bytes {
        if byte.is_ascii() && !byte.is_ascii_alphanumeric() && !kept.contains(byte) {
            text.push(b'\\');
        }
        text.push(*byte);
    }
    text
}

fn replaced<'a>(bytes: &[u8], with: impl Fn(u8) -> Option<&'a [u8]>) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len());
    for byte in bytes {
        match with(*byte) {
            Some(other) => text.extend_from_slice(other),
            None => text.push(*byte),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_what_the_standard_says() {
        for (plain, text) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes(), BASE64[0]), text.as_bytes());
        }
        assert_eq!(base64(&[0xfb, 0xff], BASE64[0]), b"+/8");
        assert_eq!(base64(&[0xfb, 0xff], BASE64[1]), b"-_8");
    }

    #[test]
    fn the_inside_of_base64_is_found_whatever_stands_around_it() {
        let secret = b"correct horse";
        for before in 0..7 {
            for after in 0..4 {
                let mut text = vec![b'\xa5'; before];
                text.extend_from_slice(secret);
                text.extend(vec![b'\x5a'; after]);
                let inside = base64_inside(secret, before % 3, BASE64[0]);
                let all = base64(&text, BASE64[0]);
                assert!(all.windows(inside.len()).any(|window| window == inside), "{before} {after}");
                assert!(inside.len() >= secret.len() * 8 / 6 - 2);
            }
        }
    }
}
