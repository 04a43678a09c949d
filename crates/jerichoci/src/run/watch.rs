//! Output of running jobs for a live view: the last line of each, at next to no cost.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Is shown the output of jobs as it goes into their logs: after secrets were masked, on the
/// thread of the job, in chunks of any size that end anywhere. The job waits for it: take what
/// is needed and return.
pub trait OutputWatch: Send + Sync + fmt::Debug {
    /// Output of a job.
    fn output(&self, job_id: &str, bytes: &[u8]);

    /// The job has ended, or is tried again: what it has said is history.
    fn ended(&self, job_id: &str);
}

/// How much of the end of the output is kept of each job.
const KEPT: usize = 512;

/// Keeps the end of the output of each running job.
#[derive(Debug, Default)]
pub struct LastLines {
    tails: Mutex<HashMap<String, Vec<u8>>>,
}

impl LastLines {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The last line of a running job that is not blank, without its end; nothing when there is
    /// none. A line that is still being written counts. What is no UTF-8 is replaced; control
    /// characters are as the job wrote them. Of a line over 512 bytes it is the end.
    #[must_use]
    pub fn last_line(&self, job_id: &str) -> Option<String> {
        let tails = self.tails.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = tails.get(job_id)?.rsplit(|byte| matches!(byte, b'\n' | b'\r'));
        let line = lines.into_iter().find(|line| !line.trim_ascii().is_empty())?;
        Some(String::from_utf8_lossy(line).into_owned())
    }
}

impl OutputWatch for LastLines {
    fn output(&self, job_id: &str, bytes: &[u8]) {
        let end = &bytes[bytes.len().saturating_sub(KEPT)..];
        let mut tails = self.tails.lock().unwrap_or_else(PoisonError::into_inner);
        // Not `entry`: it would want the name to be copied for every chunk.
        if !tails.contains_key(job_id) {
            tails.insert(job_id.to_owned(), Vec::with_capacity(2 * KEPT));
        }
        let Some(tail) = tails.get_mut(job_id) else { return };
        if tail.len() + end.len() > 2 * KEPT {
            let cut = tail.len().saturating_sub(KEPT.saturating_sub(end.len()));
            tail.drain(..cut);
        }
        tail.extend_from_slice(end);
    }

    fn ended(&self, job_id: &str) {
        self.tails.lock().unwrap_or_else(PoisonError::into_inner).remove(job_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_the_last_that_says_something_and_memory_is_bounded() {
        let lines = LastLines::new();
        assert_eq!(lines.last_line("a"), None);
        lines.output("a", b"one\ntw");
        assert_eq!(lines.last_line("a").unwrap(), "tw");
        lines.output("a", b"o\n \n\n");
        assert_eq!(lines.last_line("a").unwrap(), "two");
        for _ in 0..1000 {
            lines.output("a", &[b'x'; 300]);
            assert!(lines.tails.lock().unwrap()["a"].capacity() <= 2 * KEPT);
        }
        lines.output("a", b"\rend\xff");
        assert_eq!(lines.last_line("a").unwrap(), "end\u{fffd}");
        lines.ended("a");
        assert_eq!(lines.last_line("a"), None);
    }
}
