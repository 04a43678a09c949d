//! The transport beneath the HTTP client: a unix stream that gives way to a cancel token.
//!
//! Every wait is one poll(2) over the stream and the token, so that a request that would take
//! minutes (waiting for an operation) ends the moment somebody cancels.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use jericho_host::{CancelToken, Clock, SystemClock};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use super::socket::SocketHost;

/// Opens streams to one socket of one host.
#[derive(Debug)]
pub(crate) struct SocketConnector {
    pub(crate) host: Arc<dyn SocketHost>,
    pub(crate) socket: PathBuf,
    pub(crate) cancel: CancelToken,
}

/// The socket could not be connected to, as opposed to a connection that broke.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect")]
pub(crate) struct ConnectFailed(#[source] pub(crate) io::Error);

/// The token was cancelled while a request was under way.
#[derive(Debug, thiserror::Error)]
#[error("cancelled")]
pub(crate) struct Interrupted;

impl Connector for SocketConnector {
    type Out = SocketTransport;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _chained: Option<()>,
    ) -> Result<Option<SocketTransport>, ureq::Error> {
        let stream = self
            .host
            .connect(&self.socket, &self.cancel)
            .and_then(|stream| stream.set_nonblocking(true).map(|()| stream))
            .map_err(|source| ureq::Error::Other(Box::new(ConnectFailed(source))))?;
        let buffers =
            LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(SocketTransport { stream, buffers, cancel: self.cancel.clone() }))
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct SocketTransport {
    stream: UnixStream,
    buffers: LazyBuffers,
    cancel: CancelToken,
}

impl SocketTransport {
    /// Returns once the stream is ready for `interest`, or has failed, which the next call tells.
    fn wait(&self, interest: PollFlags, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let deadline = timeout.not_zero().map(|left| SystemClock.monotonic().saturating_add(*left));
        loop {
            let mut fds = [
                PollFd::new(&self.stream, interest),
                PollFd::from_borrowed_fd(self.cancel.fd(), PollFlags::IN),
            ];
            let left = deadline.map(|deadline| timespec(deadline.saturating_sub(SystemClock.monotonic())));
            match poll(&mut fds, left.as_ref()) {
                Ok(0) => return Err(ureq::Error::Timeout(timeout.reason)),
                Ok(_) if !fds[1].revents().is_empty() => {
                    return Err(ureq::Error::Other(Box::new(Interrupted)));
                }
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(ureq::Error::Io(error.into())),
            }
        }
    }
}

pub(crate) fn timespec(time: std::time::Duration) -> Timespec {
    // Longer than 68 years is for ever; poll(2) takes no more.
    let seconds = i64::from(i32::MAX).min(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    Timespec { tv_sec: seconds, tv_nsec: time.subsec_nanos().into() }
}

impl Transport for SocketTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let mut sent = 0;
        while sent < amount {
            match self.stream.write(&self.buffers.output()[sent..amount]) {
                Ok(0) => return Err(ureq::Error::Io(io::ErrorKind::WriteZero.into())),
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(PollFlags::OUT, timeout.for_write())?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ureq::Error::Io(error)),
            }
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        loop {
            match self.stream.read(self.buffers.input_append_buf()) {
                Ok(count) => {
                    self.buffers.input_appended(count);
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(PollFlags::IN, timeout.for_read())?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ureq::Error::Io(error)),
            }
        }
    }

    fn is_open(&mut self) -> bool {
        // An idle connection has nothing to say: readable means closed, or out of step.
        let mut fds = [PollFd::from_borrowed_fd(self.stream.as_fd(), PollFlags::IN)];
        matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0))
    }
}

/// There is nothing to look up: every address is the one socket.
#[derive(Debug)]
pub(crate) struct NoNames;

impl Resolver for NoNames {
    fn resolve(
        &self,
        _uri: &Uri,
        _config: &Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        // At least one address has to be there; the connector does not look at it.
        let mut addresses = self.empty();
        addresses.push(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        Ok(addresses)
    }
}
