//! How many may do something at once: who is too many waits, and still hears its token.

use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};

use crate::cancel::CancelToken;
use crate::host::HostError;
use crate::wait::wait;

/// Free places.
#[derive(Debug)]
pub struct Slots(Arc<Places>);

/// A waiter sleeps on the descriptor, so that it also hears its token.
#[derive(Debug)]
struct Places {
    /// A semaphore: each read takes one.
    free: std::os::fd::OwnedFd,
    used: Mutex<usize>,
}

impl Slots {
    /// So many free places, at least one.
    ///
    /// # Errors
    /// When the process has no file descriptors left.
    pub fn new(count: usize) -> std::io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK | EventfdFlags::SEMAPHORE;
        let count = u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        Ok(Self(Arc::new(Places { free: eventfd(count, flags)?, used: Mutex::new(0) })))
    }

    /// Takes a place, however long it takes to get one.
    ///
    /// # Errors
    /// [`HostError::Cancelled`]; [`HostError::System`] when waiting itself fails.
    pub fn take(&self, cancel: &CancelToken) -> Result<Slot, HostError> {
        let places = &self.0;
        let system = |error| HostError::System("cannot wait for a free place", error);
        loop {
            if let Some(reason) = cancel.reason() {
                return Err(HostError::Cancelled(reason));
            }
            match rustix::io::read(&places.free, &mut [0u8; 8]) {
                Ok(_) => {
                    *places.used.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                    return Ok(Slot(Arc::clone(places)));
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(system(error.into())),
            }
            let token = cancel.fd();
            let mut fds =
                [PollFd::new(&places.free, PollFlags::IN), PollFd::from_borrowed_fd(token, PollFlags::IN)];
            wait(&mut fds, None).map_err(system)?;
        }
    }

    /// Places taken now.
    #[must_use]
    pub fn used(&self) -> usize {
        *self.0.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One place; dropped, it is free again.
#[derive(Debug)]
pub struct Slot(Arc<Places>);

impl Drop for Slot {
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
