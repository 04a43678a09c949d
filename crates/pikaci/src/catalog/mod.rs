//! The Pika catalog: the targets of Pika's tree, as tables.
//!
//! ```text
//! targets.rs ─▶ jobs/*.rs ─▶ staged.rs        rows: what there is
//!      └───────────┴── spec.rs ─▶ TargetSpec  one function: what the engine is given
//! forge-lanes.toml                            which changed files ask for it; only here
//! ```
//!
//! Nobody sees it who did not ask for it: it is active where the `ci/forge-lanes.toml` of a source tree says
//! `catalog = "pika"`, or with `--catalog pika`.

mod jobs;
mod rows;
mod spec;
mod staged;
mod targets;

pub use staged::{
    PikaStagedLinuxLane, PikaStagedLinuxTarget, PikaStagedLinuxTargetConfig, PikaStagedLinuxTargetInfoJson,
};

use crate::targets::TargetSpec;

/// The lanes of Pika's tree, for a tree that has no lane file of its own.
pub(crate) const LANE_FILE: &str = include_str!("forge-lanes.toml");

/// All targets of the catalog, without their path filters: those are in the lane file.
#[must_use]
pub fn targets() -> Vec<TargetSpec> {
    targets::TARGETS.iter().map(spec::target).collect()
}

/// How many jobs of a resource group of the catalog run at once.
pub(crate) const GROUP_WIDTHS: [(&str, usize); 1] = [(spec::TART_GROUP, spec::TART_VMS)];
