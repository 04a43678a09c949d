//! How the runner tells things over its standard output to an engine on another machine: a line of words,
//! the last of which says how many bytes follow it.

use std::io::{self, Write};

/// One thing told: `<kind> <number>… <bytes>`, a newline, the bytes.
pub(crate) fn put(out: &mut dyn Write, kind: &str, numbers: &[u64], body: &[u8]) -> io::Result<()> {
    head(out, kind, numbers, body.len() as u64)?;
    out.write_all(body)
}

/// Its first line; as many bytes have to follow as it says.
pub(crate) fn head(out: &mut dyn Write, kind: &str, numbers: &[u64], bytes: u64) -> io::Result<()> {
    let mut line = kind.to_owned();
    for number in numbers.iter().chain([&bytes]) {
        line.push(' ');
        line.push_str(&number.to_string());
    }
    line.push('\n');
    out.write_all(line.as_bytes())
}
