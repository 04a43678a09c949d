//! Targets: what a user can name, from the built-in tables and from `jericho.toml`.
//!
//! ```text
//! built in (smoke) ───┐
//! Pika catalog ───────┤
//! jericho.toml ───────┼▶ Catalog ─ find ─▶ TargetSpec ─▶ jobs of a run
//! ci/forge-lanes.toml ┘  (filters of lanes)
//! ```
//!
//! Everything here is decided when the catalog is loaded: a target that comes out of a [`Catalog`]
//! has valid names, known needs without a circle, and patterns that can match.

mod catalog;
mod error;
pub(crate) mod file;
mod filters;
mod nearest;
mod smoke;

use std::path::PathBuf;

use jerichoci::model::job::JobSpec;

pub use catalog::{Catalog, CatalogChoice};
pub(crate) use error::quoted;
pub use error::{Problem, TargetError};
pub(crate) use file::{open, patterns, reader};
pub use filters::{Filters, PatternError};
pub use nearest::nearest;

/// Name of the file at the root of a source tree that declares its targets.
pub const FILE_NAME: &str = "jericho.toml";

/// A target: jobs, and the paths that make them worth running.
#[derive(Debug, Clone)]
pub struct TargetSpec {
    /// What a user types; see [`jerichoci::model::id::check_name`].
    pub id: String,
    /// What a forge shows; the id when absent.
    pub title: Option<String>,
    /// One line for people.
    pub description: Option<String>,
    /// Which changed files ask for it; without patterns it always runs.
    pub filters: Filters,
    /// At least one, in the order in which they were written. The ids are unique and every need is one of them.
    pub jobs: Vec<JobSpec>,
    /// What `pikaci run` without a name runs.
    pub default: bool,
    /// What a forge does with it.
    pub trigger: Trigger,
    /// A forge runs no two targets of one group at once.
    pub concurrency_group: Option<String>,
    /// File of the source tree whose change asks for it whatever its filters say: the one that holds them, for a
    /// lane that a forge runs for a branch.
    pub definition: Option<&'static str>,
    /// Where it was declared.
    pub origin: Origin,
}

/// When a forge runs a target by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trigger {
    /// Never.
    #[default]
    None,
    /// For every branch whose changed files it selects.
    Branch,
    /// Once a night.
    Nightly,
}

impl Trigger {
    /// The word for it in files and documents.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Branch => "branch",
            Self::Nightly => "nightly",
        }
    }
}

/// Where a target was declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In this program.
    BuiltIn,
    /// In the Pika catalog.
    Catalog,
    /// In this file, an absolute path when the source root was one.
    File(PathBuf),
}
