//! What a source tree is: sorted entries with one content hash, and the stream that turns one tree
//! into another.
//!
//! The engine makes manifests; hosts receive them. Both use this crate, so that there is one form.
//!
//! | module | subject |
//! |---|---|
//! | [`hash`] | the name of a content |
//! | [`manifest`] | the list of a tree, and its one byte format |
//! | [`encoded`] | the same bytes, not decoded: what is compared, patched or passed on |
//! | [`between`] | the difference of two, read side by side |
//! | [`delta`] | what a host that has one tree must be told to have another |
//! | [`directories`] | the directories that a manifest implies |
//! | [`patch`] | a manifest that is made of another one and a delta |
//! | [`protocol`] | what an engine and the receiver on a host say to each other |
//! | [`at`] | file access below a directory that no symbolic link leads out of |
//! | [`mod@shown`] | names for messages |

pub mod at;
pub mod between;
pub mod delta;
pub mod directories;
pub mod encoded;
pub mod hash;
pub mod manifest;
pub mod patch;
pub mod protocol;
pub mod shown;

pub use between::BetweenError;
pub use delta::{Delta, DeltaError};
pub use directories::Directories;
pub use encoded::Encoded;
pub use hash::{BadHash, ContentHash};
pub use manifest::{Change, Entry, EntryKind, Manifest, ManifestError};

/// File name of the marker of a tree that was laid out as a directory of its own: its presence means that
/// the tree is complete.
pub const MARKER: &str = "jerichoci-snapshot.json";
