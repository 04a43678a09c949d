//! A machine that ssh(1) reaches.
//!
//! One **master** holds the one connection (`ssh/master.rs`); every command is a client of it, which costs
//! no handshake and never makes a connection of its own. The other end needs `sshd`, `sh`, and the
//! small programs of any Linux system (coreutils, findutils, grep, awk, setsid of util-linux, or
//! busybox); nothing is installed there.
//!
//! A command goes as a program for `sh` over its standard input (`ssh/wire.rs`), so that neither its
//! arguments nor its environment stand in a process list, whatever the login shell is. The shell at the
//! other end reports how the command has ended between marks of its own: exit code 255 of ssh is never
//! taken for the command's. It also listens for words of the client (TERM, KILL) on the same channel;
//! when the channel is closed, because this process was killed or the network has gone, it ends the
//! command with TERM, grace, KILL, and so nothing stays behind that nobody wants. The input of a command
//! is kept at the other end while it runs, in a file without a name (in memory up to 8 MiB, else on disk).
//!
//! | | round trips |
//! |---|---|
//! | connect | those of TCP and the key exchange, and two |
//! | a command, a step on files | two: open the channel; send everything, read everything |
//! | its end on cancel | half of one, and half of one for the report |
//! | a question in a [`Conversation`] | one |
//! | forward | none: it is asked of the master; each connection through it one |
//!
//! What differs from [`crate::LocalHost`]: an exit code that a shell gives to a death by signal (128 and the
//! signal, for those signals that usually kill) is told as [`crate::Exit::Signal`]; process and mount
//! namespaces are not offered; waiting for what a command has left behind is done in steps of 0.1 s at
//! the other end, because a shell cannot wait for processes that are not its children.

mod appears;
mod backoff;
mod command;
mod config;
mod conversation;
mod error;
mod exchange;
mod files;
mod forward;
mod master;
mod report;
mod silence;
mod wire;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::cancel::CancelToken;
use crate::clock::{Clock, IdSource, SystemClock, SystemIds};
use crate::command::Command;
use crate::host::{
    Entry, Exit, Finished, Host, HostError, Leaked, Output, OutputSink, Published, Supervision,
};

pub use config::SshConfig;
pub use conversation::Conversation;
pub use error::SshError;
pub use forward::Forward;

/// A machine over ssh as a [`Host`].
///
/// Cheap to make: it connects when something is first asked of it, and again when the connection
/// has gone in the meantime. A command whose connection goes while it runs is
/// [`SshError::Lost`]; it is never run a second time. Dropped, it ends its connection.
#[derive(Debug)]
pub struct SshHost {
    config: Arc<SshConfig>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    master: Mutex<Option<Arc<master::Master>>>,
    /// How long it was silent when it was given up.
    given_up: OnceLock<Duration>,
    /// Whose turn it is to connect: one at a time, and who waits for it still hears its token.
    turn: crate::slots::Slots,
    slots: crate::slots::Slots,
}

/// An attempt to connect that has failed, and when the next one is made.
#[derive(Debug, Clone, Copy)]
pub struct FailedAttempt<'a> {
    /// Counted from one.
    pub number: u32,
    /// Why it has failed.
    pub error: &'a HostError,
    /// From now to the next one.
    pub pause: Duration,
}

impl SshHost {
    /// A door to a host. Nothing is connected yet.
    ///
    /// # Errors
    /// [`HostError::System`] when the process has no file descriptors left.
    pub fn new(config: SshConfig) -> Result<Self, HostError> {
        Self::with_parts(config, Arc::new(SystemClock), Arc::new(SystemIds))
    }

    /// The same with a clock (the limit of [`SshHost::reconnect`]) and a source of the marks that take
    /// the streams apart.
    ///
    /// # Errors
    /// As [`SshHost::new`].
    pub fn with_parts(
        config: SshConfig,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
    ) -> Result<Self, HostError> {
        let slots = |count| {
            let made = crate::slots::Slots::new(count);
            made.map_err(|error| HostError::System("cannot make a semaphore", error))
        };
        let (turn, slots) = (slots(1)?, slots(config.max_sessions)?);
        Ok(Self {
            config: Arc::new(config),
            clock,
            ids,
            master: Mutex::default(),
            given_up: OnceLock::new(),
            turn,
            slots,
        })
    }

    /// Connects, unless it is connected. One attempt.
    ///
    /// # Errors
    /// [`HostError::Ssh`]; [`HostError::NotFound`] without an ssh program; [`HostError::Cancelled`].
    pub fn connect(&self, cancel: &CancelToken) -> Result<(), HostError> {
        self.master(cancel).map(drop)
    }

    /// Connects, trying again with growing pauses (0.25 s to 15 s) until `limit` has passed.
    /// `failed` hears of each attempt that is followed by another one.
    ///
    /// # Errors
    /// Of the last attempt; at once when it is one that no waiting mends
    /// ([`SshError::is_transient`]).
    pub fn reconnect(
        &self,
        limit: Duration,
        cancel: &CancelToken,
        failed: &mut dyn FnMut(FailedAttempt<'_>),
    ) -> Result<(), HostError> {
        let mut backoff = backoff::Backoff::new(self.clock.monotonic(), limit);
        let mut number = 0;
        loop {
            let error = match self.connect(cancel) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            number += 1;
            let failed_at = self.clock.monotonic();
            let again = match &error {
                HostError::Ssh(ssh) if ssh.is_transient() => backoff.again_at(failed_at),
                _ => None,
            };
            let Some(again) = again else { return Err(error) };
            let pause = again.saturating_sub(failed_at);
            failed(FailedAttempt { number, error: &error, pause });
            pause_for(pause, cancel)?;
        }
    }

    /// Whether there is a connection now, as far as ssh knows: a peer that says nothing is found out
    /// after a minute.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.known_master().is_some_and(|master| master.is_alive())
    }

    /// Process id of the master, while there is one.
    #[must_use]
    pub fn master_pid(&self) -> Option<u32> {
        self.known_master().filter(|master| master.is_alive()).map(|master| master.pid)
    }

    /// Ends the connection. The next thing that is asked makes a new one.
    pub fn disconnect(&self) {
        drop(self.keep(None));
    }

    /// Whether the other end says nothing until `patience` is cancelled. It is asked to begin with a command of no
    /// consequence, beside all others and however many they are. A connection that cannot be had is no silence.
    #[must_use]
    pub fn is_silent(&self, patience: &CancelToken) -> bool {
        silence::is_silent(self, patience)
    }

    /// Ends the connection for good, with everything that goes over it: what waits for an answer fails at once, and so
    /// does whatever is asked later, with [`SshError::GivenUp`]. `waited` is told there.
    pub fn give_up(&self, waited: Duration) {
        let _ = self.given_up.set(waited);
        if let Some(master) = self.keep(None) {
            master.end_now();
        }
    }

    /// Makes `remote`, a socket at the other end, reachable here, until the result is dropped.
    /// That somebody listens there shows when the socket is used.
    ///
    /// # Errors
    /// [`HostError::Ssh`], also when the path cannot be forwarded; [`HostError::Cancelled`].
    pub fn forward(&self, remote: &Path, cancel: &CancelToken) -> Result<Forward, HostError> {
        let master = self.master(cancel)?;
        Forward::new(Arc::clone(&self.config), master, remote, cancel)
    }

    /// Starts a program that is talked to over its input and output, and that ends when its input
    /// does: many questions in one channel, or contents of any size. [`Command::stdin`] is sent first.
    ///
    /// # Errors
    /// As [`Host::run`]; what keeps the program itself from being started is told by
    /// [`Conversation::finish`].
    pub fn converse(&self, command: &Command, cancel: &CancelToken) -> Result<Conversation<'_>, HostError> {
        Conversation::open(conversation::Whose::Lent(self), command, cancel)
    }

    /// The same for a conversation that is kept beside its host. It takes one of the
    /// [`SshConfig::max_sessions`] for as long as it lives.
    ///
    /// # Errors
    /// As [`SshHost::converse`].
    pub fn converse_kept(
        self: &Arc<Self>,
        command: &Command,
        cancel: &CancelToken,
    ) -> Result<Conversation<'static>, HostError> {
        Conversation::open(conversation::Whose::Shared(Arc::clone(self)), command, cancel)
    }

    /// Runs a script of the POSIX shell there with this process's own terminal, or whatever its streams are, and waits
    /// for its end. For a person: nothing limits it, and what it is given stands in process lists. Its exit code is
    /// that of ssh(1), which is 255 also when the connection is lost. A cancellation ends ssh; what runs there has to
    /// be ended by other means, since without a terminal nothing tells it.
    ///
    /// # Errors
    /// As [`SshHost::connect`]; [`HostError::System`] for a word with a NUL in it.
    pub fn foreground(
        &self,
        script: &str,
        words: &[OsString],
        cancel: &CancelToken,
    ) -> Result<Exit, HostError> {
        let master = self.master(cancel)?;
        let mut line = OsString::from("exec /bin/sh -c");
        let bad = |why: String| HostError::System("cannot write a command line", io::Error::other(why));
        let all = [script.into(), "sh".into()];
        for word in all.iter().chain(words) {
            line.push(" ");
            line.push(crate::quote::quote(word).map_err(|error| bad(error.to_string()))?);
        }
        let line = line.into_string().map_err(|line| bad(format!("{} is no text", line.display())))?;
        let has_terminal = io::IsTerminal::is_terminal(&io::stdin());
        let args = self.config.terminal_args(master.words, &master.socket, &line, has_terminal);
        crate::LocalHost::new().foreground_until(&ssh_command(&self.config, args), cancel)
    }

    /// How a program that starts ssh itself reaches the same host: ssh with the arguments that come before the
    /// destination, and the destination.
    #[must_use]
    pub fn for_other_programs(&self) -> (Vec<OsString>, &str) {
        // Until there is a connection nobody knows what ssh knows.
        let known = self.known_master().map_or(config::Words::Before8_7, |master| master.words);
        (self.config.alone(known), &self.config.destination)
    }

    /// Most commands at once.
    #[must_use]
    pub fn max_sessions(&self) -> usize {
        self.config.max_sessions
    }

    fn known_master(&self) -> Option<Arc<master::Master>> {
        self.master.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The connection; a new one when there is none, or none any more. Who comes while one is being
    /// made waits for it.
    fn master(&self, cancel: &CancelToken) -> Result<Arc<master::Master>, HostError> {
        self.is_not_given_up()?;
        let alive = || self.known_master().filter(|master| master.is_alive());
        if let Some(master) = alive() {
            return Ok(master);
        }
        let _turn = self.turn.take(cancel)?;
        if let Some(master) = alive() {
            return Ok(master);
        }
        let master = Arc::new(master::Master::connect(&self.config, cancel)?);
        let earlier = self.keep(Some(Arc::clone(&master)));
        drop(earlier);
        self.is_not_given_up()?;
        Ok(master)
    }

    fn is_not_given_up(&self) -> Result<(), SshError> {
        let host = || self.config.destination.clone();
        self.given_up.get().map_or(Ok(()), |waited| Err(SshError::GivenUp { host: host(), waited: *waited }))
    }

    /// Replaces the known connection; the earlier one ends when it is dropped, which may take a
    /// moment.
    fn keep(&self, master: Option<Arc<master::Master>>) -> Option<Arc<master::Master>> {
        let mut known = self.master.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *known, master)
    }

    /// Forgets a connection over which nothing goes any more.
    fn forget(&self, master: &Arc<master::Master>) {
        if self.known_master().is_some_and(|known| Arc::ptr_eq(&known, master)) {
            drop(self.keep(None));
        }
    }
}

/// Waits, unless the token is cancelled first.
fn pause_for(pause: Duration, cancel: &CancelToken) -> Result<(), HostError> {
    use rustix::event::{PollFd, PollFlags};
    let until = crate::wait::now().saturating_add(pause);
    while crate::wait::now() < until {
        if let Some(reason) = cancel.reason() {
            return Err(HostError::Cancelled(reason));
        }
        let mut fds = [PollFd::from_borrowed_fd(cancel.fd(), PollFlags::IN)];
        crate::wait::wait(&mut fds, Some(until))
            .map_err(|error| HostError::System("cannot wait to connect again", error))?;
    }
    Ok(())
}

/// ssh itself, as a command of this machine.
fn ssh_command(config: &SshConfig, args: Vec<OsString>) -> Command {
    Command::new(&config.program).args(args).env(config.env.clone())
}

impl Host for SshHost {
    fn label(&self) -> &str {
        &self.config.destination
    }

    fn run(&self, command: &Command, cancel: &CancelToken) -> Result<Output, HostError> {
        command::run(self, command, cancel)
    }

    fn stream(
        &self,
        command: &Command,
        cancel: &CancelToken,
        stdout: &mut dyn FnMut(&[u8]),
    ) -> Result<Output, HostError> {
        command::stream(self, command, cancel, stdout)
    }

    fn supervise(
        &self,
        command: &Command,
        supervision: &Supervision,
        sink: &mut dyn OutputSink,
        cancel: &CancelToken,
    ) -> Result<Finished, HostError> {
        command::supervise(self, command, supervision, sink, cancel)
    }

    fn end_tagged(&self, name: &str, value_prefix: &str, grace: Duration) -> Result<Vec<Leaked>, HostError> {
        command::end_tagged(self, name, value_prefix, grace)
    }

    /// Never: the shell of the other end cannot make them.
    fn supports_namespaces(&self) -> bool {
        false
    }

    /// Never, as [`Host::supports_namespaces`].
    fn supports_overlay(&self, _dir: &Path) -> bool {
        false
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, HostError> {
        files::read(self, path)
    }

    fn read_range(&self, path: &Path, offset: u64, limit: u64) -> Result<Vec<u8>, HostError> {
        files::read_range(self, path, offset, limit)
    }

    fn list(&self, dir: &Path) -> Result<Vec<Entry>, HostError> {
        files::list(self, dir)
    }

    fn make_dirs(&self, dir: &Path) -> Result<(), HostError> {
        files::make_dirs(self, dir)
    }

    fn write_atomic(&self, path: &Path, content: &[u8], durable: bool) -> Result<(), HostError> {
        files::write_atomic(self, path, content, durable)
    }

    fn publish_dir(&self, staged: &Path, target: &Path) -> Result<Published, HostError> {
        files::publish_dir(self, staged, target)
    }

    fn remove(&self, path: &Path) -> Result<(), HostError> {
        files::remove(self, path)
    }
}
