//! Cancelling from outside: a FIFO in the run directory, and one word.
//!
//! A FIFO needs no polling, no port and no short path, and tells a writer at once when nobody
//! reads any more.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread::Scope;

use jericho_host::{CancelReason, CancelToken};
use rustix::event::{PollFd, PollFlags, poll};

/// What is written to cancel a run.
const CANCEL: &[u8] = b"cancel\n";

/// Listens until `done` is cancelled, on a thread of `scope`.
///
/// # Errors
/// When the FIFO cannot be made, for example on a file system that has none.
pub(crate) fn listen<'scope, 'env: 'scope>(
    scope: &'scope Scope<'scope, 'env>,
    path: &Path,
    cancel: CancelToken,
    done: CancelToken,
) -> io::Result<()> {
    jericho_host::sys::make_fifo(path)?;
    // Open for writing too, so that it never reports the end of a writer.
    let mut fifo = OpenOptions::new().read(true).write(true).custom_flags(nonblock()).open(path)?;
    scope.spawn(move || {
        let mut word = [0; 64];
        loop {
            let mut fds =
                [PollFd::new(&fifo, PollFlags::IN), PollFd::from_borrowed_fd(done.fd(), PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return,
            }
            if !fds[1].revents().is_empty() {
                return;
            }
            if let Ok(length) = fifo.read(&mut word)
                && word[..length].starts_with(CANCEL.trim_ascii_end())
            {
                cancel.cancel(CancelReason::Requested);
            }
        }
    });
    Ok(())
}

/// Asks whoever listens to cancel; false when nobody does.
///
/// # Errors
/// When the FIFO is there but cannot be written.
pub(crate) fn ask(path: &Path) -> io::Result<bool> {
    let gone = |error: &io::Error| {
        error.kind() == io::ErrorKind::NotFound
            || error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error())
    };
    let mut fifo: File = match OpenOptions::new().write(true).custom_flags(nonblock()).open(path) {
        Err(error) if gone(&error) => return Ok(false),
        other => other?,
    };
    fifo.write_all(CANCEL)?;
    Ok(true)
}

fn nonblock() -> i32 {
    i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default()
}
