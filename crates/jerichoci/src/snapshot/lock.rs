//! Advisory locks of files: who uses the store, a tree or a snapshot right now.
//!
//! A lock ends with its process, however that ends. Nobody polls for one: a wait blocks in the
//! kernel on a thread of its own, so that it can be given up.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::mpsc;

use jericho_host::{CancelReason, CancelToken};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::error::SnapshotError;

/// A held lock; dropping it releases it.
#[derive(Debug)]
pub(crate) struct FileLock(#[expect(dead_code, reason = "closing it is its use")] File);

impl FileLock {
    /// Waits until nobody holds it exclusively.
    pub(crate) fn shared(path: &Path, cancel: &CancelToken) -> Result<Self, SnapshotError> {
        wait(path, FlockOperation::NonBlockingLockShared, FlockOperation::LockShared, cancel)
    }

    /// Waits until nobody else holds it.
    pub(crate) fn exclusive(path: &Path, cancel: &CancelToken) -> Result<Self, SnapshotError> {
        wait(path, FlockOperation::NonBlockingLockExclusive, FlockOperation::LockExclusive, cancel)
    }

    /// Takes it when nobody holds it.
    pub(crate) fn try_exclusive(path: &Path) -> Result<Option<Self>, SnapshotError> {
        let file = open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(SnapshotError::io("lock", path)(error.into())),
        }
    }
}

fn open(path: &Path) -> Result<File, SnapshotError> {
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    opened.map_err(SnapshotError::io("open the lock", path))
}

fn wait(
    path: &Path,
    at_once: FlockOperation,
    blocking: FlockOperation,
    cancel: &CancelToken,
) -> Result<FileLock, SnapshotError> {
    let file = open(path)?;
    match rustix::fs::flock(&file, at_once) {
        Ok(()) => return Ok(FileLock(file)),
        Err(Errno::WOULDBLOCK) => {}
        Err(error) => return Err(SnapshotError::io("lock", path)(error.into())),
    }
    enum Heard {
        Locked(rustix::io::Result<File>),
        Cancelled(CancelReason),
    }
    let (tell, heard) = mpsc::channel();
    let told = tell.clone();
    cancel.on_cancel(move |reason| drop(told.send(Heard::Cancelled(reason))));
    // Given up, this thread still waits; the lock it gets is released at once.
    std::thread::spawn(move || {
        let locked = loop {
            match rustix::fs::flock(&file, blocking) {
                Err(Errno::INTR) => {}
                other => break other,
            }
        };
        drop(tell.send(Heard::Locked(locked.map(|()| file))));
    });
    match heard.recv() {
        Ok(Heard::Locked(Ok(file))) => Ok(FileLock(file)),
        Ok(Heard::Locked(Err(error))) => Err(SnapshotError::io("lock", path)(error.into())),
        Ok(Heard::Cancelled(reason)) => Err(SnapshotError::Cancelled(reason)),
        Err(mpsc::RecvError) => Err(SnapshotError::Panicked),
    }
}
