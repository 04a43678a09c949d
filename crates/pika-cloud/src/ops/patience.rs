//! How long what is waited for, and the growing pauses between two tries.

use std::time::Duration;

/// How long what is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For an Incus that has not answered here before: it may just be starting. A socket that does
    /// not exist is not waited for at all.
    pub first_contact: Duration,
    /// For a connection that was lost, until the next answer.
    pub reconnect: Duration,
    /// For the beginning of one answer, with the connection in order.
    pub request: Duration,
    /// For one operation: create (with the unpacking of an image), start, stop, delete.
    pub operation: Duration,
    /// For a place in a project that has reached a limit.
    pub full: Duration,
}

impl Default for Patience {
    /// 5 s, 300 s, 30 s, 10 min, 1 h.
    fn default() -> Self {
        Self {
            first_contact: Duration::from_secs(5),
            reconnect: Duration::from_secs(300),
            request: Duration::from_secs(30),
            operation: Duration::from_secs(600),
            full: Duration::from_secs(3600),
        }
    }
}

/// Pauses that double, up to a longest one.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first, longest }
    }

    /// Between tries to connect.
    pub(crate) const fn reconnect() -> Self {
        Self::new(Duration::from_millis(20), Duration::from_secs(2))
    }

    pub(crate) fn next(&mut self) -> Duration {
        let now = self.next;
        self.next = self.longest.min(now.saturating_mul(2));
        now
    }

    /// The next pause is as short as the first.
    pub(crate) fn reset(&mut self, first: Duration) {
        self.next = first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(100));
        let pauses: Vec<u128> = (0..5).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(pauses, [20, 40, 80, 100, 100]);
        backoff.reset(Duration::from_millis(20));
        assert_eq!(backoff.next().as_millis(), 20);
    }
}
