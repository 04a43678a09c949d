//! All targets of one source tree.

use std::collections::BTreeMap;
use std::path::Path;

use super::{TargetError, TargetSpec, file, nearest, smoke};

/// The built-in targets and those of the `jericho.toml` of one source root.
#[derive(Debug, Clone)]
pub struct Catalog {
    targets: Vec<TargetSpec>,
    group_widths: BTreeMap<String, usize>,
}

impl Catalog {
    /// Reads `jericho.toml` in `source_root`. A tree without one has the built-in targets.
    ///
    /// # Errors
    /// [`TargetError::Toml`] with everything that is wrong in the file, [`TargetError::File`],
    /// [`TargetError::NotAFile`] or [`TargetError::TooLarge`] when it cannot be read.
    pub fn load(source_root: &Path) -> Result<Self, TargetError> {
        let mut targets = vec![smoke::target()];
        let built_in: Vec<&str> = targets.iter().map(|target| target.id.as_str()).collect();
        let declared = file::load(source_root, &built_in)?;
        targets.extend(declared.targets);
        Ok(Self { targets, group_widths: declared.group_widths })
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

    fn known(&self) -> Vec<String> {
        let mut names: Vec<String> = self.iter().map(|target| target.id.clone()).collect();
        names.sort_unstable();
        names
    }
}
