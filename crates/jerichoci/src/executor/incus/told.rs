//! What is told while a guest works, into the two logs of its job.

use std::io;

use jericho_host::OutputSink;
use pika_cloud::LifecycleState;
use pika_cloud::ops::{Note, Observer, Stream};

use crate::executor::JobLog;

/// How much of an unfinished line of the runner is kept.
const LONGEST_LINE: usize = 64 << 10;

/// Puts the command's output into the guest log, and what happens on the way into the host log.
pub(super) struct Told<'a> {
    pub(super) log: &'a mut dyn JobLog,
    pub(super) guest_log: &'a mut dyn OutputSink,
    /// What the runner has said and not ended with a newline.
    line: Vec<u8>,
    /// The last whole line of the runner itself.
    pub(super) last_complaint: Option<String>,
    is_away: bool,
    /// The host log could not be written.
    pub(super) problem: Option<io::Error>,
    host: String,
    /// What belongs into the record of the job, and with that into its log.
    pub(super) warnings: Vec<String>,
}

impl<'a> Told<'a> {
    pub(super) fn new(log: &'a mut dyn JobLog, guest_log: &'a mut dyn OutputSink, host: &str) -> Self {
        Self {
            log,
            guest_log,
            line: Vec::new(),
            last_complaint: None,
            is_away: false,
            problem: None,
            host: host.to_owned(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn line(&mut self, line: &str) {
        let written = self.log.engine_line(line);
        self.noticed(written);
    }

    fn connected_again(&mut self) {
        self.line(&format!("connected again to Incus on {}", self.host));
    }

    fn noticed(&mut self, written: io::Result<()>) {
        if let Err(error) = written {
            self.problem.get_or_insert(error);
        }
    }

    fn complain(&mut self) {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        if !line.trim().is_empty() {
            let written = self.log.write(format!("[runner:stderr] {line}\n").as_bytes());
            self.noticed(written);
            self.last_complaint = Some(line);
        }
    }

    /// What was said last may not have ended with a newline.
    pub(super) fn finish(&mut self) {
        self.complain();
    }
}

impl Observer for Told<'_> {
    fn host_saw(&mut self, state: LifecycleState) {
        match state {
            LifecycleState::Unreachable => {
                self.is_away = true;
                self.line(&format!("lost the connection to Incus on {}; trying again", self.host));
            }
            LifecycleState::Booted if std::mem::take(&mut self.is_away) => self.connected_again(),
            _ => {}
        }
    }

    fn output(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        if stream == Stream::Stdout {
            return self.guest_log.write(bytes);
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = piece.strip_suffix(b"\n");
            self.line.extend_from_slice(text.unwrap_or(piece));
            if text.is_some() || self.line.len() > LONGEST_LINE {
                self.complain();
            }
        }
        Ok(())
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::Waiting { reason } => self.line(&format!("waiting for a place: {reason}")),
            Note::Reconnected => self.connected_again(),
            Note::OperationLost => {
                self.line("Incus no longer follows the runner; looking for it in the guest");
            }
            Note::Warning(text) => self.warnings.push(text),
            _ => {}
        }
    }
}
