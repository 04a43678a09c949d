//! The one shell quoting.
//!
//! For `sh` and everything that reads words as POSIX `sh` does. Bytes, not characters: what a
//! file name may hold goes through unchanged.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// A NUL byte cannot be part of an argument, however it is quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an argument must not contain a NUL byte")]
pub struct NulInArgument;

/// One word that a shell reads back as exactly `word`. Plain words stay as they are.
///
/// # Errors
/// [`NulInArgument`].
///
/// ```
/// # use jericho_host::quote::quote;
/// assert_eq!(quote("it's".as_ref())?, r"'it'\''s'");
/// # Ok::<(), jericho_host::quote::NulInArgument>(())
/// ```
pub fn quote(word: &OsStr) -> Result<OsString, NulInArgument> {
    let mut quoted = Vec::with_capacity(word.len() + 2);
    push(&mut quoted, word.as_bytes())?;
    Ok(OsString::from_vec(quoted))
}

/// Several words, quoted each, with a space between.
///
/// # Errors
/// [`NulInArgument`].
pub fn join<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> Result<OsString, NulInArgument> {
    let mut line = Vec::new();
    for (index, word) in words.into_iter().enumerate() {
        if index > 0 {
            line.push(b' ');
        }
        push(&mut line, word.as_ref().as_bytes())?;
    }
    Ok(OsString::from_vec(line))
}

fn push(line: &mut Vec<u8>, word: &[u8]) -> Result<(), NulInArgument> {
    if word.contains(&0) {
        return Err(NulInArgument);
    }
    if is_plain(word) {
        line.extend_from_slice(word);
        return Ok(());
    }
    line.push(b'\'');
    for &byte in word {
        if byte == b'\'' {
            line.extend_from_slice(br"'\''");
        } else {
            line.push(byte);
        }
    }
    line.push(b'\'');
    Ok(())
}

/// Whether no shell gives any byte of it a meaning, wherever the word stands. `=` is plain in an
/// option only: as the first word, `a=b` would be an assignment.
fn is_plain(word: &[u8]) -> bool {
    !word.is_empty()
        && word.iter().all(|b| b.is_ascii_alphanumeric() || b"_-./,:@%+=".contains(b))
        && (word[0] == b'-' || !word.contains(&b'='))
        && !is_reserved(word)
}

/// Words that are grammar when they come first.
fn is_reserved(word: &[u8]) -> bool {
    const RESERVED: [&[u8]; 19] = [
        b"if",
        b"then",
        b"else",
        b"elif",
        b"fi",
        b"do",
        b"done",
        b"case",
        b"esac",
        b"while",
        b"until",
        b"for",
        b"in",
        b"function",
        b"select",
        b"time",
        b"coproc",
        b"{",
        b"}",
    ];
    RESERVED.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words_stay_bare_and_others_get_single_quotes() {
        for (word, expected) in [
            ("cargo", "cargo"),
            ("--a-b", "--a-b"),
            ("./x/y.rs", "./x/y.rs"),
            ("", "''"),
            ("a b", "'a b'"),
            ("a=b", "'a=b'"),
            ("--a=b", "--a=b"),
            ("~", "'~'"),
            ("if", "'if'"),
            ("it's", r"'it'\''s'"),
            ("$(x)", "'$(x)'"),
        ] {
            assert_eq!(quote(word.as_ref()).unwrap(), expected, "{word}");
        }
        assert_eq!(join(["a", "b c"]).unwrap(), "a 'b c'");
    }

    #[test]
    fn a_nul_byte_is_an_error() {
        assert_eq!(quote("a\0b".as_ref()), Err(NulInArgument));
        assert_eq!(join(["a", "\0"]), Err(NulInArgument));
    }
}
