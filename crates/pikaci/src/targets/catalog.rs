//! All targets of one source tree.

use std::collections::BTreeMap;
use std::path::Path;

use super::file::{FileSettings, SecretPlace};
use super::{TargetError, TargetSpec, file, nearest, smoke};
use crate::operator::Operator;

/// The built-in targets and those of the `jericho.toml` of one source root.
#[derive(Debug, Clone)]
pub struct Catalog {
    targets: Vec<TargetSpec>,
    group_widths: BTreeMap<String, usize>,
    settings: FileSettings,
    secrets: BTreeMap<String, Vec<SecretPlace>>,
}

impl Catalog {
    /// Reads `jericho.toml` in `source_root`. A tree without one has the built-in targets. Which
    /// hosts there are is not asked.
    ///
    /// # Errors
    /// [`TargetError::Toml`] with everything that is wrong in the file, [`TargetError::File`],
    /// [`TargetError::NotAFile`] or [`TargetError::TooLarge`] when it cannot be read.
    pub fn load(source_root: &Path) -> Result<Self, TargetError> {
        Self::read(source_root, None)
    }

    /// [`Catalog::load`], and the hosts that jobs name must be those of `operator`.
    ///
    /// # Errors
    /// As [`Catalog::load`].
    pub fn load_for(source_root: &Path, operator: &Operator) -> Result<Self, TargetError> {
        Self::read(source_root, Some(operator))
    }

    fn read(source_root: &Path, operator: Option<&Operator>) -> Result<Self, TargetError> {
        let mut targets = vec![smoke::target()];
        let built_in: Vec<&str> = targets.iter().map(|target| target.id.as_str()).collect();
        let declared = file::load(source_root, &built_in, operator)?;
        targets.extend(declared.targets);
        Ok(Self {
            targets,
            group_widths: declared.group_widths,
            settings: declared.settings,
            secrets: declared.secrets,
        })
    }

    /// The target of this name.
    ///
    /// # Errors
    /// [`TargetError::UnknownTarget`].
    pub fn find(&self, name: &str) -> Result<&TargetSpec, TargetError> {
        self.iter().find(|target| target.id == name).ok_or_else(|| TargetError::UnknownTarget {
            name: name.to_owned(),
            nearest: nearest(name, self.iter().map(|target| target.id.as_str())).map(str::to_owned),
            known: self.known(),
        })
    }

    /// The target that runs when none is named.
    ///
    /// # Errors
    /// [`TargetError::NoDefault`].
    pub fn default_target(&self) -> Result<&TargetSpec, TargetError> {
        self.iter()
            .find(|target| target.default)
            .ok_or_else(|| TargetError::NoDefault { known: self.known() })
    }

    /// All targets: built-in ones first, then those of the file in its order.
    pub fn iter(&self) -> impl Iterator<Item = &TargetSpec> {
        self.targets.iter()
    }

    /// For each resource group that a job of the file takes or that the file declares: how many
    /// jobs may hold a place in it at once. Never 0.
    #[must_use]
    pub fn group_widths(&self) -> &BTreeMap<String, usize> {
        &self.group_widths
    }

    /// Settings of the repository.
    pub(crate) const fn settings(&self) -> &FileSettings {
        &self.settings
    }

    /// Line and column in the file where a target first names a secret.
    pub(crate) fn secret_place(&self, target: &str, secret: &str) -> Option<(usize, usize)> {
        let places = self.secrets.get(target)?;
        places.iter().find(|place| place.name == secret).map(|place| place.place)
    }

    fn known(&self) -> Vec<String> {
        let mut names: Vec<String> = self.iter().map(|target| target.id.clone()).collect();
        names.sort_unstable();
        names
    }
}
