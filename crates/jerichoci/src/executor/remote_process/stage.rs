//! The source tree of a run on a host: delivered, and held there for as long as the job's runner lives.

use std::path::PathBuf;

use jericho_host::CancelToken;
use jericho_host::sys::ProcessIdentity;

use super::limit::Limited;
use super::{END_PATIENCE, Failure, JobContext, Run};
use crate::causes::with_causes;
use crate::remote::sync::{self, Holder, How, Lease, MIN_FREE, Remote, SyncError, Told};
use crate::snapshot::ContentHash;

/// A tree that nobody changes while this job needs it.
pub(super) struct Staged {
    pub(super) tree: PathBuf,
    hash: ContentHash,
    lease: Lease,
}

fn remote<'a>(run: &Run<'a>) -> Remote<'a> {
    Remote {
        ssh: run.host.ssh(),
        work_dir: &run.ready.work_dir,
        runner: &run.ready.runner,
        engine_id: run.tools.hosts.engine_id(),
        line: run.host.line(),
        min_free: MIN_FREE,
    }
}

/// Makes sure that the tree of this run is there, and leases it.
pub(super) fn stage(run: &Run<'_>, job: &mut JobContext<'_>) -> Result<Staged, Failure> {
    let hash = job.source.manifest().hash();
    // Which process it is for is known when that has started.
    let lease = Lease { id: run.place.nonce.clone(), holder: Holder::Engine };
    let metadata = job.source.metadata(&run.tools.config.source_root, run.tools.clock.now());
    let log = &mut *job.log;
    let mut tell = |told: Told<'_>| {
        if let Told::Line(line) = told {
            drop(log.engine_line(line));
        }
    };
    let (store, manifest) = (job.source.store(), job.source.manifest());
    let delivered = sync::deliver(&remote(run), store, manifest, &metadata, &lease, &mut tell, job.cancel)
        .map_err(|error| match error {
            SyncError::Cancelled(reason) => Failure::Cancelled(reason),
            SyncError::Host(error) => run.host.error(error).into(),
            other => Failure::Errored(format!("host {}: {}", run.host.name(), with_causes(&other))),
        })?;
    if delivered.how != How::AlreadyThere {
        let (files, bytes) = (delivered.sent_files, delivered.sent_bytes);
        let line = format!("sent the snapshot to {}: {files} files, {bytes} bytes", run.host.name());
        drop(job.log.engine_line(&line));
    }
    Ok(Staged { tree: delivered.path, hash, lease })
}

impl Staged {
    /// The runner holds it from now on, whatever becomes of this engine.
    pub(super) fn by_runner(
        &mut self,
        run: &Run<'_>,
        runner: ProcessIdentity,
        cancel: &CancelToken,
    ) -> Result<(), SyncError> {
        self.lease.holder = Holder::Process(runner);
        sync::hold(&remote(run), &self.hash, &self.lease, cancel)
    }

    /// The job needs it no more. Not told, the host finds out by itself.
    pub(super) fn release(self, run: &Run<'_>) {
        if let Ok(limited) = Limited::of(END_PATIENCE) {
            let _ = sync::release(&remote(run), &self.hash, &self.lease.id, limited.token());
        }
    }
}
