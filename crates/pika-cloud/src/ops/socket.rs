//! How the socket of Incus on a host is reached.

use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;

use jericho_host::{Host as _, LocalHost};

/// A host whose unix sockets can be connected to. On this machine that is the path itself; over
/// SSH it is a forward of the master connection.
pub trait SocketHost: Send + Sync + fmt::Debug {
    /// For messages: `local`, or what ssh(1) calls it.
    fn socket_host(&self) -> &str;

    /// A new stream, connected to the socket at `path` on that host.
    ///
    /// # Errors
    ///
    /// What connect(2) says: `PermissionDenied` when this user may not, `NotFound` when there is no
    /// such socket, `ConnectionRefused` when nobody listens. Whatever is none of these counts as a
    /// lost connection and is tried again.
    fn connect(&self, path: &Path) -> io::Result<UnixStream>;
}

impl SocketHost for LocalHost {
    fn socket_host(&self) -> &str {
        self.label()
    }

    fn connect(&self, path: &Path) -> io::Result<UnixStream> {
        UnixStream::connect(path)
    }
}
