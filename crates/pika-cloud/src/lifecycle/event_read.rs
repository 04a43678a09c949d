//! Reads a guest's journal: what can be read, and what could not be.

use std::fmt;
use std::path::Path;

use serde::Deserialize;

use super::{LifecycleEvent, SCHEMA_VERSION};
use crate::document::LoadError;

/// A journal, or a part of one, as read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventLogContents {
    /// The events, in file order.
    pub events: Vec<LifecycleEvent>,
    /// What is wrong with the journal, in file order. None of it keeps the other lines from being read.
    pub problems: Vec<EventProblem>,
    /// Where to go on reading, in bytes: after the last line that is not still being written.
    pub next_offset: u64,
    /// Number of the last event, or the one that was given; 0 when there is none.
    pub last_seq: u64,
}

/// Something wrong at one place of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventProblem {
    /// Line, from 1.
    pub line: u64,
    /// Where the line starts, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub kind: EventProblemKind,
}

/// What can be wrong with a line of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventProblemKind {
    /// The line ends in the middle: its writer died, or is at it. Skipped.
    Torn,
    /// NUL characters around the line, as a power loss leaves them. Read, when there is an event.
    Nuls,
    /// Not an event. Skipped.
    Garbled {
        /// What the reader said.
        reason: String,
    },
    /// A schema version this build cannot read. Skipped; its number counts.
    SchemaVersion {
        /// The version of the line.
        found: u64,
        /// The version this build reads.
        expected: u32,
    },
    /// Numbers are missing before this line. The line is read.
    Gap {
        /// The number due.
        expected: u64,
        /// The number of the line.
        found: u64,
    },
    /// The number was there before, or is lower than the one before. The line is read.
    Repeated {
        /// The number due.
        expected: u64,
        /// The number of the line.
        found: u64,
    },
}

impl fmt::Display for EventProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} (byte {}): ", self.line, self.offset)?;
        match &self.kind {
            EventProblemKind::Torn => f.write_str("ends in the middle"),
            EventProblemKind::Nuls => f.write_str("has NUL characters around it"),
            EventProblemKind::Garbled { reason } => write!(f, "is no event: {reason}"),
            EventProblemKind::SchemaVersion { found, expected } => {
                write!(f, "has schema_version {found}, expected {expected}")
            }
            EventProblemKind::Gap { expected, found } => {
                write!(f, "has seq {found}, expected {expected}: events are missing")
            }
            EventProblemKind::Repeated { expected, found } => {
                write!(f, "has seq {found}, expected {expected}: events are repeated")
            }
        }
    }
}

/// Reads the journal at a path, from its start.
///
/// # Errors
///
/// Only when the file cannot be read; bad lines are [`EventLogContents::problems`].
pub fn read_events(path: &Path) -> Result<EventLogContents, LoadError> {
    let bytes = std::fs::read(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    Ok(parse_events(&bytes, 0))
}

/// Reads a part of a journal that starts at a line and follows event number `after_seq` (0: the start).
///
/// To follow a journal, read from `next_offset` on (it counts from the start of `bytes`) and hand
/// in `last_seq`.
pub fn parse_events(bytes: &[u8], after_seq: u64) -> EventLogContents {
    let mut contents = EventLogContents { last_seq: after_seq, ..EventLogContents::default() };
    let mut offset = 0;
    for (number, line) in (1..).zip(bytes.split_inclusive(|byte| *byte == b'\n')) {
        let is_ended = line.ends_with(b"\n");
        let is_whole = contents.take_line(number, offset, line.trim_ascii(), is_ended);
        offset += line.len() as u64;
        if is_ended || is_whole {
            contents.next_offset = offset;
        }
    }
    contents
}

impl EventLogContents {
    /// Reads one line; true when it is whole, with or without its newline.
    fn take_line(&mut self, line: u64, offset: u64, text: &[u8], is_ended: bool) -> bool {
        let bare = without_nuls(text);
        let problems = &mut self.problems;
        let mut report = |kind| problems.push(EventProblem { line, offset, kind });
        if bare.len() != text.len() {
            report(EventProblemKind::Nuls);
        }
        if bare.is_empty() {
            return false;
        }
        let (seq, event) = match parse_line(bare, is_ended) {
            Ok(event) => (event.seq, Some(event)),
            Err((kind, seq)) => {
                report(kind);
                match seq {
                    Some(seq) => (seq, None),
                    None => return false,
                }
            }
        };
        let expected = self.last_seq.saturating_add(1);
        if seq > expected {
            report(EventProblemKind::Gap { expected, found: seq });
        } else if seq <= self.last_seq {
            report(EventProblemKind::Repeated { expected, found: seq });
        }
        self.last_seq = self.last_seq.max(seq);
        self.events.extend(event);
        true
    }
}

/// An event, or what is wrong with it and, where that is known all the same, its number.
fn parse_line(line: &[u8], is_ended: bool) -> Result<LifecycleEvent, (EventProblemKind, Option<u64>)> {
    #[derive(Deserialize)]
    struct Header {
        schema_version: u64,
        #[serde(default)]
        seq: Option<u64>,
    }
    let expected = SCHEMA_VERSION;
    if let Ok(Header { schema_version: found, seq }) = serde_json::from_slice(line)
        && found != u64::from(expected)
    {
        return Err((EventProblemKind::SchemaVersion { found, expected }, seq));
    }
    serde_json::from_slice(line).map_err(|error| {
        let is_torn = error.is_eof() || (!is_ended && error.is_syntax());
        let torn_or_garbled = if is_torn {
            EventProblemKind::Torn
        } else {
            EventProblemKind::Garbled { reason: error.to_string() }
        };
        (torn_or_garbled, None)
    })
}

/// The line without NUL characters at its ends.
pub(crate) fn without_nuls(mut line: &[u8]) -> &[u8] {
    while let [0, rest @ ..] | [rest @ .., 0] = line {
        line = rest;
    }
    line
}
