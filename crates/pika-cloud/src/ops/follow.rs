//! Follows an entry program to its end: its output, the guest's events, and how it ended.
//!
//! One thread waits for the end, blocked in Incus; the other reads what is new. Incus tells nobody
//! that a file has grown, so it is asked, with pauses that grow while nothing comes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jericho_host::{CancelReason, CancelToken};
use rustix::event::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize};

use super::client::Trouble;
use super::ended::Ended;
use super::error::OpsError;
use super::files::OutputTrouble;
use super::incus::{Ending, Incus};
use super::launch::Started;
use super::observer::{Note, Observer, Stream};
use super::patience::Backoff;
use super::transport::timespec;
use crate::lifecycle::{LifecycleState, parse_events};
use crate::spec::RuntimePaths;

/// Pauses between two looks at the output.
const LOOK_FIRST: Duration = Duration::from_millis(25);
const LOOK_LONGEST: Duration = Duration::from_millis(500);

/// Ends a guest that does not get as far as it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watchdog {
    /// The state the guest must say it has come to, this or a later one of `starting`, `ready`,
    /// `completed` (or `failed`). A CI guest says `starting`, a service `ready`.
    pub state: LifecycleState,
    /// From the start of the following.
    pub within: Duration,
}

/// What limits the following.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Ends a guest that does not get ready.
    pub watchdog: Option<Watchdog>,
    /// Ends the guest whatever it does, from the start of the following. Longer than the limit
    /// that the guest itself keeps, so that its logs and result come back.
    pub time_limit: Option<Duration>,
}

/// How far a program has been followed: what a later following begins with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes of standard output that were handed on.
    pub stdout: u64,
    /// Bytes of standard error that were handed on.
    pub stderr: u64,
    /// Bytes of the journal that were read.
    pub events: u64,
    /// Number of the last event that was handed on.
    pub last_seq: u64,
}

/// What the waiting thread leaves for the other one.
#[derive(Default)]
struct Mailbox {
    end: Option<Result<Ended, OpsError>>,
    is_operation_lost: bool,
}

impl Incus {
    /// Follows an entry program until it has ended, whoever started it.
    ///
    /// Restarts of the daemon and lost connections are lived through. A guest that breaks a limit
    /// is stopped. `progress` is kept up to date, also when this fails.
    ///
    /// # Errors
    ///
    /// [`OpsError::Cancelled`], the guest goes on then; [`OpsError::Lost`]; [`OpsError::Document`]
    /// for a damaged result; [`OpsError::File`] when the observer cannot take the output.
    pub fn follow(
        &self,
        started: &Started,
        paths: &RuntimePaths,
        limits: &Limits,
        progress: &mut Progress,
        observer: &mut dyn Observer,
    ) -> Result<Ended, OpsError> {
        let token = || {
            CancelToken::new().map_err(|source| OpsError::File {
                action: "follow",
                path: "eventfd".into(),
                source,
            })
        };
        let (over, enough) = (token()?, token()?);
        let mailbox = Mutex::new(Mailbox::default());
        std::thread::scope(|scope| {
            let waiter = self.with_cancel(&enough);
            let (mailbox, over_there) = (&mailbox, over.clone());
            scope.spawn(move || {
                let end = waiter.await_end(started, paths, mailbox);
                lock(mailbox).end = Some(end);
                over_there.cancel(CancelReason::Requested);
            });
            let reconnections = self.client.host.reconnections();
            let mut watch = Watch {
                incus: self,
                started,
                paths,
                progress,
                observer,
                reached: None,
                away: false,
                reconnections,
            };
            let ended = watch.until_over(limits, &over, mailbox);
            enough.cancel(CancelReason::Requested);
            ended
        })
    }

    /// Blocks until the program has ended.
    fn await_end(
        &self,
        started: &Started,
        paths: &RuntimePaths,
        mailbox: &Mutex<Mailbox>,
    ) -> Result<Ended, OpsError> {
        const LONG: Duration = Duration::from_secs(24 * 3600);
        let action = format!("wait for the entry program of instance {}", started.instance.name);
        let mut operation = started.operation.clone();
        let mut is_watch = false;
        let mut words = String::new();
        loop {
            match self.wait(&action, &operation, LONG)? {
                Ending::Pending => {}
                Ending::Success(_) if is_watch => return self.conclude(started, paths, None, words),
                Ending::Success(done) => {
                    let code = done["metadata"]["return"].as_i64().and_then(|code| i32::try_from(code).ok());
                    return self.conclude(started, paths, code, String::new());
                }
                Ending::Failure(message) if is_watch => return self.conclude(started, paths, None, message),
                ending => {
                    if let Ending::Failure(message) = ending {
                        let (code, message) = told_as_failure(message);
                        if code.is_some() {
                            return self.conclude(started, paths, code, message);
                        }
                        // A daemon that shuts down gives up waiting, and the program goes on.
                        words = message;
                    }
                    lock(mailbox).is_operation_lost = true;
                    if let Some(ended) = self.find_end(started, paths)? {
                        return Ok(ended);
                    }
                    // It still runs, or left no result: only the guest itself knows which.
                    match self.watch_process(&started.instance, &started.nonce) {
                        Ok(watch) => operation = watch.operation,
                        Err(OpsError::Failed { message, .. }) => {
                            return self.conclude(started, paths, None, message);
                        }
                        Err(OpsError::NotFound { .. }) => return Ok(Ended::Deleted),
                        Err(error) => return Err(error),
                    }
                    is_watch = true;
                }
            }
        }
    }

    /// How the work ended, when that can be seen from outside: a result, or no running guest.
    fn find_end(&self, started: &Started, paths: &RuntimePaths) -> Result<Option<Ended>, OpsError> {
        if let Some(result) = self.result(&started.instance, paths)? {
            return Ok(Some(Ended::Result(result)));
        }
        Ok(match self.instance(&started.instance.project, &started.instance.name)? {
            None => Some(Ended::Deleted),
            Some(found) if !found.is_running() => Some(Ended::Stopped),
            Some(_) => None,
        })
    }

    /// How the work ended, of a program that is no more.
    fn conclude(
        &self,
        started: &Started,
        paths: &RuntimePaths,
        exit_code: Option<i32>,
        message: String,
    ) -> Result<Ended, OpsError> {
        // A guest that is being stopped kills the program first: look again before it is blamed.
        let is_killed = exit_code.is_none_or(|code| !(0..128).contains(&code));
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(200));
        for _ in 0..if is_killed { 6 } else { 1 } {
            if let Some(ended) = self.find_end(started, paths)? {
                return Ok(ended);
            }
            if is_killed {
                self.client.pause(backoff.next()).map_err(OpsError::Cancelled)?;
            }
        }
        Ok(Ended::NoResult { exit_code, message })
    }
}

/// The reading side of a following.
struct Watch<'a> {
    incus: &'a Incus,
    started: &'a Started,
    paths: &'a RuntimePaths,
    progress: &'a mut Progress,
    observer: &'a mut dyn Observer,
    /// The furthest workload state the guest has told of.
    reached: Option<LifecycleState>,
    /// Whether the host was told of as unreachable.
    away: bool,
    /// Connections that were made anew and told of.
    reconnections: u64,
}

impl Watch<'_> {
    fn until_over(
        &mut self,
        limits: &Limits,
        over: &CancelToken,
        mailbox: &Mutex<Mailbox>,
    ) -> Result<Ended, OpsError> {
        let clock = &self.incus.clock;
        let begun = clock.monotonic();
        let mut backoff = Backoff::new(LOOK_FIRST, LOOK_LONGEST);
        let mut told = false;
        loop {
            let is_over = over.is_cancelled();
            if self.read_on(is_over)? {
                backoff.reset(LOOK_FIRST);
            }
            if !told && lock(mailbox).is_operation_lost {
                told = true;
                self.observer.note(Note::OperationLost);
            }
            if is_over {
                let end = lock(mailbox).end.take();
                return end.unwrap_or_else(|| Err(self.incus.garbled("follow", "no end was told")));
            }
            let spent = clock.monotonic().saturating_sub(begun);
            if limits.time_limit.is_some_and(|limit| spent >= limit) {
                return self.end_guest(Ended::TimeLimit);
            }
            // A guest that cannot be heard may have said it long ago.
            let is_late = |dog: Watchdog| spent >= dog.within && !self.has_reached(dog.state);
            if !self.away && limits.watchdog.is_some_and(is_late) {
                return self.end_guest(Ended::NotReady);
            }
            let watchdog = limits.watchdog.filter(|dog| !self.has_reached(dog.state)).map(|dog| dog.within);
            let due = limits.time_limit.into_iter().chain(watchdog).filter(|limit| *limit > spent);
            let pause = due.map(|limit| limit.saturating_sub(spent)).fold(backoff.next(), Duration::min);
            let mut fds = [
                PollFd::from_borrowed_fd(over.fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.incus.client.cancel.fd(), PollFlags::IN),
            ];
            // An interruption by a signal makes the pause shorter, which nobody minds.
            let _ = poll(&mut fds, Some(&timespec(pause)));
            if let Some(reason) = self.incus.client.cancel.reason() {
                return Err(OpsError::Cancelled(reason));
            }
        }
    }

    /// Stops a guest that broke a limit, and reads what it left. A result it wrote at the last
    /// moment counts.
    fn end_guest(&mut self, ended: Ended) -> Result<Ended, OpsError> {
        match self.incus.stop(&self.started.instance) {
            Ok(()) => self.observer.host_saw(LifecycleState::Stopped),
            Err(OpsError::NotFound { .. }) => return Ok(Ended::Deleted),
            Err(error) => return Err(error),
        }
        self.read_on(true)?;
        let result = self.incus.result(&self.started.instance, self.paths)?;
        Ok(result.map_or(ended, Ended::Result))
    }

    /// Reads what is new; true when something was. The last time, a lost connection is waited for.
    fn read_on(&mut self, is_last: bool) -> Result<bool, OpsError> {
        let mut is_new = false;
        for stream in [Stream::Stdout, Stream::Stderr] {
            is_new |= self.read_output(stream, is_last)?;
        }
        is_new |= self.read_events(is_last)?;
        Ok(is_new)
    }

    fn read_output(&mut self, stream: Stream, is_last: bool) -> Result<bool, OpsError> {
        let incus = self.incus;
        let file = self.started.output_file(match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        });
        let offset = match stream {
            Stream::Stdout => &mut self.progress.stdout,
            Stream::Stderr => &mut self.progress.stderr,
        };
        let before = *offset;
        let head = if stream == Stream::Stdout { self.started.head() } else { 0 };
        let observer = &mut *self.observer;
        let mut sink_error = None;
        let read = incus.repeat(
            "read the output",
            |trouble, known| is_last && trouble.is_transient(known),
            || {
                let mut take = |bytes: &[u8]| observer.output(stream, bytes);
                match incus.read_output(&self.started.instance, &file, head + *offset, &mut take) {
                    Ok(count) => *offset += count,
                    Err(OutputTrouble::Source(trouble, count)) => {
                        *offset += count;
                        return Err(trouble);
                    }
                    Err(OutputTrouble::Sink(error)) => sink_error = Some(error),
                }
                Ok(())
            },
        );
        let is_new = *offset > before;
        if let Some(source) = sink_error {
            return Err(OpsError::File { action: "write the output to", path: file.into(), source });
        }
        self.noticed(read, is_last)?;
        Ok(is_new)
    }

    fn read_events(&mut self, is_last: bool) -> Result<bool, OpsError> {
        let incus = self.incus;
        let read = incus.repeat(
            "read the events",
            |trouble, known| is_last && trouble.is_transient(known),
            || incus.read_from(&self.started.instance, &self.paths.events_path, self.progress.events),
        );
        let Some(bytes) = self.noticed(read, is_last)? else { return Ok(false) };
        let contents = parse_events(&bytes, self.progress.last_seq);
        self.progress.events += contents.next_offset;
        self.progress.last_seq = contents.last_seq;
        let is_new = !contents.events.is_empty();
        for event in &contents.events {
            if rank(Some(event.kind)) > rank(self.reached) {
                self.reached = Some(event.kind);
            }
            self.observer.guest_said(event);
        }
        Ok(is_new)
    }

    /// The value, or nothing when the connection is away for the moment, which is told once.
    fn noticed<T: Default>(&mut self, read: Result<T, Trouble>, is_last: bool) -> Result<T, OpsError> {
        match read {
            Ok(value) => {
                let now = self.incus.client.host.reconnections();
                let is_new = std::mem::replace(&mut self.reconnections, now) != now;
                if std::mem::replace(&mut self.away, false) {
                    self.observer.host_saw(LifecycleState::Booted);
                } else if is_new {
                    self.observer.note(Note::Reconnected);
                }
                Ok(value)
            }
            Err(trouble) if trouble.is_missing() => Ok(T::default()),
            Err(Trouble::Cancelled(reason)) => Err(OpsError::Cancelled(reason)),
            // The guest is being stopped or removed: the other thread will know.
            Err(Trouble::Api { .. }) if !is_last => Ok(T::default()),
            Err(trouble) => {
                if !std::mem::replace(&mut self.away, true) {
                    self.observer.host_saw(LifecycleState::Unreachable);
                }
                if is_last {
                    // The end is known all the same; what could not be read is only missed.
                    let error = self.incus.explain("read what the guest left", trouble);
                    self.observer.note(Note::Warning(error.to_string()));
                }
                Ok(T::default())
            }
        }
    }

    fn has_reached(&self, state: LifecycleState) -> bool {
        rank(self.reached) >= rank(Some(state))
    }
}

/// Two exit codes are told by Incus as failures of its own.
fn told_as_failure(message: String) -> (Option<i32>, String) {
    match message.as_str() {
        "Command not executable" => (Some(126), String::new()),
        "Command not found" => (Some(127), String::new()),
        _ => (None, message),
    }
}

/// The order of the workload states; infrastructure states come before them all.
fn rank(state: Option<LifecycleState>) -> u8 {
    match state {
        Some(LifecycleState::Starting) => 1,
        Some(LifecycleState::Ready) => 2,
        Some(LifecycleState::Completed | LifecycleState::Failed) => 3,
        _ => 0,
    }
}

fn lock(mailbox: &Mutex<Mailbox>) -> std::sync::MutexGuard<'_, Mailbox> {
    mailbox.lock().unwrap_or_else(PoisonError::into_inner)
}
