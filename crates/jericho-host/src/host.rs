//! A host: where commands run and files lie. One trait, so that a runtime is written once.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cancel::{CancelReason, CancelToken};
use crate::command::Command;

/// What went wrong between this process and a host. Never the verdict of a command: that is
/// an [`Exit`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The program is not there (or its directory, or its interpreter).
    #[error("{program}: not found")]
    NotFound {
        /// As it was asked for.
        program: String,
    },
    /// The program could not be started for another reason.
    #[error("cannot start {program}")]
    Start {
        /// As it was asked for.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    File {
        /// A verb: read, write, publish, remove, enter.
        action: &'static str,
        /// The file it was about.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Output of a job could not be taken over by its sink, for example on a full disk.
    #[error("cannot keep the output")]
    Sink(#[source] io::Error),
    /// A mount of [`Isolation::Namespaces`] failed; the command was not started.
    #[error("cannot mount {what}")]
    Mount {
        /// Which one: kind and target.
        what: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A short command printed more than is kept; it was ended.
    #[error("{program} printed more than {limit} bytes")]
    OutputTooLarge {
        /// As it was asked for.
        program: String,
        /// Most bytes per stream.
        limit: usize,
    },
    /// The caller's token was cancelled before there was a result.
    #[error("cancelled: {0}")]
    Cancelled(CancelReason),
    /// The connection to the host, which is reached over ssh.
    #[error(transparent)]
    Ssh(#[from] crate::ssh::SshError),
    /// Something of the system itself failed: fork, pipe, poll.
    #[error("{0}")]
    System(&'static str, #[source] io::Error),
}

impl HostError {
    /// Whether the file system was full.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Start { source, .. } | Self::File { source, .. } | Self::Mount { source, .. } => {
                is_no_space(source)
            }
            Self::Sink(source) | Self::System(_, source) => is_no_space(source),
            Self::NotFound { .. } | Self::OutputTooLarge { .. } | Self::Cancelled(_) | Self::Ssh(_) => false,
        }
    }
}

fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl Exit {
    /// Exit code 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

/// Result of a short command: everything it printed, bounded.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// Where merged standard output and error of a supervised command go, in the order written.
pub trait OutputSink: Send {
    /// Takes all of `bytes`.
    ///
    /// # Errors
    /// Ends the command: [`HostError::Sink`].
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
}

impl OutputSink for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// One mount in the private view of a command. Carried out in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// `source` also appears at `target`.
    Bind {
        /// An existing directory or file.
        source: PathBuf,
        /// An existing directory or file, covered by it.
        target: PathBuf,
        /// Writes are refused.
        read_only: bool,
    },
    /// A writable view of `lower` that leaves it untouched.
    Overlay {
        /// The tree that is seen.
        lower: PathBuf,
        /// Takes what is written. Empty, same file system as `work`.
        upper: PathBuf,
        /// Scratch directory of the file system. Empty.
        work: PathBuf,
        /// Where it appears.
        target: PathBuf,
    },
}

/// How far a command is kept apart from the rest of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Isolation {
    /// A session of its own. Children that leave it are found by the tag in their environment.
    Session,
    /// Also a process namespace (nothing can escape it) and a mount namespace with these
    /// mounts. Needs root, see [`Host::supports_namespaces`].
    Namespaces(Vec<Mount>),
}

/// How to run a command that may take long and may misbehave.
#[derive(Debug, Clone)]
pub struct Supervision {
    /// Put into the environment under this name with this value, and looked for when
    /// something is left: `("JERICHOCI_JOB", "<run>/<job>/<nonce>")`.
    pub tag: (String, String),
    /// From the start of the command; the whole tree is ended after it.
    pub time_limit: Option<Duration>,
    /// Between TERM and KILL.
    pub grace: Duration,
    /// How long output is still read after the command itself has ended while something else
    /// holds the pipe.
    pub drain: Duration,
    /// How far it is kept apart.
    pub isolation: Isolation,
}

impl Supervision {
    /// Session isolation, no limit, 5 s of grace, 100 ms of drain.
    #[must_use]
    pub fn new(tag_name: impl Into<String>, tag_value: impl Into<String>) -> Self {
        Self {
            tag: (tag_name.into(), tag_value.into()),
            time_limit: None,
            grace: Duration::from_secs(5),
            drain: Duration::from_millis(100),
            isolation: Isolation::Session,
        }
    }
}

/// Who ended a supervised command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// Itself.
    Itself,
    /// Its time limit.
    TimeLimit,
    /// The cancel token.
    Cancelled(CancelReason),
}

/// A process that was still there when its command had ended; it has been ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaked {
    /// Process id as this machine sees it.
    pub pid: u32,
    /// Command line, arguments joined by a space, or the short name in brackets.
    pub command: String,
    /// Whether it held the output pipe.
    pub held_output: bool,
}

/// Result of a supervised command. When it is returned nothing of the command runs any more.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How the command itself ended.
    pub exit: Exit,
    /// On whose account.
    pub ended_by: EndedBy,
    /// What it left behind although it ended by itself.
    pub leaked: Vec<Leaked>,
    /// From start to the end of the command itself, monotonic.
    pub duration: Duration,
    /// Bytes handed to the sink.
    pub output_bytes: u64,
}

/// Which way [`Host::publish_dir`] went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The staged directory is now the target.
    Renamed,
    /// The target was there already; the staged directory was dropped.
    AlreadyThere,
}

/// What a directory entry is, not following symbolic links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, wherever it leads.
    Link,
    /// A pipe, a socket, a device.
    Other,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name, without the directory.
    pub name: OsString,
    /// What it is.
    pub kind: EntryKind,
}

/// Where commands run and files lie.
pub trait Host: Send + Sync + fmt::Debug {
    /// For messages: `local`, or what ssh(1) calls it.
    fn label(&self) -> &str;

    /// Runs a short command to its end and returns what it printed.
    ///
    /// # Errors
    /// [`HostError`] when it could not be started or followed; never because of its exit code.
    fn run(&self, command: &Command, cancel: &CancelToken) -> Result<Output, HostError>;

    /// Like [`Host::run`], but standard output goes to `stdout` as it comes, without a limit,
    /// in pieces of any size. [`Output::stdout`] stays empty.
    ///
    /// # Errors
    /// As [`Host::run`].
    fn stream(
        &self,
        command: &Command,
        cancel: &CancelToken,
        stdout: &mut dyn FnMut(&[u8]),
    ) -> Result<Output, HostError>;

    /// Runs a command under supervision, blocking until nothing of it is left. The token ends it
    /// with TERM, grace, KILL; [`CancelReason::Forced`] skips the grace.
    ///
    /// # Errors
    /// [`HostError`] when it could not be started or followed, or the sink failed; the process
    /// tree has been ended then too.
    fn supervise(
        &self,
        command: &Command,
        supervision: &Supervision,
        sink: &mut dyn OutputSink,
        cancel: &CancelToken,
    ) -> Result<Finished, HostError>;

    /// Ends every process of this user whose environment has `name` with a value that starts
    /// with `value_prefix`, TERM, grace, KILL. Returns what was found.
    ///
    /// # Errors
    /// [`HostError::System`] when the process table cannot be read.
    fn end_tagged(&self, name: &str, value_prefix: &str, grace: Duration) -> Result<Vec<Leaked>, HostError>;

    /// Whether [`Isolation::Namespaces`] works here. Probed once.
    fn supports_namespaces(&self) -> bool;

    /// Whether a [`Mount::Overlay`] works on the file system of `dir`, which exists. Found by
    /// trying, at every call.
    fn supports_overlay(&self, dir: &Path) -> bool;

    /// The content of a file.
    ///
    /// # Errors
    /// [`HostError::File`].
    fn read(&self, path: &Path) -> Result<Vec<u8>, HostError>;

    /// At most `limit` bytes of a file, from byte `offset` on; fewer, or none, at its end.
    ///
    /// # Errors
    /// [`HostError::File`].
    fn read_range(&self, path: &Path, offset: u64, limit: u64) -> Result<Vec<u8>, HostError>;

    /// The entries of a directory, sorted by name.
    ///
    /// # Errors
    /// [`HostError::File`].
    fn list(&self, dir: &Path) -> Result<Vec<Entry>, HostError>;

    /// Makes a directory and what is missing above it, for this user alone (mode 0700). One that is
    /// there is success.
    ///
    /// # Errors
    /// [`HostError::File`].
    fn make_dirs(&self, dir: &Path) -> Result<(), HostError>;

    /// Replaces a file: temporary name in the same directory, rename. A reader sees the old or
    /// the new content, never a part. `durable` also syncs file and directory.
    ///
    /// # Errors
    /// [`HostError::File`].
    fn write_atomic(&self, path: &Path, content: &[u8], durable: bool) -> Result<(), HostError>;

    /// Renames `staged` to `target`; a target that exists wins and `staged` is dropped.
    ///
    /// # Errors
    /// [`HostError::File`].
    fn publish_dir(&self, staged: &Path, target: &Path) -> Result<Published, HostError>;

    /// Removes a file or a tree, never following symbolic links. What is gone is success.
    ///
    /// # Errors
    /// [`HostError::File`].
    fn remove(&self, path: &Path) -> Result<(), HostError>;
}
