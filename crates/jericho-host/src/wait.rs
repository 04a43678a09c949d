//! Waiting for descriptors with a deadline: the one blocking call of this crate.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clock::{Clock, SystemClock};

/// Monotonic time.
pub(crate) fn now() -> Duration {
    SystemClock.monotonic()
}

/// Waits until a descriptor is ready or the deadline (monotonic) has come. An interruption by a
/// signal counts as a wake-up: callers look at everything again anyway.
pub(crate) fn wait(fds: &mut [PollFd<'_>], deadline: Option<Duration>) -> io::Result<()> {
    let timeout = deadline.map(|deadline| {
        let left = deadline.saturating_sub(now());
        // A deadline centuries ahead is none; i64 seconds cannot be exceeded by a clamp to 2^31.
        Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX).min(i64::from(i32::MAX)),
            tv_nsec: left.subsec_nanos().into(),
        }
    });
    match poll(fds, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether a descriptor is readable now.
pub(crate) fn is_ready(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1))
}
