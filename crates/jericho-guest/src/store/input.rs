//! Reading what is sent, until it ends or a signal says that nobody waits for an answer any more.

use std::io::{self, BufRead, BufReader, Read};

use jericho_host::CancelToken;
use jericho_manifest::protocol::LONGEST_LINE;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

/// What one read takes.
const CHUNK: usize = 256 << 10;

/// Standard input.
pub(super) struct Input(BufReader<Wire>);

impl Input {
    pub(super) fn new(token: CancelToken) -> Self {
        Self(BufReader::with_capacity(CHUNK, Wire(token)))
    }

    /// The next line without its end; nothing at the end of the input, also when that comes in the
    /// middle of a line: whoever wrote it is gone.
    pub(super) fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        self.0.by_ref().take(LONGEST_LINE as u64 + 1).read_until(b'\n', &mut line)?;
        match line.pop() {
            Some(b'\n') => Ok(Some(line)),
            Some(_) if line.len() >= LONGEST_LINE => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "a question is longer than any can be"))
            }
            _ => Ok(None),
        }
    }
}

impl Read for Input {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

struct Wire(CancelToken);

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let stdin = rustix::stdio::stdin();
        loop {
            let mut fds = [
                PollFd::from_borrowed_fd(self.0.fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(stdin, PollFlags::IN),
            ];
            match rustix::event::poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            if self.0.is_cancelled() {
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "a signal ended it"));
            }
            match rustix::io::read(stdin, &mut *into) {
                Err(Errno::INTR | Errno::AGAIN) => {}
                other => return Ok(other?),
            }
        }
    }
}
