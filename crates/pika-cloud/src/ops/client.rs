//! The HTTP client: one request and its answer, told apart from a connection that failed.
//!
//! Incus wraps every answer in an envelope; only its `type` says whether it is an error, for the
//! HTTP status of a failed wait is 200.

use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jericho_host::{CancelReason, CancelToken};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::event::{PollFd, PollFlags, poll};
use serde::Deserialize;
use serde_json::Value;
use ureq::http::{self, Method};
use ureq::{Agent, AsSendBody, Body, SendBody};

use super::patience::Patience;
use super::socket::SocketHost;
use super::transport::{ConnectFailed, Interrupted, NoNames, SocketConnector, timespec};

/// Longest envelope that is read: thousands of instances with their whole configuration.
const ANSWER_LIMIT: u64 = 256 * 1024 * 1024;

/// What stands unescaped in a path or a query.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A name as a part of a path or a value of a query.
pub(crate) fn quoted(name: &str) -> impl fmt::Display {
    utf8_percent_encode(name, PLAIN)
}

/// What one member of a cluster says when it does not reach the one that is to carry something out.
const UNREACHED: [&str; 3] =
    ["Server isn't ready yet", "Unable to connect to", "Missing event connection with target cluster member"];

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Path and query, beginning with `/1.0`.
    pub(crate) path: String,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// How long the answer may take to begin; the client's own limit when absent.
    pub(crate) patience: Option<Duration>,
}

impl Request {
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), body: None, headers: Vec::new(), patience: None }
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub(crate) fn json(mut self, body: &Value) -> Self {
        self.body = Some(body.to_string().into_bytes());
        self.header("Content-Type", "application/json")
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The answer may take this much longer than answers usually do.
    pub(crate) fn patient(mut self, extra: Duration) -> Self {
        self.patience = Some(extra);
        self
    }
}

/// An answer that is no error.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It is done; this is what was asked.
    Done(Value),
    /// It has begun, as this operation.
    Begun(String),
}

/// Why there is no answer, or an error for one.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// There was no connection: nothing was sent.
    Connect(io::Error),
    /// The connection broke: it may have been carried out.
    Broken(io::Error),
    /// The answer did not come in time: it may have been carried out.
    Silent,
    /// The token was cancelled.
    Cancelled(CancelReason),
    /// Incus says no.
    Api { code: u64, message: String },
    /// It is no answer of Incus.
    Garbled(String),
}

impl Trouble {
    /// Whether the same request may succeed in a moment, and nothing of it was carried out.
    pub(crate) fn is_before(&self, known: bool) -> bool {
        match self {
            Self::Connect(error) => match error.kind() {
                io::ErrorKind::PermissionDenied => false,
                // A daemon that starts again has no socket for a moment.
                io::ErrorKind::NotFound => known,
                _ => true,
            },
            Self::Api { code: 503, .. } => true,
            Self::Api { message, .. } => {
                message.contains("is shutting down")
                    || UNREACHED.iter().any(|words| message.contains(words))
                    // The helper that reads files of a guest was ended with it, or by another request.
                    || message.contains("forkfile.sock")
            }
            _ => false,
        }
    }

    /// Whether the same request may succeed in a moment, though it may have been carried out.
    pub(crate) fn is_transient(&self, known: bool) -> bool {
        matches!(self, Self::Broken(_) | Self::Silent) || self.is_before(known)
    }

    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Api { code: 404, .. })
    }
}

#[derive(Deserialize)]
struct Envelope {
    r#type: String,
    #[serde(default)]
    error_code: u64,
    #[serde(default)]
    error: String,
    #[serde(default)]
    metadata: Value,
}

impl Envelope {
    /// What an envelope with an error says.
    fn refusal(self) -> Trouble {
        // A daemon that ends answers so between the end of its database and that of its connections: as good as none,
        // and nobody knows how far it came.
        if self.error.contains("database is closed") {
            return Trouble::Broken(io::Error::other(self.error));
        }
        Trouble::Api { code: self.error_code, message: self.error }
    }
}

/// The connections of one holder of a cancel token to one socket.
pub(crate) struct Client {
    agent: Agent,
    pub(crate) host: Arc<dyn SocketHost>,
    pub(crate) socket: PathBuf,
    pub(crate) cancel: CancelToken,
    pub(crate) patience: Patience,
    /// Whether Incus has ever answered here: what is gone then will come back.
    known: Arc<AtomicBool>,
    /// Whether it is a member of a cluster, once somebody has asked.
    pub(crate) clustered: Arc<OnceLock<bool>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("host", &self.host).field("socket", &self.socket).finish()
    }
}

impl Client {
    pub(crate) fn new(
        host: Arc<dyn SocketHost>,
        socket: PathBuf,
        cancel: CancelToken,
        patience: Patience,
    ) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .user_agent("pika-cloud")
            .input_buffer_size(64 * 1024)
            .timeout_per_write(Some(patience.request))
            .build();
        let connector =
            SocketConnector { host: Arc::clone(&host), socket: socket.clone(), cancel: cancel.clone() };
        let agent = Agent::with_parts(config, connector, NoNames);
        Self { agent, host, socket, cancel, patience, known: Arc::default(), clustered: Arc::default() }
    }

    /// The same place, for the holder of another token.
    pub(crate) fn another(&self, cancel: CancelToken, patience: Patience) -> Self {
        let mut client = Self::new(Arc::clone(&self.host), self.socket.clone(), cancel, patience);
        client.known = Arc::clone(&self.known);
        client.clustered = Arc::clone(&self.clustered);
        client
    }

    pub(crate) fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    /// Sends one request, once, and reads its envelope.
    pub(crate) fn ask(&self, request: &Request) -> Result<Answer, Trouble> {
        let response = self.send(request)?;
        self.answer(response)
    }

    /// Sends one request, once, with a body of unknown length, and reads its envelope.
    pub(crate) fn upload(&self, request: &Request, body: &mut dyn Read) -> Result<Answer, Trouble> {
        let response = self.send_body(request, SendBody::from_reader(body))?;
        self.answer(response)
    }

    fn answer(&self, response: http::Response<Body>) -> Result<Answer, Trouble> {
        let envelope = self.envelope(response)?;
        match envelope.r#type.as_str() {
            "sync" => Ok(Answer::Done(envelope.metadata)),
            "async" => match envelope.metadata.get("id").and_then(Value::as_str) {
                Some(id) => Ok(Answer::Begun(id.to_owned())),
                None => Err(Trouble::Garbled("an operation without an id".to_owned())),
            },
            "error" => Err(envelope.refusal()),
            other => Err(Trouble::Garbled(format!("an answer of type {other:?}"))),
        }
    }

    /// Sends one request, once; the answer is a file, or an envelope with an error.
    pub(crate) fn fetch(&self, request: &Request) -> Result<http::Response<Body>, Trouble> {
        let response = self.send(request)?;
        if response.status().is_success() || response.status() == http::StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(response);
        }
        let envelope = self.envelope(response)?;
        Err(envelope.refusal())
    }

    fn send(&self, request: &Request) -> Result<http::Response<Body>, Trouble> {
        match &request.body {
            Some(body) => self.send_body(request, body.as_slice()),
            None => self.send_body(request, ()),
        }
    }

    fn send_body(&self, request: &Request, body: impl AsSendBody) -> Result<http::Response<Body>, Trouble> {
        if let Some(reason) = self.cancel.reason() {
            return Err(Trouble::Cancelled(reason));
        }
        let mut builder = http::Request::builder()
            .method(request.method.clone())
            .uri(format!("http://incus{}", request.path));
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        let limit = Some(self.patience.request.saturating_add(request.patience.unwrap_or_default()));
        let request = builder.body(body).map_err(|error| Trouble::Garbled(error.to_string()))?;
        // Per read, not per body: a wait sends its headers at once and the rest at its end, and a file may
        // be large.
        let request = self.agent.configure_request(request);
        let request = request.timeout_recv_response(limit).timeout_per_read(limit).build();
        let response = self.agent.run(request).map_err(|error| self.trouble(error))?;
        self.known.store(true, Ordering::Relaxed);
        Ok(response)
    }

    fn envelope(&self, mut response: http::Response<Body>) -> Result<Envelope, Trouble> {
        let body = response.body_mut().with_config().limit(ANSWER_LIMIT).read_to_vec();
        let body = body.map_err(|error| self.trouble(error))?;
        serde_json::from_slice(&body)
            .map_err(|error| Trouble::Garbled(format!("{error} (HTTP {})", response.status())))
    }

    /// What a failure of the HTTP client means.
    pub(crate) fn trouble(&self, error: ureq::Error) -> Trouble {
        match error {
            ureq::Error::Timeout(_) => {
                self.host.broke(&self.socket);
                Trouble::Silent
            }
            ureq::Error::Io(source) => self.broken(source),
            ureq::Error::Other(source) => match source.downcast::<ConnectFailed>() {
                Ok(failed) => Trouble::Connect(failed.0),
                Err(source) if source.is::<Interrupted>() => self.interrupted(),
                Err(source) => self.lost(io::Error::other(source)),
            },
            // The peer went away in the middle of an answer, or is no HTTP server.
            other => self.lost(io::Error::other(other)),
        }
    }

    /// What a failure to read a body means: the HTTP client wraps its errors in those of reading.
    pub(crate) fn broken(&self, source: io::Error) -> Trouble {
        if self.cancel.is_cancelled() {
            return self.interrupted();
        }
        self.lost(source)
    }

    /// A connection that has broken, which whoever makes the next one is to know.
    fn lost(&self, source: io::Error) -> Trouble {
        self.host.broke(&self.socket);
        Trouble::Broken(source)
    }

    fn interrupted(&self) -> Trouble {
        Trouble::Cancelled(self.cancel.reason().unwrap_or(CancelReason::Requested))
    }

    /// Waits for `time`, or until the token is cancelled.
    pub(crate) fn pause(&self, time: Duration) -> Result<(), CancelReason> {
        let mut fds = [PollFd::from_borrowed_fd(self.cancel.fd(), PollFlags::IN)];
        // An interruption by a signal makes the pause shorter, which nobody minds.
        let _ = poll(&mut fds, Some(&timespec(time)));
        self.cancel.reason().map_or(Ok(()), Err)
    }
}
