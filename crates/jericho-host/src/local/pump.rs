//! The merged output of a supervised command, from its pipe into the sink.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::host::{HostError, OutputSink};

/// As large as an unprivileged process may make a pipe: the fewer turns, the better.
pub(crate) const PIPE_SIZE: usize = 1 << 20;
/// What one read takes. It fits into the second level cache of the processor, unlike the pipe.
const CHUNK: usize = 256 << 10;

/// A pipe whose reading end does not block; both ends close at exec.
pub(crate) fn pipe(size: Option<usize>) -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    if let Some(size) = size {
        // Refused when this user has many large pipes already; a small one does it too.
        let _ = rustix::pipe::fcntl_setpipe_size(&reader, size);
    }
    Ok((reader, writer))
}

pub(super) struct Pump<'a> {
    pipe: Option<OwnedFd>,
    sink: &'a mut dyn OutputSink,
    buffer: Vec<u8>,
    bytes: u64,
    failure: Option<io::Error>,
}

impl<'a> Pump<'a> {
    pub(super) fn new(pipe: OwnedFd, sink: &'a mut dyn OutputSink) -> Self {
        Self { pipe: Some(pipe), sink, buffer: Vec::new(), bytes: 0, failure: None }
    }

    /// To be polled for reading, while somebody may still write.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// The inode number by which holders of the pipe are found; nothing when there can be none.
    pub(super) fn inode(&self) -> Option<u64> {
        Some(rustix::fs::fstat(self.pipe.as_ref()?).ok()?.st_ino)
    }

    pub(super) fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    /// Bytes in the pipe now.
    pub(super) fn pending(&self) -> u64 {
        self.pipe.as_ref().and_then(|pipe| rustix::io::ioctl_fionread(pipe).ok()).unwrap_or(0)
    }

    pub(super) fn close(&mut self) {
        self.pipe = None;
    }

    /// Bytes that the sink has taken.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    pub(super) fn take_failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    /// Moves what is there, at most one buffer full. Returns whether there was something. After
    /// the sink has failed, output is read and dropped, so that the command can end in order.
    pub(super) fn turn(&mut self) -> Result<bool, HostError> {
        let Some(pipe) = &self.pipe else { return Ok(false) };
        if self.buffer.capacity() == 0 {
            self.buffer.reserve_exact(CHUNK);
        }
        self.buffer.clear();
        match rustix::io::read(pipe, rustix::buffer::spare_capacity(&mut self.buffer)) {
            Ok(0) => {
                self.pipe = None;
                Ok(false)
            }
            Ok(_) => {
                if self.failure.is_none() {
                    match self.sink.write(&self.buffer) {
                        Ok(()) => self.bytes += self.buffer.len() as u64,
                        Err(error) => self.failure = Some(error),
                    }
                }
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(error) => Err(HostError::System("cannot read the output of a command", error.into())),
        }
    }
}
