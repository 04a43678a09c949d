//! Targets: what a user names. Built in, or declared in `jericho.toml` of the source tree.

mod builtin;
mod document;
mod duration;
pub mod filter;
pub mod selection;
pub mod spec;
pub mod toml;

use std::collections::BTreeMap;
use std::path::Path;

use crate::nearest::nearest;

pub use builtin::SMOKE;
pub use document::{Problem, TargetError};
pub use filter::Filters;
pub use spec::{Origin, TargetSpec, Trigger};

/// Name of the file at the top of a source tree.
pub const FILE_NAME: &str = "jericho.toml";

/// All targets of a source tree: declared ones in the order of the file, then built-in ones.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    all: Vec<TargetSpec>,
    group_widths: BTreeMap<String, usize>,
}

impl Catalog {
    /// Of this source tree; a tree without `jericho.toml` has the built-in ones.
    ///
    /// # Errors
    /// The file cannot be read, or does not make sense.
    pub fn load(source_root: &Path) -> Result<Self, TargetError> {
        let path = source_root.join(FILE_NAME);
        let declared = match std::fs::read(&path) {
            Ok(bytes) => toml::parse(&path, &bytes)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => toml::Declared::default(),
            Err(source) => return Err(TargetError::Read { path, source }),
        };
        let mut all = declared.targets;
        all.extend(builtin::targets());
        Ok(Self { all, group_widths: declared.group_widths })
    }

    /// The target of this name.
    ///
    /// # Errors
    /// [`TargetError::UnknownTarget`].
    pub fn find(&self, name: &str) -> Result<&TargetSpec, TargetError> {
        self.all.iter().find(|target| target.id == name).ok_or_else(|| TargetError::UnknownTarget {
            name: name.to_owned(),
            nearest: nearest(name, self.all.iter().map(|target| target.id.as_str())).map(str::to_owned),
            known: self.names(),
        })
    }

    /// The one that `pikaci run` without a name means.
    ///
    /// # Errors
    /// [`TargetError::NoDefault`].
    pub fn default_target(&self) -> Result<&TargetSpec, TargetError> {
        let default = self.all.iter().find(|target| target.default);
        default.ok_or_else(|| TargetError::NoDefault { known: self.names() })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &TargetSpec> {
        self.all.iter()
    }

    /// How many jobs may hold a place of each named group; 1 for a group that is not here.
    #[must_use]
    pub const fn group_widths(&self) -> &BTreeMap<String, usize> {
        &self.group_widths
    }

    fn names(&self) -> Vec<String> {
        self.all.iter().map(|target| target.id.clone()).collect()
    }
}
