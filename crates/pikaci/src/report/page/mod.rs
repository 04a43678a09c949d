//! A run as one HTML page that needs nothing else: timeline, jobs, logs with search, what changed.
//!
//! The page is a template, its style and its script, and a block of data. Everything that a job or
//! a name says is in that block alone, as JSON in which no `<`, `>` or `&` is left, and the script
//! puts it into the page as text. Should that ever fail, the policy in the head of the page names
//! the one script and the one style that may be used by their hashes and forbids everything else,
//! also to load anything.

mod data;

use sha2::{Digest as _, Sha256};

use super::recorded::Recorded;

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page. `typed` makes a command of this program that can be typed.
pub(crate) fn page(recorded: &Recorded, typed: &dyn Fn(&[&str]) -> String) -> serde_json::Result<Vec<u8>> {
    let data = harmless(&serde_json::to_string(&data::of(recorded, typed))?);
    let title = format!("{} {} – {}", recorded.name(), recorded.run.verdict.word(), recorded.run.run_id);
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        base64(&Sha256::digest(SCRIPT)),
        base64(&Sha256::digest(STYLE)),
    );
    let title = escaped(&title);
    let mut page = String::with_capacity(data.len() + TEMPLATE.len() + STYLE.len() + SCRIPT.len());
    // Piece by piece: what is put in is not looked at for places to put more in.
    for piece in TEMPLATE.split("{{") {
        let (name, text) = piece.split_once("}}").unwrap_or(("", piece));
        page.push_str(match name {
            "csp" => &policy,
            "title" => &title,
            "style" => STYLE,
            "script" => SCRIPT,
            "data" => &data,
            _ => "",
        });
        page.push_str(text);
    }
    Ok(page.into_bytes())
}

/// JSON that ends no element and begins none. These characters occur in its strings alone.
fn harmless(json: &str) -> String {
    let mut text = String::with_capacity(json.len() + json.len() / 16);
    for character in json.chars() {
        match character {
            '<' => text.push_str("\\u003c"),
            '>' => text.push_str("\\u003e"),
            '&' => text.push_str("\\u0026"),
            '\u{2028}' => text.push_str("\\u2028"),
            '\u{2029}' => text.push_str("\\u2029"),
            other => text.push(other),
        }
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            let is_padding = digit as usize > group.len();
            text.push(if is_padding { '=' } else { char::from(DIGITS[value as usize]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_can_neither_end_its_element_nor_begin_another() {
        let json = serde_json::to_string("</script><!--<script>&amp;\u{2028}").unwrap();
        let text = harmless(&json);
        assert!(!text.contains(['<', '>', '&', '\u{2028}']), "{text}");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), "</script><!--<script>&amp;\u{2028}");
    }

    #[test]
    fn hashes_are_written_as_the_policy_wants_them() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd, 0xfb]), "//79+w==");
    }

    #[test]
    fn every_place_of_the_template_is_known_and_nothing_in_it_loads_anything() {
        let places: Vec<&str> =
            TEMPLATE.split("{{").skip(1).filter_map(|piece| Some(piece.split_once("}}")?.0)).collect();
        assert_eq!(places, ["csp", "title", "style", "data", "script"]);
        for text in [TEMPLATE, STYLE, SCRIPT] {
            for word in ["http://", "https://", "url(", "@import", "innerHTML", "src=", "eval("] {
                assert!(!text.contains(word), "{word}");
            }
        }
        assert!(!SCRIPT.contains("</script") && !STYLE.contains("</style"));
    }
}
