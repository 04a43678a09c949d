//! Lanes: targets as a forge runs them, with the changed files that ask for each.
//!
//! ```text
//! ci/forge-lanes.toml ─▶ file ─┐
//! jericho.toml (trigger) ──────┴▶ Lanes ─ select(trigger, changes) ─▶ lanes, each with its reason
//! ```
//!
//! Path filters are written in the lane file of the source tree and nowhere else; a tree without one that asks for
//! the Pika catalog gets the copy that is built in. Selection is that of `pikaci run`: one function, one glob language.

pub(crate) mod file;

use crate::selection::{Changes, Reason, reason};
use crate::targets::{Catalog, Filters, TargetSpec, Trigger};

/// Where a source tree says which lanes it has.
pub const FILE_NAME: &str = "ci/forge-lanes.toml";

/// A target as a forge runs it.
#[derive(Debug, Clone)]
pub struct Lane {
    /// Unique among the lanes; that of the target unless the lane file says another.
    pub id: String,
    /// What a forge shows.
    pub title: String,
    /// What `pikaci run` is told.
    pub target: String,
    /// Whether its tools come from prepared outputs.
    pub staged: bool,
    /// A forge runs no two lanes of one group at once.
    pub concurrency_group: Option<String>,
    /// When a forge runs it by itself. Never [`Trigger::None`].
    pub trigger: Trigger,
    /// Which changed files ask for it; without patterns it always runs.
    pub filters: Filters,
    /// File whose change asks for it whatever its filters say.
    pub definition: Option<&'static str>,
}

impl Lane {
    /// The lane that a target is, when a forge runs it at all.
    pub(crate) fn of(target: &TargetSpec, id: &str) -> Option<Self> {
        if target.trigger == Trigger::None {
            return None;
        }
        Some(Self {
            id: id.to_owned(),
            title: target.title.clone().unwrap_or_else(|| id.to_owned()),
            target: target.id.clone(),
            staged: is_staged(target),
            concurrency_group: target.concurrency_group.clone(),
            trigger: target.trigger,
            filters: target.filters.clone(),
            definition: target.definition,
        })
    }
}

/// Whether tools of the target come from prepared outputs that belong to it.
pub(crate) fn is_staged(target: &TargetSpec) -> bool {
    match target.origin {
        crate::targets::Origin::Catalog => {
            crate::catalog::PikaStagedLinuxTarget::from_id(&target.id).is_some()
        }
        _ => target.jobs.iter().any(|job| job.staged.is_some()),
    }
}

/// All lanes of a source tree; see [`Catalog::lanes`].
#[derive(Debug, Clone, Default)]
pub struct Lanes {
    pub(crate) lanes: Vec<Lane>,
    pub(crate) nightly_schedule_utc: Option<String>,
}

/// A lane, and why it runs or is skipped.
#[derive(Debug, Clone)]
pub struct Choice<'l> {
    /// The lane.
    pub lane: &'l Lane,
    /// Whether, and why.
    pub reason: Reason,
}

impl Lanes {
    /// All of them: those of the lane file in its order, then targets of `jericho.toml` that have a trigger.
    pub fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter()
    }

    /// When the nightly lanes are due, `HH:MM` in UTC, where the lane file says so.
    #[must_use]
    pub fn nightly_schedule_utc(&self) -> Option<&str> {
        self.nightly_schedule_utc.as_deref()
    }

    /// Every lane of the trigger with its reason. Nothing is left out: a lane that is skipped says so.
    #[must_use]
    pub fn select(&self, trigger: Trigger, changes: &Changes) -> Vec<Choice<'_>> {
        let lanes = self.iter().filter(|lane| lane.trigger == trigger);
        lanes.map(|lane| Choice { lane, reason: reason(&lane.filters, lane.definition, changes) }).collect()
    }
}

/// The path filters of a staged target of the Pika catalog, as the built-in lane file has them.
#[must_use]
pub fn branch_lane_paths_for_staged_target(target: crate::catalog::PikaStagedLinuxTarget) -> Vec<String> {
    let Ok(catalog) = Catalog::built_in() else { return Vec::new() };
    let lane = catalog.lanes().iter().find(|lane| lane.target == target.id());
    lane.map(|lane| lane.filters.patterns().to_vec()).unwrap_or_default()
}
