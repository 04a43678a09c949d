//! [`Incus`]: one Incus on one host, with retries that never do a thing twice.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jericho_host::{CancelToken, Clock, HostError, IdSource, SystemClock, SystemIds};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::client::{Answer, Client, Request, Trouble};
use super::error::OpsError;
use super::patience::{Backoff, Patience};
use super::socket::SocketHost;

/// Where the packages of Incus put its socket.
pub const DEFAULT_SOCKET: &str = "/var/lib/incus/unix.socket";

/// One Incus on one host. Cheap to clone; clones share their connections.
///
/// Every call blocks, and ends early with [`OpsError::Cancelled`] when the token is cancelled.
/// Lost connections are found again with growing pauses, for as long as [`Patience`] says.
#[derive(Debug, Clone)]
pub struct Incus {
    pub(crate) client: Arc<Client>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
}

/// How an operation ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Well; with what it returned.
    Success(Value),
    /// Badly; with its words.
    Failure(String),
    /// Nobody knows: finished operations vanish after 5 s, and all of them with the daemon.
    Vanished,
    /// Not yet, and the time is up.
    Pending,
}

impl Incus {
    /// The Incus behind a socket of a host, see [`DEFAULT_SOCKET`]. Nothing is connected before it
    /// is asked for something.
    pub fn new(host: Arc<dyn SocketHost>, socket: impl Into<PathBuf>, cancel: &CancelToken) -> Self {
        let client = Client::new(host, socket.into(), cancel.clone(), Patience::default());
        Self { client: Arc::new(client), clock: Arc::new(SystemClock), ids: Arc::new(SystemIds) }
    }

    /// The same Incus with other limits.
    #[must_use]
    pub fn with_patience(&self, patience: Patience) -> Self {
        let client = self.client.another(self.client.cancel.clone(), patience);
        Self { client: Arc::new(client), ..self.clone() }
    }

    /// The same Incus for the holder of another token: to clean up after a cancellation.
    #[must_use]
    pub fn with_cancel(&self, cancel: &CancelToken) -> Self {
        let client = self.client.another(cancel.clone(), self.client.patience);
        Self { client: Arc::new(client), ..self.clone() }
    }

    /// The same Incus with other sources of time and ids.
    #[must_use]
    pub fn with_clock(&self, clock: Arc<dyn Clock>, ids: Arc<dyn IdSource>) -> Self {
        Self { clock, ids, ..self.clone() }
    }

    /// The limits in force.
    #[must_use]
    pub fn patience(&self) -> Patience {
        self.client.patience
    }

    /// Asks for something that must not be done twice: repeated only while nothing was done.
    pub(crate) fn ask_once(&self, action: &str, request: &Request) -> Result<Answer, Trouble> {
        self.repeat(action, Trouble::is_before, || self.client.ask(request))
    }

    /// Reads a document; nothing when there is none.
    pub(crate) fn find<T: DeserializeOwned>(
        &self,
        action: &str,
        request: &Request,
    ) -> Result<Option<T>, OpsError> {
        match self.repeat(action, Trouble::is_transient, || self.client.ask(request)) {
            Ok(Answer::Done(document)) => self.decode(action, document).map(Some),
            Ok(Answer::Begun(_)) => Err(self.garbled(action, "an operation in place of a document")),
            Err(trouble) if trouble.is_missing() => Ok(None),
            Err(trouble) => Err(self.explain(action, trouble)),
        }
    }

    pub(crate) fn decode<T: DeserializeOwned>(&self, action: &str, document: Value) -> Result<T, OpsError> {
        serde_json::from_value(document).map_err(|error| self.garbled(action, error.to_string()))
    }

    pub(crate) fn garbled(&self, action: &str, problem: impl Into<String>) -> OpsError {
        OpsError::Garbled { action: action.to_owned(), problem: problem.into() }
    }

    /// Tries again, after growing pauses, as long as `again` allows and patience lasts.
    pub(crate) fn repeat<T>(
        &self,
        _action: &str,
        again: impl Fn(&Trouble, bool) -> bool,
        mut attempt: impl FnMut() -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let started = self.clock.monotonic();
        let mut backoff = Backoff::reconnect();
        loop {
            let trouble = match attempt() {
                Ok(done) => return Ok(done),
                Err(trouble) => trouble,
            };
            let known = self.client.is_known();
            let patience =
                if known { self.client.patience.reconnect } else { self.client.patience.first_contact };
            let spent = self.clock.monotonic().saturating_sub(started);
            let pause = backoff.next();
            if !again(&trouble, known) || spent.saturating_add(pause) > patience {
                return Err(trouble);
            }
            self.client.pause(pause).map_err(Trouble::Cancelled)?;
        }
    }

    /// What a trouble that will not go away means to the caller.
    pub(crate) fn explain(&self, action: &str, trouble: Trouble) -> OpsError {
        let host = self.client.host.socket_host().to_owned();
        let socket = self.client.socket.clone();
        match trouble {
            // The way to the host, and not the socket there.
            Trouble::Connect(source) if source.get_ref().is_some_and(|cause| cause.is::<HostError>()) => {
                if self.client.is_known() && source.kind() != io::ErrorKind::PermissionDenied {
                    return self.lost(action, source);
                }
                OpsError::Unreachable { host, socket, source }
            }
            Trouble::Connect(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                OpsError::NoRights { host, socket, reason: source.to_string() }
            }
            Trouble::Connect(source) if !self.client.is_known() => {
                OpsError::Unreachable { host, socket, source }
            }
            // A socket that is forwarded breaks where one of this machine refuses. Nothing was had that could be lost.
            Trouble::Broken(source) if !self.client.is_known() => {
                OpsError::Unreachable { host, socket, source }
            }
            Trouble::Silent if !self.client.is_known() => {
                OpsError::Unreachable { host, socket, source: io::ErrorKind::TimedOut.into() }
            }
            Trouble::Connect(source) | Trouble::Broken(source) => self.lost(action, source),
            Trouble::Silent => self.lost(action, io::ErrorKind::TimedOut.into()),
            // It was tried again for as long as a lost connection is.
            Trouble::Api { ref message, .. } if trouble.is_before(true) => {
                self.lost(action, io::Error::other(message.clone()))
            }
            Trouble::Cancelled(reason) => OpsError::Cancelled(reason),
            Trouble::Api { code: 403, message } => OpsError::NoRights { host, socket, reason: message },
            Trouble::Api { message, .. } => OpsError::Failed { action: action.to_owned(), message },
            Trouble::Garbled(problem) => self.garbled(action, problem),
        }
    }

    fn lost(&self, action: &str, source: io::Error) -> OpsError {
        let after = self.client.patience.reconnect;
        OpsError::Lost {
            host: self.client.host.socket_host().to_owned(),
            action: action.to_owned(),
            after,
            source,
        }
    }

    /// Waits for the end of an operation, at most for `limit`.
    pub(crate) fn wait(&self, action: &str, id: &str, limit: Duration) -> Result<Ending, OpsError> {
        let deadline = self.clock.monotonic().saturating_add(limit);
        loop {
            let left = deadline.saturating_sub(self.clock.monotonic());
            // Whole seconds, and not for longer than a connection may be silent.
            let seconds = left.as_secs().clamp(1, 60);
            let request = Request::get(format!("/1.0/operations/{id}/wait?timeout={seconds}"))
                .patient(Duration::from_secs(seconds));
            let answer = self.repeat(action, Trouble::is_transient, || self.client.ask(&request));
            let operation = match answer {
                Ok(Answer::Done(operation)) => operation,
                Ok(Answer::Begun(_)) => return Err(self.garbled(action, "an operation that has begun")),
                // An operation that failed because something else is missing says so with the same code.
                Err(Trouble::Api { code: 404, message }) if is_about_operation(&message) => {
                    return Ok(Ending::Vanished);
                }
                Err(Trouble::Api { code: 403, message }) => {
                    return Err(self.explain(action, Trouble::Api { code: 403, message }));
                }
                Err(trouble @ Trouble::Api { .. }) if trouble.is_before(true) => {
                    return Err(self.explain(action, trouble));
                }
                // The wait itself was fine: this is how a failed operation is told.
                Err(Trouble::Api { message, .. }) => return Ok(Ending::Failure(message)),
                Err(trouble) => return Err(self.explain(action, trouble)),
            };
            match operation.get("status_code").and_then(Value::as_u64) {
                Some(200) => return Ok(Ending::Success(operation)),
                Some(code @ 400..) => {
                    let words = operation.get("err").and_then(Value::as_str).unwrap_or_default();
                    return Ok(Ending::Failure(if words.is_empty() {
                        format!("it ended with status {code}")
                    } else {
                        words.to_owned()
                    }));
                }
                Some(_) if left > Duration::from_secs(1) => {}
                Some(_) => return Ok(Ending::Pending),
                None => return Err(self.garbled(action, "an operation without a status")),
            }
        }
    }

    /// Asks for something and waits until it is done; a failure of either is a text.
    pub(crate) fn carry_out(&self, action: &str, request: &Request) -> Result<Result<(), String>, OpsError> {
        let answer = self.repeat(action, Trouble::is_transient, || self.client.ask(request));
        let id = match answer {
            Ok(Answer::Done(_)) => return Ok(Ok(())),
            Ok(Answer::Begun(id)) => id,
            Err(Trouble::Api { code, message }) if code != 403 => return Ok(Err(message)),
            Err(trouble) => return Err(self.explain(action, trouble)),
        };
        let limit = self.client.patience.operation;
        match self.wait(action, &id, limit)? {
            Ending::Success(_) | Ending::Vanished => Ok(Ok(())),
            Ending::Failure(message) => Ok(Err(message)),
            Ending::Pending => Err(OpsError::TimedOut { action: action.to_owned(), after: limit }),
        }
    }
}

/// Whether a 404 says that there is no such operation; with what it failed is said in other words.
fn is_about_operation(message: &str) -> bool {
    ["operation not found", "not found", ""].iter().any(|words| message.eq_ignore_ascii_case(words))
}

#[cfg(test)]
mod tests {
    use super::is_about_operation;

    #[test]
    fn an_operation_that_is_forgotten_is_told_from_one_that_missed_something() {
        assert!(is_about_operation("Operation not found"));
        assert!(is_about_operation("not found"));
        assert!(!is_about_operation("Network not found"));
        assert!(!is_about_operation("Storage volume not found"));
    }
}
