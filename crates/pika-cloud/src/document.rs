//! Reading and writing whole documents: versions are checked first, writing is atomic.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::atomic::{Sync, write_atomic};
use crate::validation::ValidationErrors;

/// Why bytes are not the document they should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Not JSON, or not of the document's shape.
    #[error("not a valid {document}: {source}")]
    Json {
        /// What the bytes should have been.
        document: &'static str,
        /// Where they are not, with line and column.
        source: serde_json::Error,
    },
    /// A schema version this build cannot read.
    #[error("the {document} has schema_version {found}, expected {expected}")]
    SchemaVersion {
        /// What the bytes should have been.
        document: &'static str,
        /// The version in the document.
        found: u64,
        /// The version this build reads.
        expected: u32,
    },
    /// The right shape, but rules are broken.
    #[error(transparent)]
    Invalid(#[from] ValidationErrors),
}

/// Why a file could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file could not be read; see the source for `NotFound`.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file was read but is not the document it should be.
    #[error("cannot use {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ParseError,
    },
}

impl LoadError {
    /// Whether there is no such file: for a result, that the guest has not ended yet.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Why a file could not be written. The old content, if any, is still there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The value has no JSON form (a time outside the years of RFC 3339).
    #[error("cannot encode {}", path.display())]
    Encode {
        /// The file that was to be written.
        path: PathBuf,
        /// What could not be encoded.
        source: serde_json::Error,
    },
    /// The file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Only the version, so that a document of another version is told by its number and not by the
/// first field that has changed since.
#[derive(Deserialize)]
struct Header {
    schema_version: u64,
}

/// Reads a document of schema version `expected`.
pub(crate) fn parse<T: DeserializeOwned>(
    bytes: &[u8],
    document: &'static str,
    expected: u32,
) -> Result<T, ParseError> {
    match serde_json::from_slice(bytes) {
        Ok(Header { schema_version: found }) if found != u64::from(expected) => {
            Err(ParseError::SchemaVersion { document, found, expected })
        }
        _ => serde_json::from_slice(bytes).map_err(|source| ParseError::Json { document, source }),
    }
}

/// Reads a file and hands its bytes to `parse`.
pub(crate) fn load<T>(
    path: &Path,
    parse: impl FnOnce(&[u8]) -> Result<T, ParseError>,
) -> Result<T, LoadError> {
    let bytes = std::fs::read(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    parse(&bytes).map_err(|source| LoadError::Parse { path: path.to_owned(), source })
}

/// The document as it is written: two spaces of indentation, a newline at the end.
pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Replaces a file by the document, atomically and durably. Missing parent directories are made.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), WriteError> {
    write_with(path, value, Sync::Now)
}

/// Replaces a file by the document, atomically, and as durably as is asked.
pub(crate) fn write_with<T: Serialize>(path: &Path, value: &T, sync: Sync) -> Result<(), WriteError> {
    let bytes = to_json(value).map_err(|source| WriteError::Encode { path: path.to_owned(), source })?;
    write_atomic(path, &bytes, sync).map_err(|source| WriteError::Write { path: path.to_owned(), source })
}
