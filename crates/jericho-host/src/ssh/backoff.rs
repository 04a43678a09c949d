//! How long to wait between attempts to connect.

use std::time::Duration;

/// The first pause; each later one is twice as long.
const FIRST: Duration = Duration::from_millis(250);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(15);

/// The pauses between attempts, until a limit. Pure: the caller has the clock and waits.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    next: Duration,
    give_up: Duration,
}

impl Backoff {
    /// Attempts from `now` on, for `limit`; both monotonic.
    pub(super) fn new(now: Duration, limit: Duration) -> Self {
        Self { next: FIRST, give_up: now.saturating_add(limit) }
    }

    /// When to try again after an attempt that failed at `now`; nothing when the limit has come.
    /// The last attempt is made at the limit itself.
    pub(super) fn again_at(&mut self, now: Duration) -> Option<Duration> {
        if now >= self.give_up {
            return None;
        }
        let at = now.saturating_add(self.next).min(self.give_up);
        self.next = self.next.saturating_mul(2).min(LONGEST);
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_the_last_attempt_is_at_the_limit() {
        let mut now = Duration::from_secs(1000);
        let mut backoff = Backoff::new(now, Duration::from_secs(40));
        let mut pauses = Vec::new();
        while let Some(at) = backoff.again_at(now) {
            pauses.push((at - now).as_millis());
            now = at;
        }
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 15000, 9250]);
        assert_eq!(Backoff::new(now, Duration::ZERO).again_at(now), None);
        assert!(Backoff::new(now, Duration::MAX).again_at(now).is_some());
    }
}
