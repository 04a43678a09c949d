//! A snapshot is the git view of a source tree, named by its content.
//!
//! [`Store::take`] lists what git tracks and what is untracked but not ignored, reads only what
//! changed since the last time, and publishes a [`Manifest`]. Equal content has an equal
//! [`ContentHash`]; then nothing is written. Trees are a cache, made from the store when a job
//! first needs one: [`workspace::lease_tree`] below an overlay, [`workspace::private_copy`]
//! where there is none, [`metadata::publish_tree`] for readers outside the engine.
//!
//! Nothing here changes the source tree or reads the environment. Any number of processes may
//! use one store; killing one at any moment loses at most the snapshot it was taking.
//!
//! | module | subject |
//! |---|---|
//! | [`take`] | one snapshot, from listing to publication |
//! | [`profile`] | what a kind of run leaves out |
//! | `view`, `git`, `walk` | the view of the tree, with and without a repository |
//! | `index`, `stat` | what is known about files that did not change |
//! | `ingest` | reading the others, once |
//! | [`manifest`], [`hash`] | the list of a snapshot and its format, of `jericho-manifest` |
//! | [`store`], `segment`, `objects`, [`collect`] | contents: kept, found, forgotten |
//! | [`materialize`], `exact` | trees: new, patched, made exact; no link leads out ([`jericho_manifest::at`]) |
//! | [`workspace`], [`metadata`] | trees for jobs, trees for others |
//! | [`changed`] | which files a branch changed |

pub mod changed;
pub mod collect;
pub mod error;
pub mod materialize;
pub mod metadata;
pub mod profile;
pub mod store;
pub mod take;
pub mod workspace;

mod exact;
mod git;
pub(crate) mod history;
mod index;
mod ingest;
pub(crate) mod objects;
mod segment;
mod stat;
mod view;
mod walk;

pub use changed::{
    Base, ChangedFiles, git_changed_between, git_changed_files, git_commit_of, git_file_names,
};
pub use collect::CollectReport;
pub use error::SnapshotError;
pub use git::GitFacts;
pub(crate) use jericho_manifest::at;
pub use jericho_manifest::{Change, ContentHash, Entry, EntryKind, Manifest, hash, manifest};
pub use materialize::TreeReport;
pub use metadata::{MARKER, SnapshotMetadata};
pub use profile::Profile;
pub use store::{Pin, Store, StoreDirs};
pub use take::{Snapshot, SnapshotStats, SnapshotWarning, SourceSpec};
pub(crate) use view::EarlyListing;
pub use workspace::{PrivateCopy, TreeLease};
