//! A program at the other end that is talked to over its input and output.
//!
//! For protocols of many questions, where a command each would cost two round trips each, and for
//! contents that are too large to be held in memory.

use std::sync::Arc;

use super::SshHost;
use super::command::{Ask, Attempts, broken};
use super::exchange::{Exchange, Order, Sink};
use super::master::Master;
use super::report::Report;
use super::wire::BOOTSTRAP;
use crate::cancel::CancelToken;
use crate::command::Command;
use crate::host::{Exit, HostError, Output};
use crate::local::capture::LIMIT;
use crate::slots::Slot;

/// A program that runs at the other end and ends when its input does. Dropped, its input is
/// closed; a program that does not end by itself then gets TERM after the grace of its command, and
/// KILL after another one, also when the connection has gone. What it leaves in its process group is
/// ended with it.
pub struct Conversation<'host> {
    host: Whose<'host>,
    master: Arc<Master>,
    exchange: Exchange,
    heard: Heard,
    cancel: CancelToken,
    command: Command,
    _slot: Slot,
}

/// The host of a conversation: lent, or shared with it.
pub(super) enum Whose<'host> {
    Lent(&'host SshHost),
    Shared(Arc<SshHost>),
}

impl std::ops::Deref for Whose<'_> {
    type Target = SshHost;

    fn deref(&self) -> &SshHost {
        match self {
            Self::Lent(host) => host,
            Self::Shared(host) => host,
        }
    }
}

impl std::fmt::Debug for Conversation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conversation").field("host", &*self.host).finish_non_exhaustive()
    }
}

/// What has come and was not taken yet.
#[derive(Default)]
struct Heard {
    stdout: Vec<u8>,
    taken: usize,
    stderr: Vec<u8>,
}

impl Sink for Heard {
    fn stdout(&mut self, bytes: &[u8]) -> Result<(), HostError> {
        self.stdout.extend_from_slice(bytes);
        Ok(())
    }

    /// Its last part: what went wrong is said last.
    fn stderr(&mut self, bytes: &[u8]) -> Result<(), HostError> {
        self.stderr.extend_from_slice(bytes);
        let excess = self.stderr.len().saturating_sub(1 << 20);
        self.stderr.drain(..excess);
        Ok(())
    }
}

impl<'host> Conversation<'host> {
    pub(super) fn open(
        host: Whose<'host>,
        command: &Command,
        cancel: &CancelToken,
    ) -> Result<Self, HostError> {
        let slot = host.slots.take(cancel)?;
        let ask = Ask { command, grace: command.grace, supervision: None, talks: true };
        ask.script("")?;
        let mut attempts = Attempts::default();
        loop {
            let master = host.master(cancel)?;
            let mark = host.ids.fresh();
            let mut order = Order {
                input: ask.script(&mark)?.encode(),
                grace: command.grace,
                time_limit: None,
                hears_words: false,
            };
            order.input.extend_from_slice(command.stdin.as_deref().unwrap_or_default());
            let args = host.config.client_args(master.words, &master.socket, BOOTSTRAP);
            let ssh = super::ssh_command(&host.config, args);
            let mut exchange = Exchange::start(&ssh, &mark, &mut order, host.config.connect_limit)?;
            let (mut heard, mut silent) = (Heard::default(), None);
            while !exchange.has_begun() && !exchange.is_over() {
                silent = exchange.give_up_silent();
                if silent.is_some() {
                    break;
                }
                if let Some(reason) = cancel.reason() {
                    return Err(HostError::Cancelled(reason));
                }
                exchange.step(&mut heard, cancel)?;
            }
            if exchange.has_begun() {
                let (cancel, command) = (cancel.clone(), command.clone());
                return Ok(Self { host, master, exchange, heard, cancel, command, _slot: slot });
            }
            let exit = match &silent {
                Some(_) => Exit::Code(255),
                None => exchange.exit().unwrap_or(Exit::Code(255)),
            };
            let said = String::from_utf8_lossy(&silent.unwrap_or_else(|| exchange.said())).into_owned();
            let error = broken(&host, &master, exit, false, &said);
            if !attempts.another(&error, &said, cancel)? {
                return Err(error.into());
            }
        }
    }

    /// Hears another token from now on: a conversation that is kept serves one piece of work after
    /// the other.
    pub fn heed(&mut self, cancel: &CancelToken) {
        self.cancel = cancel.clone();
    }

    /// Sends all of `bytes`. What the program says meanwhile is kept for [`Conversation::receive`]:
    /// a protocol where both sides send at once should not let that grow.
    ///
    /// # Errors
    /// [`HostError::Cancelled`]; [`HostError::Ssh`] when the connection is lost. A program that has
    /// ended already takes nothing more, which is no error here: [`Conversation::finish`] tells.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), HostError> {
        self.exchange.queue(bytes);
        while self.exchange.has_unsent() && !self.exchange.is_over() {
            self.step()?;
        }
        Ok(())
    }

    /// Takes what has come of its output, at least one byte; nothing when it has ended. Blocks
    /// until then. `into` is not empty.
    ///
    /// # Errors
    /// [`HostError::Cancelled`]; [`HostError::Ssh`] when the connection is lost.
    pub fn receive(&mut self, into: &mut [u8]) -> Result<usize, HostError> {
        loop {
            let heard = &self.heard.stdout[self.heard.taken..];
            if !heard.is_empty() {
                let count = heard.len().min(into.len());
                into[..count].copy_from_slice(&heard[..count]);
                self.heard.taken += count;
                if self.heard.taken == self.heard.stdout.len() {
                    self.heard.stdout.clear();
                    self.heard.taken = 0;
                }
                return Ok(count);
            }
            if self.exchange.stdout_has_ended() {
                return Ok(0);
            }
            if self.exchange.is_over() {
                return self.lost().map(|()| 0);
            }
            self.step()?;
        }
    }

    /// Whether the program has ended, or the connection to it, as far as is known at this moment. Never blocks. What the
    /// program has said stays for [`Conversation::receive`].
    pub fn has_ended(&mut self) -> bool {
        // What ends it comes behind everything else, which may take more than one read; nothing comes for ever.
        let mut heard = self.heard.stdout.len();
        loop {
            let failed = self.exchange.step_now(&mut self.heard).is_err();
            if failed || self.exchange.stdout_has_ended() || self.exchange.has_gone() {
                return true;
            }
            if self.heard.stdout.len() == std::mem::replace(&mut heard, self.heard.stdout.len()) {
                return false;
            }
        }
    }

    /// Says that nothing more will be sent, so that the program ends.
    ///
    /// # Errors
    /// As [`Conversation::send`].
    pub fn end_input(&mut self) -> Result<(), HostError> {
        self.send(&[])?;
        self.exchange.close_input();
        Ok(())
    }

    /// Ends the input and waits for the end of the program. [`Output::stdout`] is what was not
    /// received before; [`Output::stderr`] its last MiB.
    ///
    /// # Errors
    /// As [`crate::Host::run`].
    pub fn finish(mut self) -> Result<Output, HostError> {
        self.end_input()?;
        while !self.exchange.report_is_complete() || !self.exchange.stdout_has_ended() {
            if self.exchange.is_over() && !self.exchange.report_is_complete() {
                self.lost()?;
            }
            if self.exchange.is_over() {
                break;
            }
            self.step()?;
            if self.heard.stdout.len() - self.heard.taken > LIMIT {
                let program = self.command.program.to_string_lossy().into_owned();
                return Err(HostError::OutputTooLarge { program, limit: LIMIT });
            }
        }
        let report = Report::read(self.exchange.report(), &self.command, &self.host.config.destination)?;
        let stdout = self.heard.stdout.split_off(self.heard.taken);
        Ok(Output { exit: report.exit, stdout, stderr: std::mem::take(&mut self.heard.stderr) })
    }

    fn step(&mut self) -> Result<(), HostError> {
        if let Some(reason) = self.cancel.reason() {
            return Err(HostError::Cancelled(reason));
        }
        self.exchange.step(&mut self.heard, &self.cancel)
    }

    /// ssh has ended. A report is as good as ever; without one the connection is gone.
    fn lost(&self) -> Result<(), HostError> {
        if self.exchange.report_is_complete() {
            return Ok(());
        }
        let said = self.exchange.said();
        let exit = self.exchange.exit().unwrap_or(Exit::Code(255));
        let begun = self.exchange.has_begun();
        Err(broken(&self.host, &self.master, exit, begun, &String::from_utf8_lossy(&said)).into())
    }
}
