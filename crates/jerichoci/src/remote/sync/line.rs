//! The one conversation with the receiver of a host: opened when it is first needed, kept, and taken in turns.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jericho_host::slots::Slots;
use jericho_host::{CancelToken, Command, Conversation, Exit, Host as _, HostError};
use jericho_manifest::protocol::{Answer, Fault, Hello, LONGEST_LINE, Request, VERSION};

use super::Remote;
use super::error::SyncError;
use crate::snapshot::Manifest;

/// How long a receiver that is told to end gets to remove what is half done.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// The kept conversation with one host. Jobs of a run share it and wait for one another, so that a
/// snapshot two of them want is sent once. Dropped, it ends the receiver.
#[derive(Debug)]
pub struct Line {
    turn: Slots,
    kept: Mutex<Option<Open>>,
    /// What was delivered last: what comes next most likely is the difference to it.
    last: Mutex<Option<Arc<Manifest>>>,
    turns: AtomicU64,
}

/// A conversation that is at a line's start.
#[derive(Debug)]
struct Open {
    /// Goes before it: others use what its session has beside it.
    _life: Arc<()>,
    conversation: Conversation<'static>,
    heard: Vec<u8>,
}

impl Line {
    /// A line that nobody has used yet.
    ///
    /// # Errors
    /// When the process has no file descriptors left.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            turn: Slots::new(1)?,
            kept: Mutex::default(),
            last: Mutex::default(),
            turns: AtomicU64::new(0),
        })
    }

    /// Takes a conversation with a receiver that has heard [`greeting`] and was asked nothing yet, with what it has
    /// said. `life` is dropped with it.
    pub(crate) fn keep(&self, conversation: Conversation<'static>, heard: Vec<u8>, life: Arc<()>) {
        drop(self.replace(Some(Open { conversation, heard, _life: life })));
    }

    /// Ends the conversation, unless somebody is talking at this moment. The next question opens a new one.
    pub fn hang_up(&self) {
        drop(self.replace(None));
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Notes what was delivered.
    pub(super) fn has(&self, manifest: &Arc<Manifest>) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(manifest));
    }

    /// What was delivered last.
    pub(super) fn last(&self) -> Option<Arc<Manifest>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Questions that were answered so far: round trips, apart from two for each new conversation.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    fn replace(&self, open: Option<Open>) -> Option<Open> {
        std::mem::replace(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner), open)
    }

    /// Lets `work` talk to the receiver, when it is its turn. A kept conversation that turns out to be
    /// gone before anything was answered is replaced, and `work` begins anew.
    pub(super) fn with<T>(
        &self,
        remote: &Remote<'_>,
        cancel: &CancelToken,
        mut work: impl FnMut(&mut Talk<'_>) -> Result<T, SyncError>,
    ) -> Result<T, SyncError> {
        let _turn = self.turn.take(cancel)?;
        let mut open = self.replace(None);
        loop {
            let was_kept = open.is_some();
            if let Some(open) = &mut open {
                open.conversation.heed(cancel);
            }
            let mut talk = Talk { remote, cancel, open: open.take(), answers: 0 };
            let done = work(&mut talk);
            let stale = was_kept
                && talk.answers == 0
                && matches!(done, Err(SyncError::Host(HostError::Ssh(_)) | SyncError::Ended { .. }));
            self.turns.fetch_add(talk.answers, Ordering::Relaxed);
            if stale {
                continue;
            }
            // With one session in all, keeping it would keep everything else waiting.
            if remote.ssh.max_sessions() > 1 {
                drop(self.replace(talk.open));
            }
            return done;
        }
    }
}

/// The turn of one piece of work.
pub(super) struct Talk<'t> {
    remote: &'t Remote<'t>,
    cancel: &'t CancelToken,
    /// Absent until the first question, and after a failure that leaves it nobody knows where.
    open: Option<Open>,
    answers: u64,
}

impl Talk<'_> {
    /// Asks, and waits for the answer.
    pub(super) fn ask(&mut self, request: &Request) -> Result<Answer, SyncError> {
        self.say(request)?;
        self.answer()
    }

    /// Asks without waiting: bytes follow. The first question goes with the request for a channel.
    pub(super) fn say(&mut self, request: &Request) -> Result<(), SyncError> {
        let line = line_of(request)?;
        match &mut self.open {
            Some(_) => self.send(&line),
            none => {
                let stdin = [greeting(self.remote.engine_id)?, line].concat();
                let command = Command::new(self.remote.runner)
                    .arg("store")
                    .arg(self.remote.work_dir)
                    .grace(GRACE)
                    .stdin(stdin);
                let conversation = self.remote.ssh.converse_kept(&command, self.cancel)?;
                *none = Some(Open { conversation, heard: Vec::new(), _life: Arc::default() });
                Ok(())
            }
        }
    }

    /// Sends bytes that belong to the question.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), SyncError> {
        let Some(open) = &mut self.open else {
            return Err(SyncError::System("nothing was asked", io::ErrorKind::NotConnected.into()));
        };
        let sent = open.conversation.send(bytes);
        if sent.is_err() {
            self.open = None;
        }
        Ok(sent?)
    }

    /// Leaves a conversation that is in the middle of something.
    pub(super) fn abandon(&mut self) {
        self.open = None;
    }

    /// The answer to what was asked.
    pub(super) fn answer(&mut self) -> Result<Answer, SyncError> {
        // Put back when it is at the start of a line again.
        let Some(mut open) = self.open.take() else {
            return Err(SyncError::System("nothing was asked", io::ErrorKind::NotConnected.into()));
        };
        let mut buffer = [0; 4096];
        let end = loop {
            if let Some(end) = open.heard.iter().position(|&byte| byte == b'\n') {
                break end;
            }
            if open.heard.len() > LONGEST_LINE {
                return Err(self.nonsense(&open.heard));
            }
            match open.conversation.receive(&mut buffer)? {
                0 => return Err(self.ended(open.conversation)),
                count => open.heard.extend_from_slice(&buffer[..count]),
            }
        };
        let line: Vec<u8> = open.heard.drain(..=end).collect();
        let answer: Answer = serde_json::from_slice(&line).map_err(|_| self.nonsense(&line))?;
        self.answers += 1;
        match answer {
            Answer::Failed { fault, message } => {
                if fault != Fault::Request {
                    // What it holds may be half done; a new one begins with a clean table.
                    drop(open);
                }
                Err(SyncError::Refused { host: self.remote.ssh.label().to_owned(), fault, message })
            }
            answer => {
                self.open = Some(open);
                Ok(answer)
            }
        }
    }

    fn ended(&self, conversation: Conversation<'static>) -> SyncError {
        let output = match conversation.finish() {
            Ok(output) => output,
            Err(error) => return error.into(),
        };
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let said = match (said.is_empty(), output.exit) {
            (false, _) => said,
            (true, Exit::Code(code)) => format!("exit code {code}"),
            (true, Exit::Signal(signal)) => format!("signal {signal}"),
        };
        SyncError::Ended { host: self.host(), program: self.remote.runner.to_path_buf(), said }
    }

    fn nonsense(&self, said: &[u8]) -> SyncError {
        let said =
            String::from_utf8_lossy(&said[..said.len().min(200)]).trim_end().escape_debug().to_string();
        SyncError::Answer { host: self.host(), program: self.remote.runner.to_path_buf(), said }
    }

    /// An answer to another question.
    pub(super) fn unexpected(&mut self, answer: &Answer) -> SyncError {
        self.abandon();
        self.nonsense(format!("{answer:?}").as_bytes())
    }

    fn host(&self) -> String {
        self.remote.ssh.label().to_owned()
    }
}

/// The first line of a conversation.
pub(crate) fn greeting(engine_id: &str) -> Result<Vec<u8>, SyncError> {
    line_of(&Hello { version: VERSION, engine: engine_id.to_owned() })
}

fn line_of(document: &impl serde::Serialize) -> Result<Vec<u8>, SyncError> {
    let mut line = serde_json::to_vec(document)
        .map_err(|error| SyncError::System("cannot encode a question", error.into()))?;
    line.push(b'\n');
    Ok(line)
}
