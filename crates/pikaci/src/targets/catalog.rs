//! All targets of one source tree.

use std::collections::BTreeMap;
use std::path::Path;

use super::file::{FileSettings, SecretPlace};
use super::{Origin, TargetError, TargetSpec, Trigger, file, nearest, open, smoke};
use crate::catalog;
use crate::lanes::file::Rows;
use crate::lanes::{self, Lane, Lanes};
use crate::operator::Operator;

/// A catalog that is compiled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CatalogChoice {
    /// The targets of Pika's tree.
    Pika,
}

/// The built-in targets and those of the `jericho.toml` of one source root, with their lanes.
#[derive(Debug, Clone)]
pub struct Catalog {
    targets: Vec<TargetSpec>,
    group_widths: BTreeMap<String, usize>,
    group_places: BTreeMap<String, (usize, usize)>,
    lanes: Lanes,
    secrets: BTreeMap<String, Vec<SecretPlace>>,
    settings: FileSettings,
}

impl Catalog {
    /// Reads `jericho.toml` and `ci/forge-lanes.toml` in `source_root`. A tree without either has the built-in
    /// targets. Which hosts there are is not asked.
    ///
    /// # Errors
    /// [`TargetError::Toml`] with everything that is wrong in a file, [`TargetError::File`],
    /// [`TargetError::NotAFile`] or [`TargetError::TooLarge`] when it cannot be read.
    pub fn load(source_root: &Path) -> Result<Self, TargetError> {
        Self::read(source_root, None, None)
    }

    /// [`Catalog::load`], with a catalog that is active whatever the lane file says, and the hosts
    /// that jobs name must be those of `operator`.
    ///
    /// # Errors
    /// As [`Catalog::load`].
    pub fn load_for(
        source_root: &Path,
        choice: Option<CatalogChoice>,
        operator: &Operator,
    ) -> Result<Self, TargetError> {
        Self::read(source_root, choice, Some(operator))
    }

    fn read(
        source_root: &Path,
        choice: Option<CatalogChoice>,
        operator: Option<&Operator>,
    ) -> Result<Self, TargetError> {
        let lane_file = lane_file(source_root)?;
        let active = choice.is_some() || lane_file.as_deref().is_some_and(lanes::file::asks_for_catalog);
        let mut targets = built_in(active);
        let names: Vec<&str> = targets.iter().map(|target| target.id.as_str()).collect();
        let declared = file::load(source_root, &names, operator)?;
        targets.extend(declared.targets);
        let mut group_widths = declared.group_widths;
        if active {
            for (name, width) in catalog::GROUP_WIDTHS {
                group_widths.entry(name.to_owned()).or_insert(width);
            }
        }
        let lanes = read_lanes(lane_file.as_deref(), active, &mut targets)?;
        let (group_places, secrets) = (declared.group_places, declared.secrets);
        Ok(Self { targets, group_widths, group_places, lanes, secrets, settings: declared.settings })
    }

    /// The Pika catalog with the lane file that is built in.
    pub(crate) fn built_in() -> Result<Self, TargetError> {
        let mut targets = built_in(true);
        let lanes = read_lanes(None, true, &mut targets)?;
        let group_widths = catalog::GROUP_WIDTHS.map(|(name, width)| (name.to_owned(), width)).into();
        let (group_places, secrets) = (BTreeMap::new(), BTreeMap::new());
        let settings = FileSettings::default();
        Ok(Self { targets, group_widths, group_places, lanes, secrets, settings })
    }

    /// What `jericho.toml` says that is about no target.
    pub(crate) const fn settings(&self) -> &FileSettings {
        &self.settings
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

    /// What a forge runs.
    #[must_use]
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// For each resource group that a job of the file takes or that the file declares: how many
    /// jobs may hold a place in it at once. Never 0.
    #[must_use]
    pub fn group_widths(&self) -> &BTreeMap<String, usize> {
        &self.group_widths
    }

    /// Line and column in the file where it declares a group; nothing for a group that it does not
    /// declare.
    pub(crate) fn group_place(&self, group: &str) -> Option<(usize, usize)> {
        self.group_places.get(group).copied()
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

fn built_in(with_catalog: bool) -> Vec<TargetSpec> {
    let mut targets = vec![smoke::target()];
    if with_catalog {
        targets.extend(catalog::targets());
    }
    targets
}

/// The text of the lane file of a source root.
fn lane_file(source_root: &Path) -> Result<Option<String>, TargetError> {
    let Some(bytes) = open::read(&source_root.join(lanes::FILE_NAME))? else { return Ok(None) };
    match open::decode(lanes::FILE_NAME, &bytes) {
        Ok(text) => Ok(Some(text.to_owned())),
        Err(problem) => Err(TargetError::Toml { problems: vec![problem], more: 0 }),
    }
}

/// Gives the targets what the lane file says about them.
fn read_lanes(tree: Option<&str>, active: bool, targets: &mut [TargetSpec]) -> Result<Lanes, TargetError> {
    let read = match (tree, active) {
        (Some(text), _) => lanes::file::read(text, Rows::OfTree, targets)?,
        (None, true) => lanes::file::read(catalog::LANE_FILE, Rows::BuiltIn, targets)?,
        (None, false) => lanes::file::Read::default(),
    };
    if tree.is_some() && active {
        fill_manual(&read.targets, targets)?;
    }
    let mut lanes = read.lanes;
    for target in targets.iter_mut().filter(|target| !read.targets.contains(&target.id)) {
        match target.origin {
            // The lane file says what a forge runs; this it left out.
            Origin::Catalog => target.trigger = Trigger::None,
            Origin::BuiltIn | Origin::File(_) => lanes.lanes.extend(Lane::of(target, &target.id)),
        }
    }
    Ok(lanes)
}

/// Targets of the catalog that are lanes of no forge keep the filters of the built-in lane file where that of the
/// tree is silent: it may know of lanes only.
fn fill_manual(said: &[String], targets: &mut [TargetSpec]) -> Result<(), TargetError> {
    let mut filled = catalog::targets();
    lanes::file::read(catalog::LANE_FILE, Rows::ManualOnly, &mut filled)?;
    for target in targets.iter_mut().filter(|target| target.origin == Origin::Catalog) {
        if said.contains(&target.id) || target.trigger != Trigger::None {
            continue;
        }
        if let Some(known) = filled.iter_mut().find(|known| known.id == target.id) {
            target.filters = std::mem::take(&mut known.filters);
        }
    }
    Ok(())
}
