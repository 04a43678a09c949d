//! What a delivery tells, as lines of a log: its own, and every other second how far it is.

use std::time::Duration;

use jericho_host::Clock;

use super::Told;

/// Between two lines about how far it is; a short delivery has none.
const INTERVAL: Duration = Duration::from_secs(2);

/// Makes lines of it.
pub(crate) fn as_lines<'a>(
    clock: &'a dyn Clock,
    mut line: impl FnMut(&str) + 'a,
) -> impl FnMut(Told<'_>) + 'a {
    let mut told = clock.monotonic();
    move |what| match what {
        Told::Line(text) => line(text),
        Told::Progress(progress) => {
            let now = clock.monotonic();
            if now.saturating_sub(told) >= INTERVAL {
                told = now;
                line(&format!(
                    "sending the snapshot: {} of {} files, {} of {} MiB",
                    progress.files,
                    progress.of_files,
                    progress.bytes >> 20,
                    progress.of_bytes >> 20,
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use chrono::{DateTime, Utc};

    use super::super::Progress;
    use super::*;

    #[derive(Debug, Default)]
    struct Seconds(AtomicU64);

    impl Clock for Seconds {
        fn now(&self) -> DateTime<Utc> {
            DateTime::default()
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn how_far_a_delivery_is_is_told_every_other_second_and_each_line_at_once() {
        let (clock, mut lines) = (Seconds::default(), Vec::new());
        let mut tell = as_lines(&clock, |line| lines.push(line.to_owned()));
        for second in 0..5 {
            clock.0.store(second, Ordering::Relaxed);
            let bytes = second << 20;
            tell(Told::Progress(Progress { files: second, of_files: 9, bytes, of_bytes: 30 << 20 }));
        }
        tell(Told::Line("sent"));
        drop(tell);
        assert_eq!(
            lines,
            [
                "sending the snapshot: 2 of 9 files, 2 of 30 MiB",
                "sending the snapshot: 4 of 9 files, 4 of 30 MiB",
                "sent"
            ]
        );
    }
}
