//! Which secrets the jobs of a run may have, and their values.

use std::collections::BTreeSet;

use jerichoci::config::Secrets;
use jerichoci::model::job::JobSpec;

use super::Operator;
use super::keys::SECRETS;
use crate::targets::file::keys::Fields;
use crate::targets::file::reader::{Reader, Value};
use crate::targets::quoted;

/// Why a run cannot have a secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SecretError {
    /// The caller is not trusted, and the user's file does not name it.
    #[error("the secret {} is not allowed here", quoted(.name))]
    NotAllowed {
        /// The variable.
        name: String,
    },
    /// It is not in the environment.
    #[error("the secret {} is not set", quoted(.name))]
    Missing {
        /// The variable.
        name: String,
    },
}

impl SecretError {
    /// The variable it is about.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::NotAllowed { name } | Self::Missing { name } => name,
        }
    }
}

/// Reads the table of the user's file.
pub(super) fn read(reader: &mut Reader<'_>, value: Value<'_, '_>) -> Vec<String> {
    let Some(table) = reader.table(value) else { return Vec::new() };
    let fields = Fields::read(reader, table, &SECRETS, "in [secrets]");
    let names = fields.get("allow").map(|value| reader.strings(value)).unwrap_or_default();
    for (name, value) in &names {
        let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !first || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            let message = format!("{} is not the name of a variable", quoted(name));
            reader.problem(value.at, message, "name each secret as it is called in the environment");
        }
    }
    names.into_iter().map(|(name, _)| name.to_owned()).collect()
}

impl Operator {
    /// The values of all secrets that these jobs name, from the environment of the caller.
    ///
    /// # Errors
    /// Every secret that they cannot have, by name; never none.
    pub(crate) fn secrets(
        &self,
        jobs: &[JobSpec],
        environment: &jericho_host::Environment,
    ) -> Result<Secrets, Vec<SecretError>> {
        let names: BTreeSet<&String> =
            jobs.iter().flat_map(|job| &job.secrets).map(|secret| &secret.name).collect();
        let mut secrets = Secrets::default();
        let mut errors = Vec::new();
        for name in names {
            if self.untrusted && !self.allowed_secrets.contains(name) {
                errors.push(SecretError::NotAllowed { name: name.clone() });
            } else if let Some(value) = environment.get(name) {
                secrets.insert(name, value);
            } else {
                errors.push(SecretError::Missing { name: name.clone() });
            }
        }
        if errors.is_empty() { Ok(secrets) } else { Err(errors) }
    }
}
