//! Limits of this process that its children must not notice.

use std::io;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// As it was before this process raised it.
static OPEN_FILES: OnceLock<Rlimit> = OnceLock::new();

/// Lets this process have as many files open as it may: every running job has a few. Children
/// start with the limit as it was, since programs exist that try every number below it.
///
/// # Errors
/// What setrlimit(2) says; then everything is as it was.
pub fn raise_open_files() -> io::Result<()> {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    if before.current == before.maximum || OPEN_FILES.set(before).is_err() {
        return Ok(());
    }
    Ok(setrlimit(Resource::Nofile, raised)?)
}

/// The limit that children start with, when it is not this process's own.
pub(super) fn of_children() -> Option<Rlimit> {
    OPEN_FILES.get().cloned()
}
