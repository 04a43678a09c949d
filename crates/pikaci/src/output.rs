//! Standard output and standard error: writes that can fail do not panic here.

use std::fmt;
use std::io::{self, Write};

use crate::error::CliError;
use crate::render::printable;

/// Writes all of `text` to standard output.
///
/// # Errors
/// [`CliError::output`].
pub(crate) fn print(text: impl AsRef<[u8]>) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_ref()).and_then(|()| out.flush()).map_err(|error| CliError::output(&error))
}

/// Writes `document` to standard output, pretty, with a newline at its end.
///
/// # Errors
/// [`CliError::output`].
pub(crate) fn print_json(document: &impl serde::Serialize) -> Result<(), CliError> {
    let mut text = serde_json::to_string_pretty(document)
        .map_err(|error| CliError::infrastructure("cannot write the document").because(&error))?;
    text.push('\n');
    print(text)
}

/// One line on standard error. That nobody can read it changes nothing.
pub(crate) fn note(line: fmt::Arguments<'_>) {
    note_to(&mut io::stderr().lock(), line);
}

/// One line to `err`, control characters escaped, in one write.
pub(crate) fn note_to(err: &mut dyn Write, line: fmt::Arguments<'_>) {
    let mut text = printable::text(&line.to_string());
    text.push('\n');
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}
