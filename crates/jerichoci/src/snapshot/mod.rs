//! A snapshot is the git view of a source tree, named by its content.
pub mod changed;
pub mod collect;
pub mod error;
pub mod hash;
pub mod manifest;
pub mod materialize;
pub mod metadata;
pub mod profile;
pub mod store;
pub mod take;
pub mod workspace;

mod at;
mod exact;
mod git;
mod index;
mod ingest;
mod objects;
mod segment;
mod stat;
mod walk;

pub use changed::{Base, ChangedFiles, git_changed_files};
pub use collect::CollectReport;
pub use error::SnapshotError;
pub use git::GitFacts;
pub use hash::ContentHash;
pub use manifest::{Change, Entry, EntryKind, Manifest};
pub use materialize::TreeReport;
pub use metadata::{MARKER, SnapshotMetadata};
pub use profile::Profile;
pub use store::{Pin, Store, StoreDirs};
pub use take::{Snapshot, SnapshotStats, SnapshotWarning, SourceSpec};
pub use workspace::{PrivateCopy, TreeLease};
