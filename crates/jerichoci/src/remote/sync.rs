//! Snapshots on a host: delivered by content, leased while they are used, collected when nobody needs them.
//!
//! The host keeps trees below its work dir, each under the hash of its content, and knows their manifests
//! as the store here does. So one question settles whether anything is to be sent, and what is sent is
//! the difference to a tree that is there. The receiver at the other end is `jerichoci-incus-run store`;
//! one conversation with it is kept open per host ([`Line`]). `docs/sync.md` is the whole protocol.
//!
//! | module | subject |
//! |---|---|
//! | `line` | the conversation with the receiver, kept and taken in turns |
//! | `ahead` | what is read here while the host looks |
//! | `send` | one attempt: ask, send what is missing |
//! | `spoken` | what is told of it, as lines of a log |
//! | [`tar`] | hosts without a receiver |
//! | [`error`] | what can go wrong, and whether trying again can help |

mod ahead;
pub mod error;
mod line;
mod send;
mod spoken;
pub mod tar;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jericho_host::sys::ProcessIdentity;
use jericho_host::{CancelToken, Host as _, SshHost};
use jericho_manifest::protocol::{Answer, Budget, Collect, Request, Tidied, Tidy};
use rustix::event::{PollFd, PollFlags, Timespec};

pub use error::SyncError;
pub use jericho_manifest::protocol::{Collected as Report, Holder, How, Instances, Lease};
pub use line::Line;
pub(crate) use line::{GRACE, greeting};
pub(crate) use spoken::as_lines;

use crate::causes::with_causes;
use crate::config::DiskBudget;
use crate::snapshot::{ContentHash, Manifest, SnapshotMetadata, Store};

pub use crate::config::MIN_FREE;

/// How often a delivery is tried.
const ATTEMPTS: u32 = 3;
/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(2);

/// A host with a receiver. Cheap to make: all of it is lent.
#[derive(Debug, Clone, Copy)]
pub struct Remote<'a> {
    /// The connection.
    pub ssh: &'a Arc<SshHost>,
    /// Absolute; made when it is missing, mode 0700.
    pub work_dir: &'a Path,
    /// The receiver, absolute on the host.
    pub runner: &'a Path,
    /// Of this engine: a plain name.
    pub engine_id: &'a str,
    /// The conversation that is kept with this host: one per host, for all of its jobs.
    pub line: &'a Line,
    /// [`MIN_FREE`], unless a host has less disk than that.
    pub min_free: u64,
}

/// What there is to say while a snapshot is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told<'a> {
    /// A line for the log of the host, without the mark of the engine.
    Line(&'a str),
    /// How far it is; told when a file is through, and within large ones.
    Progress(Progress),
}

/// How far a delivery is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Contents sent.
    pub files: u64,
    /// Contents to send.
    pub of_files: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// Bytes to send.
    pub of_bytes: u64,
}

/// A snapshot that is on a host, and leased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The tree on the host: `<work dir>/snapshots/<hash>/snapshot`. Read-only by agreement.
    pub path: PathBuf,
    /// Contents that were sent; equal ones count once, and those that the host had elsewhere do not.
    pub sent_files: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// How the tree came to be.
    pub how: How,
}

/// Makes sure that a host has a snapshot, and leases it. Three attempts; each that is followed by another
/// one is told as a line. `metadata` becomes the marker of the tree; its directory and hash are those of
/// the delivery, whatever it says.
///
/// The lease lives as long as its holder does. Who does not know yet which process or instance it will be
/// takes [`Holder::Engine`] and says it with [`hold`] as soon as that is known.
///
/// # Errors
/// [`SyncError`] of the last attempt; at once when it is one that no further attempt mends.
pub fn deliver(
    remote: &Remote<'_>,
    store: &Store,
    manifest: &Arc<Manifest>,
    metadata: &SnapshotMetadata,
    lease: &Lease,
    tell: &mut dyn FnMut(Told<'_>),
    cancel: &CancelToken,
) -> Result<Delivered, SyncError> {
    let parcel = send::Parcel { store, manifest, metadata, lease };
    attempts(&manifest.hash(), remote.ssh, store, cancel, tell, |tell| {
        send::once(remote, &parcel, tell, cancel)
    })
}

/// Up to [`ATTEMPTS`] times, with a pause that hears the token.
fn attempts<T>(
    hash: &ContentHash,
    ssh: &SshHost,
    store: &Store,
    cancel: &CancelToken,
    tell: &mut dyn FnMut(Told<'_>),
    mut once: impl FnMut(&mut dyn FnMut(Told<'_>)) -> Result<T, SyncError>,
) -> Result<T, SyncError> {
    let mut number = 1;
    loop {
        let error = match once(tell) {
            Ok(done) => return Ok(done),
            Err(error) if number == ATTEMPTS || !error.is_transient() => return Err(error),
            Err(error) => error,
        };
        let label = &hash.to_string()[..12];
        tell(Told::Line(&format!(
            "sync snapshot {label} attempt {number}/{ATTEMPTS} failed for {}: {}; retrying after {}s",
            ssh.label(),
            with_causes(&error),
            PAUSE.as_secs()
        )));
        pause(store, cancel)?;
        number += 1;
    }
}

fn pause(store: &Store, cancel: &CancelToken) -> Result<(), SyncError> {
    let until = store.clock().monotonic().saturating_add(PAUSE);
    loop {
        let left = until.saturating_sub(store.clock().monotonic());
        let left = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(0),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut fds = [PollFd::from_borrowed_fd(cancel.fd(), PollFlags::IN)];
        let waited = rustix::event::poll(&mut fds, Some(&left));
        if let Some(reason) = cancel.reason() {
            return Err(SyncError::Cancelled(reason));
        }
        match waited {
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(SyncError::System("cannot wait", error.into())),
        }
    }
}

/// Says who holds a lease from now on: the process that was started, the instance that was made.
///
/// # Errors
/// [`SyncError`]; the lease is then as it was.
pub fn hold(
    remote: &Remote<'_>,
    hash: &ContentHash,
    lease: &Lease,
    cancel: &CancelToken,
) -> Result<(), SyncError> {
    let request = Request::Hold { hash: *hash, lease: lease.clone() };
    remote.line.with(remote, cancel, |talk| match talk.ask(&request)? {
        Answer::Done => Ok(()),
        other => Err(talk.unexpected(&other)),
    })
}

/// Gives a lease back. One that is not there is given back.
///
/// # Errors
/// [`SyncError`]; the lease then ends with its holder, or with a collection.
pub fn release(
    remote: &Remote<'_>,
    hash: &ContentHash,
    lease_id: &str,
    cancel: &CancelToken,
) -> Result<(), SyncError> {
    let request = Request::Release { hash: *hash, lease: lease_id.to_owned() };
    remote.line.with(remote, cancel, |talk| match talk.ask(&request)? {
        Answer::Done => Ok(()),
        other => Err(talk.unexpected(&other)),
    })
}

/// Removes from a host what nobody has leased, the least recently used first, until the snapshots are
/// within the budget; and what killed receivers left. Of the instances of the given projects those that are
/// not named count as gone.
///
/// # Errors
/// [`SyncError`].
pub fn collect(
    remote: &Remote<'_>,
    budget: DiskBudget,
    live_instances: &[Instances],
    dry_run: bool,
    cancel: &CancelToken,
) -> Result<Report, SyncError> {
    let budget = match budget {
        DiskBudget::Percent(percent) => Budget::Percent(percent),
        DiskBudget::Bytes(bytes) => Budget::Bytes(bytes),
    };
    let request = Request::Collect(Collect { budget, instances: live_instances.to_vec(), dry_run });
    remote.line.with(remote, cancel, |talk| match talk.ask(&request)? {
        Answer::Collected(report) => Ok(report),
        other => Err(talk.unexpected(&other)),
    })
}

/// Removes what nobody has used for a while beside snapshots: runners but for this one, caches, and what jobs have
/// left whose engines never came back.
///
/// # Errors
/// [`SyncError`].
pub fn tidy(
    remote: &Remote<'_>,
    unused: Duration,
    dry_run: bool,
    cancel: &CancelToken,
) -> Result<Tidied, SyncError> {
    let hash = remote.runner.parent().and_then(Path::file_name).unwrap_or_default();
    let runner = hash.to_string_lossy().into_owned();
    let request = Request::Tidy(Tidy { unused_secs: unused.as_secs(), runner, dry_run });
    remote.line.with(remote, cancel, |talk| match talk.ask(&request)? {
        Answer::Tidied(report) => Ok(report),
        other => Err(talk.unexpected(&other)),
    })
}

/// A lease that a process of the host holds.
#[must_use]
pub fn lease_of_process(id: impl Into<String>, process: ProcessIdentity) -> Lease {
    Lease { id: id.into(), holder: Holder::Process(process) }
}
