//! How a guest gets at the source: a snapshot turned into what can be mounted.
//!
//! This is the one place that knows where a snapshot has to be: on this machine it is a tree of the store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jericho_host::CancelToken;

use crate::executor::workspace::{RunSource, WorkspaceError};
use crate::snapshot::TreeLease;

/// A snapshot that can be mounted, for the life of this value.
#[derive(Debug)]
pub(super) struct MountSource {
    /// A directory of the guest's host, or the name of a volume.
    pub(super) source: String,
    /// What keeps it as it is.
    pub(super) hold: Hold,
}

/// What keeps a snapshot as it is, to be dropped when no guest sees it any more.
#[derive(Debug)]
#[expect(dead_code, reason = "held, never read")]
pub(super) enum Hold {
    /// A tree that all jobs of the run share, and that the next run changes.
    Tree(Arc<TreeLease>),
    /// A tree of the job's own, in the directory of its records: a guest that is kept still sees its source
    /// when other runs have come and gone.
    Own(PathBuf),
}

/// A snapshot for guests of this machine.
pub(super) fn on_this_machine(
    source: &RunSource,
    job_dir: &Path,
    may_be_kept: bool,
    cancel: &CancelToken,
) -> Result<MountSource, WorkspaceError> {
    let (path, hold) = if may_be_kept {
        let dir = job_dir.join("kept-tree");
        source.own_tree(&dir, cancel)?;
        (dir.clone(), Hold::Own(dir))
    } else {
        let tree = source.tree(cancel)?;
        (tree.path.clone(), Hold::Tree(tree))
    };
    Ok(MountSource { source: path.to_string_lossy().into_owned(), hold })
}

impl Hold {
    /// No guest sees it any more.
    pub(super) fn release(self) -> Result<(), String> {
        match self {
            Self::Tree(_) => Ok(()),
            Self::Own(dir) => jericho_host::fs::remove_tree(&dir)
                .map_err(|error| format!("cannot remove {}: {error}", dir.display())),
        }
    }
}
