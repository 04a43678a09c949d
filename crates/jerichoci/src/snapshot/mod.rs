//! A snapshot is the git view of a source tree, named by its content.
pub mod error;
pub mod hash;
pub mod manifest;
pub mod profile;
pub mod store;
pub mod take;

mod at;
mod git;
mod index;
mod ingest;
mod lock;
mod objects;
mod segment;
mod stat;
mod walk;

pub use error::SnapshotError;
pub use git::GitFacts;
pub use hash::ContentHash;
pub use manifest::{Change, Entry, EntryKind, Manifest};
pub use profile::Profile;
pub use store::{Pin, Store, StoreDirs};
pub use take::{Snapshot, SnapshotStats, SnapshotWarning, SourceSpec};
pub mod workspace;
pub use workspace::{ChangedFiles, git_changed_files};
