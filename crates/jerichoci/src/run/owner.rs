//! Whether somebody works on a run: the lock on `owner.json` says so, and nothing else does.

use std::fs::{File, TryLockError};
use std::io;

use super::layout::RunLayout;

/// Whether an engine works on the run. Only looks: nothing is made or written, so it can be
/// asked about a state root of somebody else.
///
/// An engine holds the lock exclusively from before its first record until after its last. While
/// this looks it holds the lock shared for a moment, so whoever wants it exclusively waits for it
/// or tries again. What cannot be found out counts as alive: a run is never condemned by mistake.
#[must_use]
pub fn is_alive(run: &RunLayout) -> bool {
    let file = match File::open(run.owner()) {
        Ok(file) => file,
        Err(error) => return error.kind() != io::ErrorKind::NotFound,
    };
    loop {
        match file.try_lock_shared() {
            Ok(()) => return false,
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return true,
        }
    }
}
