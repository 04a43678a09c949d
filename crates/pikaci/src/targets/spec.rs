//! A target as it was declared: its jobs, and when they concern a change.

use std::path::PathBuf;

use jerichoci::model::job::JobSpec;

use super::filter::Filters;

/// A target.
#[derive(Debug, Clone, Default)]
pub struct TargetSpec {
    /// Its name.
    pub id: String,
    /// One line for people.
    pub description: Option<String>,
    /// Which changes concern it.
    pub filters: Filters,
    /// Whether `pikaci run` without a name means it.
    pub default: bool,
    /// What a forge does with it.
    pub trigger: Trigger,
    /// Its jobs, in the order they were declared.
    pub jobs: Vec<JobSpec>,
    /// Where it was declared.
    pub origin: Origin,
}

/// Where a target was declared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Origin {
    /// In `pikaci` itself.
    #[default]
    BuiltIn,
    /// In this file.
    File(PathBuf),
}

/// When a forge runs a target by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trigger {
    /// Never.
    #[default]
    None,
    /// For each push of a branch.
    Branch,
    /// Once a night.
    Nightly,
}

impl Trigger {
    /// All of them with their words.
    pub const WORDS: [(&'static str, Self); 3] =
        [("none", Self::None), ("branch", Self::Branch), ("nightly", Self::Nightly)];
}
