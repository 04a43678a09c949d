//! `jerichoci-incus-run relay`: a socket of its own before one of this host.
//!
//! Incus reads the beginning of a connection (eight bytes, to see whether it is TLS) before it takes the next one. sshd
//! connects as soon as somebody at the other end wants to, and what that one has to say comes a round trip later, or
//! never when the network goes in between: until then Incus answers nobody on this host. So engines are let through
//! to it by this relay, which connects when there is something to say.
//!
//! | path below the work dir | what |
//! |---|---|
//! | `relay` | mode 0700, locked (flock) while a socket appears in it |
//! | `relay/<pid>-<n>` | the socket of one relay |

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jericho_host::CancelToken;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::runner::complain;
use crate::{BOOTSTRAP_ERROR, signals};

/// What Incus wants of a connection before it takes another one.
const BEGINNING: usize = 8;

/// Longest until it listens.
const START: Timespec = Timespec { tv_sec: 3, tv_nsec: 0 };

/// What one read takes.
const CHUNK: usize = 64 << 10;

/// The longest path that a socket can have.
const LONGEST_SOCKET: usize = 107;

/// Serves until whoever could write to its input has gone; what is written there is left to others, who may have the same
/// input. Prints the path of its socket, and a line's end, once it listens, and nothing more: its output ends. Returns
/// the exit code of the process.
pub(crate) fn serve(work_dir: &Path, to: &Path) -> u8 {
    // Each connection takes two, and a run has many.
    let _ = jericho_host::sys::raise_open_files();
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let token = match CancelToken::new().and_then(|token| signals::listen(&token, false).map(|()| token)) {
        Ok(token) => token,
        Err(error) => {
            complain(&format!("cannot hear signals: {error}"));
            return BOOTSTRAP_ERROR;
        }
    };
    let began = limit().and_then(|listens| {
        let (listener, path) = open(work_dir, to)?;
        begin(listener, to, &token)?;
        Ok((listens, path))
    });
    let (listens, path) = match began {
        Ok(began) => began,
        Err(error) => {
            complain(&error.to_string());
            return BOOTSTRAP_ERROR;
        }
    };
    if say(&path).is_ok() {
        listens.store(true, Ordering::SeqCst);
        until_the_end(&token);
    }
    // What is connected goes with this process.
    let _ = std::fs::remove_file(&path);
    0
}

/// Ends the process in a while, unless the result says that it listens: an Incus that takes no connections, or another
/// relay that was stopped, keeps no engine waiting that can do without this one.
fn limit() -> io::Result<Arc<AtomicBool>> {
    let listens = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&listens);
    std::thread::Builder::new().name("limit".to_owned()).spawn(move || {
        let _ = rustix::event::poll(&mut [], Some(&START));
        if !theirs.load(Ordering::SeqCst) {
            complain("cannot listen in time");
            std::process::exit(BOOTSTRAP_ERROR.into());
        }
    })?;
    Ok(listens)
}

/// Says where it listens, and nothing more: whoever reads to the end has all of it.
fn say(path: &Path) -> io::Result<()> {
    let nowhere = File::options().write(true).open("/dev/null")?;
    writeln!(io::stdout(), "{}", path.display())?;
    io::stdout().flush()?;
    rustix::stdio::dup2_stdout(&nowhere)?;
    Ok(rustix::stdio::dup2_stderr(&nowhere)?)
}

fn told(what: impl std::fmt::Display) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// The socket, and where it is.
fn open(work_dir: &Path, to: &Path) -> io::Result<(UnixListener, PathBuf)> {
    // Whoever cannot connect is better served by the words of who connects directly.
    drop(UnixStream::connect(to).map_err(told(format_args!("cannot connect to {}", to.display())))?);
    let dir = work_dir.join("relay");
    let failed = |error: io::Error| told(format_args!("cannot make a socket in {}", dir.display()))(error);
    match DirBuilder::new().mode(0o700).create(&dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let lock = rustix::fs::open(&dir, flags, Mode::empty()).map(File::from).map_err(|e| failed(e.into()))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|e| failed(e.into()))?;
    sweep(&dir);
    let pid = std::process::id();
    let mut number = 0;
    loop {
        // A process of the same number may be in another container with the same directory.
        let path = dir.join(format!("{pid}-{number}"));
        if path.as_os_str().len() > LONGEST_SOCKET {
            return Err(failed(io::Error::other("the path is too long for a socket")));
        }
        match UnixListener::bind(&path) {
            Ok(listener) => return Ok((listener, path)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => number += 1,
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Removes the sockets of relays that were killed. Called with the lock: one that nobody listens at was not just made.
fn sweep(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        if UnixStream::connect(&path).is_err_and(refused) {
            let _ = std::fs::remove_file(&path);
        }
    }
}

/// Takes connections from now on, on a thread of its own. Where no more can be taken, `token` is cancelled.
fn begin(listener: UnixListener, to: &Path, token: &CancelToken) -> io::Result<()> {
    let (to, token): (Arc<Path>, _) = (to.into(), token.clone());
    std::thread::Builder::new().name("relay".to_owned()).spawn(move || {
        loop {
            match listener.accept() {
                Ok((from, _)) => {
                    let to = Arc::clone(&to);
                    let carry = move || drop(carry(from, &to));
                    // Without a thread the stream is closed, and whoever wants it tries again.
                    let _ = std::thread::Builder::new().name("stream".to_owned()).spawn(carry);
                }
                // Whoever wanted it has gone.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                    ) => {}
                // No more descriptors, as a rule. A new one has them again.
                Err(_) => break,
            }
        }
        token.cancel(jericho_host::CancelReason::Requested);
    })?;
    Ok(())
}

/// Connects once there is something to say, and carries both ways until both ends have ended.
fn carry(mut from: UnixStream, to: &Path) -> io::Result<()> {
    let mut first = vec![0; CHUNK];
    let mut length = 0;
    while length < BEGINNING {
        match from.read(&mut first[length..]) {
            Ok(0) if length == 0 => return Ok(()),
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut to = UnixStream::connect(to)?;
    to.write_all(&first[..length])?;
    drop(first);
    let (back, forth) = (to.try_clone()?, from.try_clone()?);
    std::thread::scope(|scope| {
        let back = move || pass(back, forth);
        std::thread::Builder::new().name("back".to_owned()).spawn_scoped(scope, back)?;
        pass(from, to);
        Ok(())
    })
}

/// Carries one way. The end of one end is told to the other; an error ends both ways.
fn pass(mut from: UnixStream, mut to: UnixStream) {
    let mut buffer = vec![0; CHUNK];
    let carried = loop {
        match from.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(count) => {
                if let Err(error) = to.write_all(&buffer[..count]) {
                    break Err(error);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    // Who has gone need not be told.
    match carried {
        Ok(()) => drop(to.shutdown(Shutdown::Write)),
        Err(_) => drop((to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both))),
    }
}

/// Waits until nobody can write to the input any more, or for a signal.
fn until_the_end(token: &CancelToken) {
    let stdin = rustix::stdio::stdin();
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(token.fd(), PollFlags::IN),
            // That it ends is told unasked.
            PollFd::from_borrowed_fd(stdin, PollFlags::empty()),
        ];
        match rustix::event::poll(&mut fds, None) {
            Err(Errno::INTR) => {}
            _ => return,
        }
    }
}
