//! What a CI guest is told to run: one command, with a time limit.

use std::fmt;
use std::path::Path;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

use crate::document::{self, LoadError, ParseError, WriteError};
use crate::validation::{Problems, ValidationErrors};
use crate::version::SchemaVersion;

const DOCUMENT: &str = "guest run request";
const KEYS: [&str; 4] = ["schema_version", "command", "timeout_secs", "run_as_root"];
const COMMAND: &str = "a shell command";
const TIMEOUT: &str = "a whole number of seconds above 0";
const RUN_AS_ROOT: &str = "true or false";

/// The run request of a CI guest, schema version 2.
///
/// ```
/// # let text = r#"
/// { "schema_version": 2, "command": "cargo test", "timeout_secs": 600, "run_as_root": false }
/// # "#;
/// let request: pika_cloud::IncusGuestRunRequest = serde_json::from_str(text)?;
/// assert_eq!(request.command(), "cargo test");
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// Strict, since it decides what runs, and as whom: all four keys, no other, none twice, each of
/// its exact type. A value of this type keeps the rules, however it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IncusGuestRunRequest {
    schema_version: SchemaVersion<2>,
    command: String,
    timeout_secs: u64,
    run_as_root: bool,
}

impl IncusGuestRunRequest {
    /// The schema version this build reads and writes.
    pub const SCHEMA_VERSION: u32 = 2;

    /// A request to run `command` in the guest's shell, for at most `timeout_secs` seconds.
    ///
    /// # Errors
    ///
    /// A blank command, one with a NUL character, a limit of 0: all that apply.
    pub fn new(
        command: impl Into<String>,
        timeout_secs: u64,
        run_as_root: bool,
    ) -> Result<Self, ValidationErrors> {
        let command = command.into();
        let mut problems = Problems::of(DOCUMENT);
        check_command(&mut problems, &command);
        check_timeout(&mut problems, timeout_secs);
        problems.finish()?;
        Ok(Self { schema_version: SchemaVersion, command, timeout_secs, run_as_root })
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

impl<'de> Deserialize<'de> for IncusGuestRunRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Entries::deserialize(deserializer)?.check().map_err(de::Error::custom)
    }
}

/// The object's entries as they stand, so that repeated keys and wrong types are seen together.
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a {DOCUMENT} (an object)")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

impl Entries {
    fn check(self) -> Result<IncusGuestRunRequest, ValidationErrors> {
        let mut problems = Problems::of(DOCUMENT);
        self.check_keys(&mut problems);
        self.check_version(&mut problems);

        let command = self.get(&mut problems, "command", COMMAND, |value| value.as_str().map(str::to_owned));
        if let Some(command) = &command {
            check_command(&mut problems, command);
        }
        let timeout_secs = self.get(&mut problems, "timeout_secs", TIMEOUT, Value::as_u64);
        if let Some(timeout_secs) = timeout_secs {
            check_timeout(&mut problems, timeout_secs);
        }
        let run_as_root = self.get(&mut problems, "run_as_root", RUN_AS_ROOT, Value::as_bool);

        problems.finish()?;
        Ok(IncusGuestRunRequest {
            schema_version: SchemaVersion,
            // All three are there: what is not has been reported.
            command: command.unwrap_or_default(),
            timeout_secs: timeout_secs.unwrap_or_default(),
            run_as_root: run_as_root.unwrap_or_default(),
        })
    }

    fn check_keys(&self, problems: &mut Problems) {
        let allowed = KEYS.join(", ");
        for (index, (key, value)) in self.0.iter().enumerate() {
            if !KEYS.contains(&key.as_str()) {
                problems.add(key, value.clone(), "is of an unknown key", allowed.as_str());
            } else if self.0.iter().take(index).any(|(earlier, _)| earlier == key) {
                problems.add(key, value.clone(), "is of a repeated key", "each key once");
            }
        }
    }

    fn check_version(&self, problems: &mut Problems) {
        let expected = IncusGuestRunRequest::SCHEMA_VERSION;
        let allowed = expected.to_string();
        let found = self.get(problems, "schema_version", &allowed, Value::as_u64);
        if let Some(found) = found.filter(|found| *found != u64::from(expected)) {
            problems.add("schema_version", found, "is not supported", allowed);
        }
    }

    /// The value of a key; reports one that is missing or that `read` cannot read.
    fn get<T>(
        &self,
        problems: &mut Problems,
        key: &str,
        allowed: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let Some((_, value)) = self.0.iter().find(|(found, _)| found == key) else {
            problems.missing(key, allowed);
            return None;
        };
        let read = read(value);
        if read.is_none() {
            problems.add(key, value.clone(), "is of the wrong type", allowed);
        }
        read
    }
}

fn check_command(problems: &mut Problems, command: &str) {
    if command.trim().is_empty() {
        problems.add("command", command, "is blank", COMMAND);
    } else if command.contains('\0') {
        problems.add("command", command, "has a NUL character", COMMAND);
    }
}

fn check_timeout(problems: &mut Problems, timeout_secs: u64) {
    if timeout_secs == 0 {
        problems.add("timeout_secs", timeout_secs, "is no time", TIMEOUT);
    }
}
