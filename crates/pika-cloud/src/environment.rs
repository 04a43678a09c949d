//! The environment of a guest's command: variables, and which of them are secret.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use jericho_host::secrets;
use serde::de::Error as _;
use serde::{Deserialize, Serialize};

use crate::document::{self, LoadError, ParseError};
use crate::validation::{Problems, ValidationErrors};

const DOCUMENT: &str = "guest environment";
const NAME: &str = "a name without `=` and NUL";

/// The file that a request names in `env_file`, schema version 1. Strict, as the request is: a misspelt
/// `secrets` must not print one.
///
/// ```
/// # let text = r#"
/// { "schema_version": 1, "variables": { "CI": "true", "TOKEN": "hunter22" }, "secrets": ["TOKEN"] }
/// # "#;
/// let environment = pika_cloud::GuestEnvironment::parse(text.as_bytes())?;
/// assert_eq!(environment.variables["CI"], "true");
/// assert!(!format!("{environment:?}").contains("hunter22"));
/// # Ok::<(), pika_cloud::ParseError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct GuestEnvironment {
    /// Values by name.
    pub variables: BTreeMap<String, String>,
    /// Names of those whose values no log may show.
    pub secrets: BTreeSet<String>,
    /// Names of secrets that the command gets as a file of mode 0400 instead, with its path in
    /// `<NAME>_FILE`.
    pub secret_files: BTreeSet<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    schema_version: u32,
    #[serde(default)]
    variables: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    secrets: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    secret_files: BTreeSet<String>,
}

impl fmt::Debug for GuestEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.variables.keys()).finish()
    }
}

impl GuestEnvironment {
    /// The schema version this build reads and writes.
    pub const SCHEMA_VERSION: u32 = 1;

    /// Reads an environment.
    ///
    /// # Errors
    ///
    /// [`ParseError::SchemaVersion`] for another version, [`ParseError::Json`] for another shape,
    /// [`ParseError::Invalid`] for broken rules. None of them shows a value.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let wire: Wire = document::parse(bytes, DOCUMENT, Self::SCHEMA_VERSION).map_err(without_values)?;
        let Wire { schema_version: _, variables, secrets, secret_files } = wire;
        let environment = Self { variables, secrets, secret_files };
        environment.validate()?;
        Ok(environment)
    }

    /// Reads an environment from a file.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse), or when the file cannot be read.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        document::load(path, Self::parse)
    }

    /// Checks every rule: names that a process can be given, values without NUL, secrets that are there.
    ///
    /// # Errors
    ///
    /// All problems; none of them shows a value.
    pub fn validate(&self) -> Result<(), ValidationErrors> {
        let mut problems = Problems::of(DOCUMENT);
        for (name, value) in &self.variables {
            if name.is_empty() || name.contains(['=', '\0']) {
                problems.add("variables", name.as_str(), "is no name of a variable", NAME);
            }
            if value.contains('\0') {
                problems.add("variables", name.as_str(), "has a value with a NUL", "text without NUL");
            }
        }
        for (field, names) in [("secrets", &self.secrets), ("secret_files", &self.secret_files)] {
            for name in names.iter().filter(|name| !self.variables.contains_key(*name)) {
                problems.add(field, name.as_str(), "is no variable", "a name of `variables`");
            }
        }
        for name in self.secret_files.iter().filter(|name| name.contains('/')) {
            problems.add("secret_files", name.as_str(), "has a `/`", "a name that a file can have");
        }
        for name in self.secrets.union(&self.secret_files) {
            let Some(value) = self.variables.get(name) else { continue };
            let (problem, allowed) = match secrets::check(value.as_bytes()) {
                Ok(()) => continue,
                Err(secrets::Length::Short) => {
                    ("has a value too short to be masked", format!("{} bytes or more", secrets::LEAST_BYTES))
                }
                Err(secrets::Length::Long) => {
                    ("has a value too long to be masked", format!("{} bytes or less", secrets::MOST_BYTES))
                }
            };
            problems.add("secrets", name.as_str(), problem, allowed);
        }
        problems.finish()
    }

    /// The document, as it is written into the file.
    ///
    /// # Errors
    ///
    /// What [`validate`](Self::validate) says.
    pub fn to_json(&self) -> Result<Vec<u8>, ParseError> {
        self.validate()?;
        let wire = Wire {
            schema_version: Self::SCHEMA_VERSION,
            variables: self.variables.clone(),
            secrets: self.secrets.clone(),
            secret_files: self.secret_files.clone(),
        };
        document::to_json(&wire).map_err(|source| ParseError::Json { document: DOCUMENT, source })
    }

    /// The values that no log may show.
    pub fn secret_values(&self) -> impl Iterator<Item = &str> {
        let names = self.secrets.union(&self.secret_files);
        names.filter_map(|name| self.variables.get(name)).map(String::as_str)
    }
}

/// What serde says quotes what it found.
fn without_values(error: ParseError) -> ParseError {
    match error {
        ParseError::Json { document, source } => {
            let place = format!("wrong at line {} column {}", source.line(), source.column());
            ParseError::Json { document, source: serde_json::Error::custom(place) }
        }
        other => other,
    }
}
