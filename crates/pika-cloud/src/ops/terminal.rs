//! A terminal in a guest, for somebody who sits at one here.
//!
//! Incus has it as two web sockets: the bytes of the terminal, and words about its size. Both go through
//! the socket of the host like every request.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use serde_json::{Value, json};
use tungstenite::{Error as SocketError, HandshakeError, Message, WebSocket};
use ureq::http::Method;

use super::client::{Answer, Request, Trouble, quoted};
use super::ensure::InstanceRef;
use super::error::OpsError;
use super::incus::{Ending, Incus};
use super::transport::timespec;

/// What ends the input of a terminal: Ctrl-D.
const END_OF_INPUT: u8 = 4;

/// What runs at the terminal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attach {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Its environment. Whoever may list the processes of the host sees it: no secrets.
    pub environment: BTreeMap<String, String>,
    /// Directory that it starts in; that of root when absent.
    pub cwd: Option<String>,
    /// User and group; root when absent.
    pub user: Option<(u32, u32)>,
}

/// The terminal on this side. Whether it passes on every key is its own affair.
pub trait Console {
    /// Called once the command has been started, before anything is carried: the time to pass on every key.
    ///
    /// # Errors
    ///
    /// When it cannot; that ends the command.
    fn begin(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// A program of this machine has the terminal itself now, or no longer: what its keys send is for that program.
    fn lend(&mut self, lent: bool) {
        let _ = lent;
    }

    /// What is typed. Nothing more is read after its end.
    fn input(&self) -> BorrowedFd<'_>;

    /// Takes what the guest prints.
    ///
    /// # Errors
    ///
    /// When nobody reads it any more; that ends the command.
    fn print(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Becomes readable when the size has changed; nothing for a terminal whose size stays.
    fn resized(&self) -> Option<BorrowedFd<'_>>;

    /// Columns and rows; clears what [`resized`](Self::resized) tells.
    fn size(&mut self) -> (u16, u16);
}

type Socket = WebSocket<UnixStream>;

impl Incus {
    /// Runs a command at a terminal in a guest until it ends, and returns its exit code.
    ///
    /// # Errors
    ///
    /// [`OpsError::NotFound`] without the guest; [`OpsError::Failed`] when the command cannot be started, or
    /// the console cannot be written to; [`OpsError::Lost`] when the connection goes, which ends the command; and
    /// [`OpsError::Cancelled`].
    pub fn attach(
        &self,
        instance: &InstanceRef,
        attach: &Attach,
        console: &mut dyn Console,
    ) -> Result<i32, OpsError> {
        let action = format!("open a terminal in instance {}", instance.name);
        let operation = self.open(&action, instance, attach, console.size())?;
        let id = operation["id"].as_str().unwrap_or_default().to_owned();
        let secret = |name: &str| operation["metadata"]["fds"][name].as_str().map(str::to_owned);
        let (Some(data), Some(control)) = (secret("0"), secret("control")) else {
            return Err(self.garbled(&action, "an operation without a terminal"));
        };
        let broken = |error: io::Error| self.explain(&action, Trouble::Broken(error));
        // The command starts once both are there.
        let explain = |trouble| self.explain(&action, trouble);
        let mut control = self.socket(&id, &control).map_err(explain)?;
        let mut data = self.socket(&id, &data).map_err(explain)?;
        let begun = console.begin().map_err(|error| failed(&action, Stopped::Console(error), broken));
        let talked = begun.and_then(|()| self.talk(&action, &mut data, &mut control, console));
        // The operation ends when this side has closed its sockets, and a command that still runs is hung up.
        for socket in [&mut data, &mut control] {
            let _ = socket.close(None);
            let _ = socket.flush();
        }
        drop((data, control));
        talked?;
        match self.wait(&action, &id, self.client.patience.operation)? {
            Ending::Success(done) => match done["metadata"]["return"].as_i64() {
                Some(code) => Ok(i32::try_from(code).unwrap_or(-1)),
                None => Err(self.garbled(&action, "an end without an exit code")),
            },
            Ending::Failure(message) => Err(OpsError::Failed { action, message }),
            Ending::Vanished | Ending::Pending => {
                Err(OpsError::Failed { action, message: "it ended, and nobody knows how".to_owned() })
            }
        }
    }

    /// Asks for the command; answers with the operation, which has the keys of the sockets.
    fn open(
        &self,
        action: &str,
        instance: &InstanceRef,
        attach: &Attach,
        (width, height): (u16, u16),
    ) -> Result<Value, OpsError> {
        let mut body = json!({
            "command": attach.command,
            "environment": attach.environment,
            "interactive": true,
            "wait-for-websocket": true,
            "width": width,
            "height": height,
            "cwd": attach.cwd.clone().unwrap_or_default(),
        });
        if let Some((uid, gid)) = attach.user {
            body["user"] = uid.into();
            body["group"] = gid.into();
        }
        let request = Request::new(Method::POST, instance.path("/exec")).json(&body);
        let id = match self.ask_once(action, &request) {
            Ok(Answer::Begun(id)) => id,
            Ok(Answer::Done(_)) => return Err(self.garbled(action, "a document in place of an operation")),
            Err(trouble) if trouble.is_missing() => {
                return Err(OpsError::NotFound { what: "instance", name: instance.name.clone() });
            }
            Err(trouble) => return Err(self.explain(action, trouble)),
        };
        let operation: Option<Value> =
            self.find(action, &Request::get(format!("/1.0/operations/{}", quoted(&id))))?;
        operation.ok_or_else(|| self.garbled(action, "an operation that is not there"))
    }

    /// Connects to one socket of an operation.
    fn socket(&self, operation: &str, secret: &str) -> Result<Socket, Trouble> {
        let connect = || {
            let stream = self.client.host.connect(&self.client.socket, &self.client.cancel)?;
            stream.set_nonblocking(true)?;
            Ok((stream.try_clone()?, stream))
        };
        let (watched, stream) = connect().map_err(Trouble::Broken)?;
        let url =
            format!("ws://incus/1.0/operations/{}/websocket?secret={}", quoted(operation), quoted(secret));
        let until = self.clock.monotonic().saturating_add(self.client.patience.request);
        let mut shaken = tungstenite::client(url.as_str(), stream);
        loop {
            shaken = match shaken {
                Ok((socket, _)) => return Ok(socket),
                Err(HandshakeError::Failure(error)) => return Err(Trouble::Broken(io_error(error))),
                Err(HandshakeError::Interrupted(halfway)) => {
                    self.await_answer(&watched, until)?;
                    halfway.handshake()
                }
            }
        }
    }

    /// Waits until there is something to read.
    fn await_answer(&self, stream: &UnixStream, until: Duration) -> Result<(), Trouble> {
        if let Some(reason) = self.client.cancel.reason() {
            return Err(Trouble::Cancelled(reason));
        }
        let left = until.saturating_sub(self.clock.monotonic());
        if left.is_zero() {
            return Err(Trouble::Silent);
        }
        let mut fds = [
            PollFd::new(stream, PollFlags::IN),
            PollFd::from_borrowed_fd(self.client.cancel.fd(), PollFlags::IN),
        ];
        match poll(&mut fds, Some(&timespec(left))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(Trouble::Broken(error.into())),
        }
    }

    /// Carries bytes both ways until the guest closes its end.
    fn talk(
        &self,
        action: &str,
        data: &mut Socket,
        control: &mut Socket,
        console: &mut dyn Console,
    ) -> Result<(), OpsError> {
        let lost = |error: io::Error| self.explain(action, Trouble::Broken(error));
        let (mut input_open, mut control_open) = (true, true);
        let mut typed = vec![0; 16 * 1024];
        loop {
            let unsent = is_unsent(data.flush()) | is_unsent(control.flush());
            let ready = {
                let outgoing = if unsent { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
                let cancel = PollFd::from_borrowed_fd(self.client.cancel.fd(), PollFlags::IN);
                // In place of what is not looked at: what has ended would be ready for ever, and a file
                // is read faster than it is sent.
                let or_cancel = |looked_at, fd| if looked_at { fd } else { cancel.clone() };
                let mut fds = vec![
                    PollFd::new(data.get_ref(), outgoing),
                    or_cancel(control_open, PollFd::new(control.get_ref(), outgoing)),
                    cancel.clone(),
                    or_cancel(
                        input_open && !unsent,
                        PollFd::from_borrowed_fd(console.input(), PollFlags::IN),
                    ),
                ];
                fds.extend(console.resized().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
                match poll(&mut fds, None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(lost(error.into())),
                }
                fds.iter().map(|fd| !fd.revents().is_empty()).collect::<Vec<_>>()
            };
            if let Some(reason) = self.client.cancel.reason() {
                return Err(OpsError::Cancelled(reason));
            }
            if ready[0] && read(data, console).map_err(|error| failed(action, error, lost))? {
                return Ok(());
            }
            if ready[1] && control_open {
                control_open = drain(control);
            }
            if ready[3] {
                let count = match rustix::io::read(console.input(), &mut typed) {
                    Ok(count) => count,
                    Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => continue,
                    // A terminal that is gone has nothing more to say.
                    Err(_) => 0,
                };
                input_open = count > 0;
                let bytes = if count > 0 { typed[..count].to_vec() } else { vec![END_OF_INPUT] };
                // What cannot be sent at once is, before more is read.
                let _ = data.write(Message::binary(bytes));
            }
            if ready.get(4) == Some(&true) && control_open {
                let (width, height) = console.size();
                let words = json!({
                    "command": "window-resize",
                    "args": { "width": width.to_string(), "height": height.to_string() },
                });
                let _ = control.write(Message::text(words.to_string()));
            }
        }
    }
}

/// Why reading stopped.
enum Stopped {
    Socket(io::Error),
    Console(io::Error),
}

fn failed(action: &str, stopped: Stopped, lost: impl Fn(io::Error) -> OpsError) -> OpsError {
    match stopped {
        Stopped::Socket(error) => lost(error),
        Stopped::Console(error) => {
            OpsError::Failed { action: action.to_owned(), message: format!("the terminal here: {error}") }
        }
    }
}

/// Prints what is there; whether that was the end.
fn read(data: &mut Socket, console: &mut dyn Console) -> Result<bool, Stopped> {
    loop {
        match data.read() {
            Ok(Message::Binary(bytes)) => console.print(&bytes).map_err(Stopped::Console)?,
            // An empty text stands at the end of the output.
            Ok(Message::Text(_) | Message::Close(_)) => return Ok(true),
            Ok(_) => {}
            Err(SocketError::ConnectionClosed | SocketError::AlreadyClosed) => return Ok(true),
            Err(SocketError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(Stopped::Socket(io_error(error))),
        }
    }
}

/// Reads what is said about nothing: that somebody is still there, which is answered. Whether more may come.
fn drain(control: &mut Socket) -> bool {
    loop {
        match control.read() {
            Ok(_) => {}
            Err(SocketError::Io(error)) => return error.kind() == io::ErrorKind::WouldBlock,
            Err(_) => return false,
        }
    }
}

/// Whether something waits to be sent. That the other end has closed is no error yet: what it has printed
/// before is still to be read, and how it has ended stands behind that.
fn is_unsent(sent: Result<(), SocketError>) -> bool {
    matches!(sent, Err(SocketError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock)
}

fn io_error(error: SocketError) -> io::Error {
    match error {
        SocketError::Io(error) => error,
        other => io::Error::other(other),
    }
}
