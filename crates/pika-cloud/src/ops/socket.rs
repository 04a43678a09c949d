//! How the socket of Incus on a host is reached.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use jericho_host::{
    CancelReason, CancelToken, Command, Conversation, Forward, Host as _, HostError, LocalHost, SshError,
    SshHost,
};
use rustix::event::{PollFd, PollFlags, poll};

use super::transport::timespec;

/// Longest that a relay is waited for: who waits for a host may want to go within seconds.
const RELAY_LIMIT: Duration = Duration::from_secs(3);

/// More than the path of a socket, and the end of a line.
const LONGEST_ANSWER: usize = 256;

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

    /// A connection to the socket at `path` has broken.
    fn broke(&self, path: &Path) {
        let _ = path;
    }

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
///
/// Incus reads the beginning of a connection before it takes the next one. sshd connects a round trip before there is
/// anything to read, and for ever when the network goes in that moment: nobody on the host would get an answer. With a
/// relay that stands between them ([`SshSockets::with_relay`]), it is connected to when there is something to say.
pub struct SshSockets {
    host: Arc<SshHost>,
    relay: Option<Box<RelayFor>>,
    lent: Mutex<Option<Lent>>,
    ways: Mutex<Vec<(PathBuf, Way)>>,
    reconnections: AtomicU64,
}

/// What starts the relay before a socket of the host.
type RelayFor = dyn Fn(&Path) -> Command + Send + Sync;

/// A relay that somebody else has started.
struct Lent {
    to: PathBuf,
    relay: PathBuf,
    life: Weak<()>,
}

/// How one socket is reached.
struct Way {
    forward: Arc<Forward>,
    by: By,
}

/// What stands before a socket.
enum By {
    /// Nothing: it is forwarded itself.
    Itself,
    /// A relay that runs for as long as this is kept.
    Own(Box<Conversation<'static>>),
    /// Somebody else's relay, which may go before he does.
    Lent(Weak<()>),
}

impl Way {
    fn is_open(&mut self) -> bool {
        let stands = match &mut self.by {
            By::Own(relay) => !relay.has_ended(),
            By::Lent(life) => life.strong_count() > 0,
            By::Itself => true,
        };
        stands && self.forward.is_alive()
    }
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
        let (lent, ways) = (Mutex::default(), Mutex::default());
        Self { host, relay: None, lent, ways, reconnections: AtomicU64::new(0) }
    }

    /// Lets a program of the host stand before each socket: `jerichoci-incus-run relay`, however it is started there. It
    /// prints the absolute path of a socket of its own and a line's end, listens there, and ends with its input. It takes
    /// one of the sessions of the host. Where it ends without having listened, the socket is forwarded without it.
    #[must_use]
    pub fn with_relay(mut self, relay: impl Fn(&Path) -> Command + Send + Sync + 'static) -> Self {
        self.relay = Some(Box::new(relay));
        self
    }

    /// Notes that such a program listens at `relay` before the socket `to`: the caller's, which is there for as long as
    /// `life` at most. After the first connection that breaks there is one of this value's own.
    pub fn relay_listens(&self, to: &Path, relay: &Path, life: Weak<()>) {
        let mut lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        *lent = Some(Lent { to: to.to_owned(), relay: relay.to_owned(), life });
    }

    /// The forward of a socket; a new one when there is none that lives.
    fn forward(&self, path: &Path, cancel: &CancelToken) -> Result<Arc<Forward>, HostError> {
        // Held while it is made: whoever comes meanwhile waits for it, and does not make a second.
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        let known = ways.iter().position(|(known, _)| known == path);
        if let Some((_, way)) = known.map(|at| &mut ways[at])
            && way.is_open()
        {
            return Ok(Arc::clone(&way.forward));
        }
        let lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner).take_if(|lent| lent.to == path);
        let (by, end) = match (lent.filter(|lent| lent.life.strong_count() > 0), &self.relay) {
            (Some(lent), _) => (By::Lent(lent.life), lent.relay),
            (None, Some(relay)) => self.start(&relay(path), path, cancel)?,
            (None, None) => (By::Itself, path.to_owned()),
        };
        let way = match (self.host.forward(&end, cancel), by) {
            (Ok(forward), by) => Way { forward: Arc::new(forward), by },
            // The path of a relay has that of the work directory in it, which ssh may not be able to forward.
            (Err(HostError::Ssh(SshError::Forward { .. })), By::Own(_) | By::Lent(_)) => {
                Way { forward: Arc::new(self.host.forward(path, cancel)?), by: By::Itself }
            }
            (Err(error), _) => return Err(error),
        };
        let forward = Arc::clone(&way.forward);
        let earlier = match known {
            // A dead one stands until there is another.
            Some(at) => {
                self.reconnections.fetch_add(1, Ordering::Relaxed);
                Some(std::mem::replace(&mut ways[at].1, way))
            }
            None => {
                ways.push((path.to_owned(), way));
                None
            }
        };
        // Its end takes a moment, which nobody else is to wait for.
        drop(ways);
        drop(earlier);
        Ok(forward)
    }

    /// Starts a relay, and says what is to be forwarded: the socket itself where there is none in time. Its reason shows
    /// there, too.
    fn start(&self, command: &Command, to: &Path, cancel: &CancelToken) -> Result<(By, PathBuf), HostError> {
        // That takes as long as it takes.
        self.host.connect(cancel)?;
        let limit = limited(cancel).map_err(|error| HostError::System("cannot limit a wait", error))?;
        match self.started(command, &limit) {
            Ok(Some((mut relay, path))) => {
                relay.heed(cancel);
                Ok((By::Own(Box::new(relay)), path))
            }
            Ok(None) => Ok((By::Itself, to.to_owned())),
            // It was too slow, or no session is free.
            Err(HostError::Cancelled(_)) if !cancel.is_cancelled() => Ok((By::Itself, to.to_owned())),
            Err(error) => Err(error),
        }
    }

    fn started(
        &self,
        command: &Command,
        limit: &CancelToken,
    ) -> Result<Option<(Conversation<'static>, PathBuf)>, HostError> {
        let mut conversation = self.host.converse_kept(command, limit)?;
        let (mut heard, mut buffer) = (Vec::new(), [0; 512]);
        while heard.last() != Some(&b'\n') && heard.len() < LONGEST_ANSWER {
            match conversation.receive(&mut buffer)? {
                0 => return Ok(None),
                count => heard.extend_from_slice(&buffer[..count]),
            }
        }
        let path = heard.strip_suffix(b"\n").map(|path| PathBuf::from(OsStr::from_bytes(path)));
        Ok(path.filter(|path| path.is_absolute()).map(|path| (conversation, path)))
    }
}

/// A token that is cancelled with another one, and when a relay takes too long to start.
fn limited(cancel: &CancelToken) -> io::Result<CancelToken> {
    let limit = CancelToken::new()?;
    let theirs = limit.clone();
    cancel.on_cancel(move |reason| _ = theirs.cancel(reason));
    let theirs = limit.clone();
    std::thread::Builder::new().name("relay-limit".to_owned()).spawn(move || {
        let mut fds = [PollFd::from_borrowed_fd(theirs.fd(), PollFlags::IN)];
        // An interruption by a signal makes it shorter: then it is done without the relay.
        let _ = poll(&mut fds, Some(&timespec(RELAY_LIMIT)));
        theirs.cancel(CancelReason::Requested);
    })?;
    Ok(limit)
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

    fn broke(&self, path: &Path) {
        // A relay of somebody else's may have gone, which nobody else tells; and where there was none there may be one now.
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        let lost: Vec<_> = ways
            .extract_if(.., |(known, way)| {
                known == path
                    && (matches!(way.by, By::Lent(_)) || self.relay.is_some() && matches!(way.by, By::Itself))
            })
            .collect();
        drop(ways);
        self.reconnections.fetch_add(u64::from(!lost.is_empty()), Ordering::Relaxed);
    }

    fn reconnections(&self) -> u64 {
        self.reconnections.load(Ordering::Relaxed)
    }
}
