//! How the socket of Incus on a host is reached.

use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jericho_host::{CancelToken, Forward, Host as _, HostError, LocalHost, SshHost};

/// A host whose unix sockets can be connected to. On this machine that is the path itself; over
/// SSH it is a forward of the master connection.
pub trait SocketHost: Send + Sync + fmt::Debug {
    /// For messages: `local`, or what ssh(1) calls it.
    fn socket_host(&self) -> &str;

    /// A new stream, connected to the socket at `path` on that host.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` when this user may not, which is not tried again; `NotFound` when there
    /// is no such socket, `ConnectionRefused` when nobody listens. Whatever is none of these
    /// counts as a lost connection.
    fn connect(&self, path: &Path, cancel: &CancelToken) -> io::Result<UnixStream>;

    /// How often a connection to that host was lost and made anew, so far. A loss that was mended
    /// before anybody waited shows only here.
    fn reconnections(&self) -> u64 {
        0
    }
}

impl SocketHost for LocalHost {
    fn socket_host(&self) -> &str {
        self.label()
    }

    fn connect(&self, path: &Path, _cancel: &CancelToken) -> io::Result<UnixStream> {
        UnixStream::connect(path)
    }
}

/// The sockets of a host over SSH. Keeps one forward per socket, and asks for a new one when the
/// connection was lost. Whether somebody listens at the other end shows only at the first answer:
/// a socket that is not there looks like a connection that breaks.
pub struct SshSockets {
    host: Arc<SshHost>,
    forwards: Mutex<Vec<(PathBuf, Arc<Forward>)>>,
    reconnections: AtomicU64,
}

impl fmt::Debug for SshSockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SshSockets").field(&self.host.label()).finish()
    }
}

impl SshSockets {
    /// Of this host. Nothing is connected before a socket is asked for.
    #[must_use]
    pub fn new(host: Arc<SshHost>) -> Self {
        Self { host, forwards: Mutex::default(), reconnections: AtomicU64::new(0) }
    }

    /// The forward of a socket; a new one when there is none that lives.
    fn forward(&self, path: &Path, cancel: &CancelToken) -> Result<Arc<Forward>, HostError> {
        // Held while it is made: whoever comes meanwhile waits for it, and does not make a second.
        let mut forwards = self.forwards.lock().unwrap_or_else(PoisonError::into_inner);
        let known = forwards.iter().position(|(known, _)| known == path);
        if let Some((_, forward)) = known.map(|at| &forwards[at])
            && forward.is_alive()
        {
            return Ok(Arc::clone(forward));
        }
        let forward = Arc::new(self.host.forward(path, cancel)?);
        match known {
            // A dead one stands until there is another.
            Some(at) => {
                forwards[at].1 = Arc::clone(&forward);
                self.reconnections.fetch_add(1, Ordering::Relaxed);
            }
            None => forwards.push((path.to_owned(), Arc::clone(&forward))),
        }
        Ok(forward)
    }
}

impl SocketHost for SshSockets {
    fn socket_host(&self) -> &str {
        self.host.label()
    }

    fn connect(&self, path: &Path, cancel: &CancelToken) -> io::Result<UnixStream> {
        let forward = self.forward(path, cancel).map_err(|error| {
            let is_final = matches!(&error, HostError::Ssh(ssh) if !ssh.is_transient())
                || matches!(&error, HostError::NotFound { .. });
            let kind = if is_final { io::ErrorKind::PermissionDenied } else { io::ErrorKind::NotConnected };
            io::Error::new(kind, error)
        })?;
        // The listener of a master that is just ending is gone, which is no word of the other end.
        UnixStream::connect(forward.path())
            .map_err(|error| io::Error::new(io::ErrorKind::NotConnected, error))
    }

    fn reconnections(&self) -> u64 {
        self.reconnections.load(Ordering::Relaxed)
    }
}
