//! JSON documents on standard output: pretty, a newline at the end.

use std::io::Write as _;

use serde::Serialize;

use crate::error::CliError;

/// Prints a document.
pub(crate) fn print<T: Serialize>(document: &T) -> Result<(), CliError> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    serde_json::to_writer_pretty(&mut out, document).map_err(|error| CliError::output(error.into()))?;
    out.write_all(b"\n").and_then(|()| out.flush()).map_err(CliError::output)
}

/// The word that documents use for a value, for example of an enum.
pub(crate) fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => "-".to_owned(),
    }
}
