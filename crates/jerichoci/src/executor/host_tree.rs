//! The source tree of a run on a host: delivered, and held there until whoever needs it is done.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jericho_host::CancelToken;

use super::Tools;
use super::workspace::RunSource;
use crate::remote::sync::{self, Holder, How, Lease, Remote, SyncError};
use crate::remote::{BuildHost, Ready};
use crate::snapshot::ContentHash;

/// A tree on a host, and the claim that keeps everybody from changing it. Forgotten, the claim ends with its
/// holder.
#[derive(Debug)]
pub(crate) struct HostTree {
    host: Arc<BuildHost>,
    ready: Ready,
    engine_id: String,
    hash: ContentHash,
    lease: Lease,
    path: PathBuf,
}

impl HostTree {
    /// The tree of this source there, which is still to be delivered; held as `lease_id` then.
    pub(crate) fn of(
        (host, ready): (&Arc<BuildHost>, &Ready),
        source: &RunSource,
        tools: &Tools,
        lease_id: &str,
    ) -> Self {
        Self {
            host: Arc::clone(host),
            ready: ready.clone(),
            engine_id: tools.hosts.engine_id().to_owned(),
            hash: source.manifest().hash(),
            lease: Lease { id: lease_id.to_owned(), holder: Holder::Engine },
            path: PathBuf::new(),
        }
    }

    /// Makes sure that it is there, and holds it for this engine. `say` hears what people should know.
    pub(crate) fn deliver(
        &mut self,
        source: &RunSource,
        tools: &Tools,
        say: &mut dyn FnMut(&str),
        cancel: &CancelToken,
    ) -> Result<(), SyncError> {
        let metadata = source.metadata(&tools.config.source_root, tools.clock.now());
        let mut tell = sync::as_lines(&*tools.clock, &mut *say);
        let (store, manifest) = (source.store(), source.manifest());
        let delivered =
            sync::deliver(&self.remote(), store, manifest, &metadata, &self.lease, &mut tell, cancel)?;
        drop(tell);
        if delivered.how != How::AlreadyThere {
            let (files, bytes) = (delivered.sent_files, delivered.sent_bytes);
            say(&format!("sent the snapshot to {}: {files} files, {bytes} bytes", self.host.name()));
        }
        self.path = delivered.path;
        Ok(())
    }

    /// Where it is on its host, once it was delivered.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Somebody else holds it from now on, whatever becomes of this engine.
    pub(crate) fn hand_to(&mut self, holder: Holder, cancel: &CancelToken) -> Result<(), SyncError> {
        self.lease.holder = holder;
        sync::hold(&self.remote(), &self.hash, &self.lease, cancel)
    }

    /// Nobody needs it any more.
    pub(crate) fn release(&self, cancel: &CancelToken) -> Result<(), SyncError> {
        sync::release(&self.remote(), &self.hash, &self.lease.id, cancel)
    }

    fn remote(&self) -> Remote<'_> {
        Remote {
            ssh: self.host.ssh(),
            work_dir: &self.ready.work_dir,
            runner: &self.ready.runner,
            engine_id: &self.engine_id,
            line: self.host.line(),
            min_free: self.host.config().min_free,
        }
    }
}
