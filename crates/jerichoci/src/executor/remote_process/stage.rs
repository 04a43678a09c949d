//! The source tree of a run on a host: delivered, and held there for as long as the job's runner lives.

use std::path::PathBuf;

use jericho_host::CancelToken;
use jericho_host::sys::ProcessIdentity;

use super::{Failure, JobContext, Run};
use crate::causes::with_causes;
use crate::remote::sync::{self, Holder, How, Lease, Remote, SyncError};
use crate::remote::{BuildHost, Ready};
use crate::snapshot::ContentHash;

/// A claim on a tree, so that nobody changes it.
pub(super) struct Held {
    hash: ContentHash,
    lease: Lease,
}

fn remote<'a>(host: &'a BuildHost, ready: &'a Ready, engine_id: &'a str) -> Remote<'a> {
    Remote {
        ssh: host.ssh(),
        work_dir: &ready.work_dir,
        runner: &ready.runner,
        engine_id,
        line: host.line(),
        min_free: host.config().min_free,
    }
}

/// Makes sure that the tree of this run is there, and leases it.
pub(super) fn stage(run: &Run<'_>, job: &mut JobContext<'_>) -> Result<(PathBuf, Held), Failure> {
    let hash = job.source.manifest().hash();
    // Which process it is for is known when that has started.
    let lease = Lease { id: run.place.nonce.clone(), holder: Holder::Engine };
    let metadata = job.source.metadata(&run.tools.config.source_root, run.tools.clock.now());
    let log = &mut *job.log;
    let mut tell = sync::as_lines(&*run.tools.clock, |line| drop(log.engine_line(line)));
    let remote = remote(run.host, run.ready, run.tools.hosts.engine_id());
    let (store, manifest) = (job.source.store(), job.source.manifest());
    let delivered = sync::deliver(&remote, store, manifest, &metadata, &lease, &mut tell, job.cancel)
        .map_err(|error| match error {
            SyncError::Cancelled(reason) => Failure::Cancelled(reason),
            SyncError::Host(error) => run.host.error(error).into(),
            other => Failure::Errored(format!("host {}: {}", run.host.name(), with_causes(&other))),
        })?;
    drop(tell);
    if delivered.how != How::AlreadyThere {
        let (files, bytes) = (delivered.sent_files, delivered.sent_bytes);
        let line = format!("sent the snapshot to {}: {files} files, {bytes} bytes", run.host.name());
        drop(job.log.engine_line(&line));
    }
    Ok((delivered.path, Held { hash, lease }))
}

impl Held {
    /// The runner holds it from now on, whatever becomes of this engine.
    pub(super) fn by_runner(
        &mut self,
        run: &Run<'_>,
        runner: ProcessIdentity,
        cancel: &CancelToken,
    ) -> Result<(), SyncError> {
        self.lease.holder = Holder::Process(runner);
        sync::hold(&remote(run.host, run.ready, run.tools.hosts.engine_id()), &self.hash, &self.lease, cancel)
    }

    /// The job needs it no more.
    pub(super) fn release(
        &self,
        host: &BuildHost,
        ready: &Ready,
        engine_id: &str,
        cancel: &CancelToken,
    ) -> Result<(), SyncError> {
        sync::release(&remote(host, ready, engine_id), &self.hash, &self.lease.id, cancel)
    }
}
