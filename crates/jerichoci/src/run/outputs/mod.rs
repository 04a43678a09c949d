//! Prepared outputs: who makes them visible, how, and the documents that ask for it.
//!
//! A prepared output is a store path. To expose it is to put a symbolic link to it where a job
//! looks; to fulfil a request is to make all exposures the request names. Every path in a
//! document of somebody else is checked component by component before anything is touched.

use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jericho_host::{CancelReason, HostError};
use rustix::fs::OFlags;
use serde::de::DeserializeOwned;

use crate::model::outcome::{FailureKind, Verdict};
use crate::model::version;

mod answer;
pub mod choose;
pub(crate) mod copy;
pub mod expose;
pub mod fulfill;
pub(crate) mod handover;
pub mod mode;
pub mod payload;
pub mod realize;
pub mod transport;

pub use fulfill::{
    fulfill_prepared_output_request, fulfill_prepared_output_request_result,
    load_prepared_output_fulfillment_launch_request,
};
pub use mode::{Mode, RemoteDefaults, staged_linux_remote_defaults};

/// Where store paths lie, unless a caller says otherwise.
pub const STORE_DIR: &str = "/nix/store";

/// Why a prepared output was not handed over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputsError {
    /// A document cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// A verb.
        action: &'static str,
        /// The document.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A document makes no sense.
    #[error("{}: {problem}", path.display())]
    Document {
        /// The document.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A value in a document, or two that should agree.
    #[error("{0}")]
    Invalid(String),
    /// A host could not be asked.
    #[error(transparent)]
    Host(#[from] HostError),
    /// An exposure could not be made.
    #[error("cannot make {} a link to the prepared output", path.display())]
    Expose {
        /// The exposure.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl OutputsError {
    /// What it is to the jobs that need the output.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        Verdict::Failed(match self {
            Self::Host(HostError::Cancelled(reason)) if *reason != CancelReason::RecordsFailed => {
                FailureKind::Cancelled
            }
            _ => FailureKind::Infrastructure,
        })
    }
}

/// Most bytes of a document of somebody else.
const DOCUMENT_LIMIT: u64 = 16 << 20;

/// Reads a document of any version.
fn read<T: DeserializeOwned>(path: &Path) -> Result<T, OutputsError> {
    let failed = |source| OutputsError::File { action: "read", path: path.to_path_buf(), source };
    // Whoever writes it may have put anything there: what never ends, or what nobody writes to.
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(failed)?;
    let problem = |problem: String| OutputsError::Document { path: path.to_path_buf(), problem };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(problem("not a regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > DOCUMENT_LIMIT {
        return Err(problem(format!("longer than {DOCUMENT_LIMIT} bytes")));
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| OutputsError::Document { path: path.to_path_buf(), problem: error.to_string() })
}

/// Reads one of the documents that hand a prepared output over, all of which have version 1.
fn load<T: DeserializeOwned>(path: &Path) -> Result<T, OutputsError> {
    let problem = |problem: String| OutputsError::Document { path: path.to_path_buf(), problem };
    let value: serde_json::Value = read(path)?;
    let known = version::PREPARED_OUTPUT_HANDOFF;
    match value.get("schema_version").and_then(serde_json::Value::as_u64) {
        Some(found) if found == u64::from(known) => {}
        Some(found) => return Err(problem(format!("schema_version is {found}; this program knows {known}"))),
        None => return Err(problem("schema_version is missing".to_owned())),
    }
    serde_json::from_value(value).map_err(|error| problem(error.to_string()))
}
