//! The view of a source tree: which files it has, as git or a walk says it.
//!
//! A listing hangs on nothing but the tree, so it can be begun long before the rest of its
//! snapshot, while a run is still being recorded.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use jericho_host::CancelToken;

use super::error::SnapshotError;
use super::git::{self, Git, GitFacts, Listing, Place};
use super::take::{SnapshotWarning, SourceSpec};
use super::walk;

/// Where to look, and what is never looked at.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) git: Git,
    /// Absolute, without links.
    pub(super) root: PathBuf,
    /// Relative to the root.
    state_root: Option<Vec<u8>>,
    facts: bool,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) listing: Listing,
    pub(super) facts: Option<GitFacts>,
    pub(super) warning: Option<SnapshotWarning>,
}

/// A listing that goes on by itself.
#[derive(Debug)]
pub(crate) struct EarlyListing(JoinHandle<Result<Listed, SnapshotError>>);

impl EarlyListing {
    /// Begins it. `None` where there is nothing to begin with; [`super::Store::take`] says why.
    pub(crate) fn begin(spec: &SourceSpec, cancel: &CancelToken) -> Option<Self> {
        let view = View::of(spec).ok()?;
        let cancel = cancel.clone();
        let named = std::thread::Builder::new().name("listing".to_owned());
        named.spawn(move || view.list(&cancel)).ok().map(Self)
    }

    pub(super) fn wait(self) -> Result<Listed, SnapshotError> {
        self.0.join().unwrap_or(Err(SnapshotError::Panicked))
    }
}

impl View {
    pub(super) fn of(spec: &SourceSpec) -> Result<Self, SnapshotError> {
        let bad_root = |source| SnapshotError::BadRoot { path: spec.root.clone(), source };
        let root = std::fs::canonicalize(&spec.root).map_err(bad_root)?;
        let state_root = match &spec.state_root {
            Some(state_root) => inside(&root, state_root)?,
            None => None,
        };
        Ok(Self { git: Git::new(&spec.env), root, state_root, facts: spec.facts })
    }

    /// The files, and what git says of the tree when asked.
    pub(super) fn list(&self, cancel: &CancelToken) -> Result<Listed, SnapshotError> {
        let walked = |warning| Ok(Listed { listing: walk::list(&self.root)?, facts: None, warning });
        if git::place_of(&self.root) == Place::Outside {
            return walked(None);
        }
        let listed = if self.facts {
            let left_out = |name: &[u8]| self.is_in_state_root(name);
            let listed = self.git.list_with_facts(&self.root, &left_out, cancel)?;
            listed.map(|(listing, facts)| (listing, Some(facts)))
        } else {
            self.git.list(&self.root, b"", cancel)?.map(|listing| (listing, None))
        };
        match listed {
            Some((listing, facts)) => Ok(Listed { listing, facts, warning: None }),
            None => walked(Some(SnapshotWarning::NoGit)),
        }
    }

    pub(super) fn is_in_state_root(&self, name: &[u8]) -> bool {
        self.state_root.as_deref().is_some_and(|state_root| git::is_inside(name, state_root))
    }
}

/// Where the state root lies inside the source root, relative to it.
fn inside(root: &Path, state_root: &Path) -> Result<Option<Vec<u8>>, SnapshotError> {
    use std::os::unix::ffi::OsStrExt;
    // What does not exist yet cannot be resolved, but what it will lie in can.
    let mut existing = state_root;
    let mut missing = Vec::new();
    let mut resolved = loop {
        match std::fs::canonicalize(existing) {
            Ok(resolved) => break resolved,
            Err(error) => match (existing.parent(), existing.file_name()) {
                (Some(parent), Some(name)) if error.kind() == std::io::ErrorKind::NotFound => {
                    missing.push(name);
                    existing = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                }
                _ => return Err(SnapshotError::io("resolve", state_root)(error)),
            },
        }
    };
    resolved.extend(missing.iter().rev());
    match resolved.strip_prefix(root) {
        Ok(relative) if relative.as_os_str().is_empty() => {
            Err(SnapshotError::StateRootIsSource { path: root.to_path_buf() })
        }
        Ok(relative) => Ok(Some(relative.as_os_str().as_bytes().to_vec())),
        Err(_) => Ok(None),
    }
}
