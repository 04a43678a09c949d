//! Who is told what happens while it happens.

use std::io;
use std::time::Duration;

use crate::lifecycle::{LifecycleEvent, LifecycleState};

/// Which output of the entry command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Something about the way, not about the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// The project has reached a limit; a place is waited for. Told once per wait.
    Waiting {
        /// What Incus said.
        reason: String,
    },
    /// The connection to the host was lost and is there again, before anything had to wait for it.
    Reconnected,
    /// The operation that runs the entry command is no longer known: the daemon was restarted, or the guest is
    /// gone. What has become of the command is asked of the guest.
    OperationLost,
    /// The entry command is started again.
    Restarting {
        /// Which attempt it will be, from 2.
        attempt: u32,
        /// After this pause.
        after: Duration,
    },
    /// Something could not be done that does not decide the outcome.
    Warning(String),
}

/// Is told what happens. Every method has a default that does nothing.
///
/// Infrastructure states are seen from the host, workload states are said by the guest; the two
/// ways of telling keep them apart.
pub trait Observer {
    /// The host saw the guest come to an infrastructure state: requested, provisioning, booted,
    /// unreachable, stopped, destroyed.
    fn host_saw(&mut self, _state: LifecycleState) {}

    /// The guest wrote an event, each once and in order.
    fn guest_said(&mut self, _event: &LifecycleEvent) {}

    /// The entry command printed something. All of it comes, in order, per stream.
    ///
    /// # Errors
    ///
    /// Ends the following, with [`OpsError::File`](super::OpsError::File); the guest goes on.
    fn output(&mut self, _stream: Stream, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    /// Something happened on the way.
    fn note(&mut self, _note: Note) {}
}

/// Nobody is told anything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silence;

impl Observer for Silence {}
