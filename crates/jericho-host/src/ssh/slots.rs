//! How many commands run at once over one connection: what is too many waits.

use std::sync::{Mutex, PoisonError};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};

use crate::cancel::CancelToken;
use crate::host::HostError;
use crate::wait::wait;

/// Free places. A waiter sleeps on the descriptor, so that it also hears its token.
#[derive(Debug)]
pub(super) struct Slots {
    /// A semaphore: each read takes one.
    free: std::os::fd::OwnedFd,
    used: Mutex<usize>,
}

impl Slots {
    pub(super) fn new(count: usize) -> std::io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK | EventfdFlags::SEMAPHORE;
        let count = u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        Ok(Self { free: eventfd(count, flags)?, used: Mutex::new(0) })
    }

    /// Takes a place, however long it takes to get one.
    pub(super) fn take(&self, cancel: &CancelToken) -> Result<Slot<'_>, HostError> {
        let system = |error| HostError::System("cannot wait for a free session", error);
        loop {
            if let Some(reason) = cancel.reason() {
                return Err(HostError::Cancelled(reason));
            }
            match rustix::io::read(&self.free, &mut [0u8; 8]) {
                Ok(_) => {
                    *self.used.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                    return Ok(Slot(self));
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(system(error.into())),
            }
            let token = cancel.fd();
            let mut fds =
                [PollFd::new(&self.free, PollFlags::IN), PollFd::from_borrowed_fd(token, PollFlags::IN)];
            wait(&mut fds, None).map_err(system)?;
        }
    }

    /// Places taken now.
    pub(super) fn used(&self) -> usize {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One place; dropped, it is free again.
#[derive(Debug)]
pub(super) struct Slot<'a>(&'a Slots);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.used.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        // Fails only when there are 2^64 free places.
        let _ = rustix::io::write(&self.0.free, &1u64.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::CancelReason;

    #[test]
    fn who_finds_no_place_waits_for_one_or_for_the_token() {
        let slots = Slots::new(2).unwrap();
        let cancel = CancelToken::new().unwrap();
        let first = slots.take(&cancel).unwrap();
        let _second = slots.take(&cancel).unwrap();
        assert_eq!(slots.used(), 2);
        std::thread::scope(|scope| {
            let third = scope.spawn(|| slots.take(&cancel).map(drop));
            drop(first);
            third.join().unwrap().unwrap();
        });
        let _first = slots.take(&cancel).unwrap();
        std::thread::scope(|scope| {
            let third = scope.spawn(|| slots.take(&cancel).map(drop));
            cancel.cancel(CancelReason::Signal);
            assert!(matches!(third.join().unwrap(), Err(HostError::Cancelled(CancelReason::Signal))));
        });
    }
}
