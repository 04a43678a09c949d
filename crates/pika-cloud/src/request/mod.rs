//! What a guest is told to run: one command, with a time limit.
//!
//! Version 2 is a command, a limit and whether it runs as root. Version 3 is the same with options, and
//! is also what a host outside Incus is handed: see [`GuestRunOptions`].

mod options;
mod read;

use std::path::Path;

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::document::{self, LoadError, ParseError, WriteError};
use crate::validation::{Problems, ValidationErrors};

pub use options::{GuestRunOptions, GuestRuntime};
use read::{Entries, check_command, check_timeout};

const DOCUMENT: &str = "guest run request";

/// The run request of a guest, schema version 2 or 3.
///
/// ```
/// # let text = r#"
/// { "schema_version": 2, "command": "cargo test", "timeout_secs": 600, "run_as_root": false }
/// # "#;
/// let request: pika_cloud::IncusGuestRunRequest = serde_json::from_str(text)?;
/// assert_eq!(request.command(), "cargo test");
/// # let text = r#"
/// { "schema_version": 3, "command": "cargo test", "timeout_secs": 600, "run_as_root": false,
///   "env_file": "/run/jericho/env.json", "artifact_globs": ["target/report/**"], "grace_secs": 10 }
/// # "#;
/// let request: pika_cloud::IncusGuestRunRequest = serde_json::from_str(text)?;
/// assert_eq!(request.options().grace_secs, Some(10));
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// Strict, since it decides what runs, and as whom: the four keys of version 2, of the others only those
/// of the version, none twice, each of its exact type. A value of this type keeps the rules, however it
/// was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncusGuestRunRequest {
    schema_version: u32,
    command: String,
    timeout_secs: u64,
    run_as_root: bool,
    options: GuestRunOptions,
}

impl IncusGuestRunRequest {
    /// The newest schema version this build reads and writes.
    pub const SCHEMA_VERSION: u32 = 3;
    /// The version without options, which it reads and writes too.
    pub const SCHEMA_VERSION_PLAIN: u32 = 2;

    /// A request of version 2 to run `command` in the guest's shell, for at most `timeout_secs` seconds.
    ///
    /// # Errors
    ///
    /// A blank command, one with a NUL character, a limit of 0: all that apply.
    pub fn new(
        command: impl Into<String>,
        timeout_secs: u64,
        run_as_root: bool,
    ) -> Result<Self, ValidationErrors> {
        let options = GuestRunOptions::default();
        Self::checked(Self::SCHEMA_VERSION_PLAIN, command.into(), timeout_secs, run_as_root, options)
    }

    /// A request of version 3.
    ///
    /// # Errors
    ///
    /// What [`new`](Self::new) and [`GuestRunOptions`] say: all that apply.
    pub fn with_options(
        command: impl Into<String>,
        timeout_secs: u64,
        run_as_root: bool,
        options: GuestRunOptions,
    ) -> Result<Self, ValidationErrors> {
        Self::checked(Self::SCHEMA_VERSION, command.into(), timeout_secs, run_as_root, options)
    }

    fn checked(
        schema_version: u32,
        command: String,
        timeout_secs: u64,
        run_as_root: bool,
        options: GuestRunOptions,
    ) -> Result<Self, ValidationErrors> {
        let mut problems = Problems::of(DOCUMENT);
        check_command(&mut problems, &command);
        check_timeout(&mut problems, timeout_secs);
        options.check(&mut problems, run_as_root);
        problems.finish()?;
        Ok(Self { schema_version, command, timeout_secs, run_as_root, options })
    }

    /// The schema version it was read in, or made for: 2 or 3.
    pub fn schema_version(&self) -> u32 {
        self.schema_version
    }

    /// The shell command; neither blank nor with a NUL character.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// Time limit in seconds, above 0.
    pub fn timeout_secs(&self) -> u64 {
        self.timeout_secs
    }

    /// Whether the command runs as root; otherwise as the guest's user.
    pub fn run_as_root(&self) -> bool {
        self.run_as_root
    }

    /// What version 3 adds; in version 2 nothing is set.
    pub fn options(&self) -> &GuestRunOptions {
        &self.options
    }

    /// Reads a request.
    ///
    /// # Errors
    ///
    /// [`ParseError::Json`] when the bytes are no JSON object, else [`ParseError::Invalid`] with
    /// every problem: wrong version, unknown, repeated and missing keys, wrong types, broken rules.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let entries: Entries = serde_json::from_slice(bytes)
            .map_err(|source| ParseError::Json { document: DOCUMENT, source })?;
        Ok(entries.check()?)
    }

    /// Reads a request from a file.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse), or when the file cannot be read.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        document::load(path, Self::parse)
    }

    /// Replaces a file by the request, atomically and durably; missing parent directories are made.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; its old content is still there then.
    pub fn write(&self, path: &Path) -> Result<(), WriteError> {
        document::write(path, self)
    }
}

impl Serialize for IncusGuestRunRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("schema_version", &self.schema_version)?;
        map.serialize_entry("command", &self.command)?;
        map.serialize_entry("timeout_secs", &self.timeout_secs)?;
        map.serialize_entry("run_as_root", &self.run_as_root)?;
        self.options.serialize_into(&mut map)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for IncusGuestRunRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Entries::deserialize(deserializer)?.check().map_err(de::Error::custom)
    }
}
