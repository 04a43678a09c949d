//! How a guest gets at the source: a snapshot turned into what can be mounted.
//!
//! This is the one place that knows where a snapshot has to be. On this machine it is a tree of the store, on a
//! host a tree that was delivered there and is leased, on a cluster a volume of the member (`member.rs`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jericho_host::CancelToken;
use pika_cloud::ops::InstanceRef;

use super::member::OnMember;
use super::place::quietly;
use super::spec::path_text;
use crate::causes::with_causes;
use crate::executor::failure::Failure;
use crate::executor::host_tree::HostTree;
use crate::executor::workspace::{RunSource, WorkspaceError};
use crate::executor::{JobContext, Tools};
use crate::remote::sync::{Holder, SyncError};
use crate::remote::{BuildHost, Ready};
use crate::snapshot::TreeLease;

/// A snapshot that can be mounted, for the life of this value.
#[derive(Debug)]
pub(super) struct MountSource {
    /// A directory of the guest's host, or the name of a volume.
    pub(super) source: String,
    /// What keeps it as it is.
    pub(super) hold: Hold,
    /// On a cluster: the member whose volume it is, and what else was brought there.
    pub(super) on: Option<OnMember>,
}

/// What keeps a snapshot as it is, to be released when no guest sees it any more.
#[derive(Debug)]
pub(super) enum Hold {
    /// A tree that all jobs of the run share, and that the next run changes.
    Tree { _lease: Arc<TreeLease> },
    /// A tree of the job's own, in the directory of its records: a guest that is kept still sees its source
    /// when other runs have come and gone.
    Own(PathBuf),
    /// A volume, which is not removed while an instance uses it, nor for a day after a job was given it.
    Volume,
    /// A tree on a host, held first by the engine, then by the instance.
    Host(Box<HostTree>),
}

/// A snapshot for guests of this machine.
pub(super) fn on_this_machine(
    source: &RunSource,
    job_dir: &Path,
    may_be_kept: bool,
    cancel: &CancelToken,
) -> Result<MountSource, Failure> {
    let failed = |error: WorkspaceError| Failure::of(cancel, &error);
    if may_be_kept {
        let dir = job_dir.join("kept-tree");
        let text = path_text(&dir)?;
        source.own_tree(&dir, cancel).map_err(failed)?;
        return Ok(MountSource { source: text, hold: Hold::Own(dir), on: None });
    }
    let tree = source.tree(cancel).map_err(failed)?;
    Ok(MountSource { source: path_text(&tree.path)?, hold: Hold::Tree { _lease: tree }, on: None })
}

/// A snapshot for guests of a host.
pub(super) fn on_host(
    host: &Arc<BuildHost>,
    ready: &Ready,
    job: &mut JobContext<'_>,
    tools: &Tools,
    instance: &InstanceRef,
) -> Result<MountSource, Failure> {
    // A collection that comes before the instance must not take it for one that is gone: until then the
    // engine holds it.
    let mut tree = HostTree::of((host, ready), job.source, tools, &instance.name);
    let log = &mut *job.log;
    tree.deliver(job.source, tools, &mut |line| quietly(log, line), job.cancel)
        .map_err(|error| Failure::of_delivery(host, error))?;
    let source = path_text(tree.path())?;
    Ok(MountSource { source, hold: Hold::Host(Box::new(tree)), on: None })
}

impl Hold {
    /// The instance is there: what holds the snapshot holds it as long as that is, whatever becomes of this
    /// engine.
    pub(super) fn by_instance(
        &mut self,
        instance: &InstanceRef,
        cancel: &CancelToken,
    ) -> Result<(), SyncError> {
        let Self::Host(tree) = self else { return Ok(()) };
        tree.hand_to(
            Holder::Instance { project: instance.project.clone(), name: instance.name.clone() },
            cancel,
        )
    }

    /// No guest sees it any more.
    pub(super) fn release(self, cancel: &CancelToken) -> Result<(), String> {
        match self {
            Self::Tree { .. } | Self::Volume => Ok(()),
            Self::Own(dir) => jericho_host::fs::remove_tree(&dir)
                .map_err(|error| format!("cannot remove {}: {error}", dir.display())),
            Self::Host(tree) => tree.release(cancel).map_err(|error| {
                format!("a lease of the snapshot is not given back: {}", with_causes(&error))
            }),
        }
    }
}
