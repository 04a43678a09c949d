//! The user's file: which hosts there are, where instances are made, and which secrets targets may name.
//!
//! ```toml
//! [hosts.builder]
//! ssh = "ci@builder.example"
//! allow = ["incus"]
//!
//! [incus]
//! project = "jericho-ci"
//!
//! [secrets]
//! allow = ["REGISTRY_TOKEN"]
//! ```
//!
//! Hosts belong to a person and a machine, never to a repository: `jericho.toml` names them, and
//! this file says what is meant.

mod host;
pub(crate) mod keys;
mod secrets;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::targets::TargetError;
use crate::targets::file::keys::Fields;
use crate::targets::file::reader::{Key, Reader, in_order};
use crate::targets::file::{FileSettings, LOCAL, open, read_settings, reader};
use crate::targets::quoted;

pub use host::{HostConfig, IncusHostConfig};
pub(crate) use host::{is_place, is_word, words_of};
pub use jerichoci::config::DiskBudget;
pub(crate) use secrets::SecretError;

/// What the user's file says. Without a file there is no host, and no secret is allowed by name.
#[derive(Debug, Clone, Default)]
pub struct Operator {
    /// The file, when it was read.
    pub file: Option<PathBuf>,
    /// Where the file would be, for people; blank when there is no place for it.
    pub(crate) place: String,
    /// The hosts, by name.
    pub hosts: BTreeMap<String, HostConfig>,
    /// Where instances are made on this machine.
    pub incus: IncusHostConfig,
    /// Names of secrets that targets may use where the caller is not trusted.
    pub allowed_secrets: Vec<String>,
    /// Settings for every repository.
    pub(crate) settings: FileSettings,
    /// Whether what runs may come from somebody else, so that only allowed secrets may be named.
    pub(crate) untrusted: bool,
}

impl Operator {
    /// The hosts that were asked for, but for this machine; without any, all of the file.
    pub(crate) fn hosts_or(&self, asked: &[String]) -> Vec<String> {
        match asked.is_empty() {
            true => self.hosts.keys().cloned().collect(),
            false => asked.iter().filter(|host| *host != LOCAL).cloned().collect(),
        }
    }

    /// Reads a file. One that is not there says nothing, and has this place in messages.
    ///
    /// # Errors
    /// [`TargetError::Toml`] with everything that is wrong in it, [`TargetError::File`],
    /// [`TargetError::NotAFile`] or [`TargetError::TooLarge`] when it cannot be read.
    pub fn load(path: &Path) -> Result<Self, TargetError> {
        let Some(bytes) = open::read(path)? else { return Ok(Self::absent(path)) };
        let mut this = Self::parse(&path.to_string_lossy(), &bytes)?;
        this.file = Some(path.to_owned());
        Ok(this)
    }

    /// What a file that is not there says: nothing.
    pub(crate) fn absent(path: &Path) -> Self {
        Self { place: path.to_string_lossy().into_owned(), ..Self::default() }
    }

    /// Understands the bytes of a file of this name.
    pub(crate) fn parse(name: &str, bytes: &[u8]) -> Result<Self, TargetError> {
        reader::read(name, bytes, |reader, root| {
            let fields = Fields::read(reader, root, &keys::FILE, "at the top of the file");
            let mut this = Self { place: name.to_owned(), ..Self::default() };
            let hosts = fields.get("hosts").and_then(|value| reader.table(value));
            for (key, value) in hosts.map(in_order).unwrap_or_default() {
                reader.name(key, "host");
                not_local(reader, key);
                this.hosts.extend(host::read(reader, key, value).map(|host| (key.name.to_owned(), host)));
            }
            if let Some(value) = fields.get("incus") {
                this.incus = host::incus(reader, value);
            }
            if let Some(value) = fields.get("secrets") {
                this.allowed_secrets = secrets::read(reader, value);
            }
            if let Some(value) = fields.get("settings") {
                this.settings = read_settings(reader, value);
            }
            this
        })
    }

    /// The file in a sentence.
    pub(crate) fn described(&self) -> String {
        match self.place.as_str() {
            "" => "the user's file".to_owned(),
            place => quoted(place),
        }
    }
}

/// The name of this machine is no name of another.
fn not_local(reader: &mut Reader<'_>, key: Key<'_>) {
    if key.name == LOCAL {
        reader.problem(key.at, format!("`{LOCAL}` is this machine"), "choose another name");
    }
}

#[cfg(test)]
mod tests;
