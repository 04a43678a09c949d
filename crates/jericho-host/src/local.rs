//! This machine.

pub(crate) mod capture;
mod foreground;
mod leftovers;
mod namespaces;
pub(crate) mod prepare;
mod probe;
pub(crate) mod pump;
pub(crate) mod session;
mod supervise;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use crate::cancel::CancelToken;
use crate::command::Command;
use crate::fs;
use crate::host::{
    Entry, EntryKind, Finished, Host, HostError, Leaked, Mount, Output, OutputSink, Published, Supervision,
};

pub use prepare::find_program;

/// This machine as a [`Host`].
#[derive(Debug, Default)]
pub struct LocalHost {
    namespaces: OnceLock<bool>,
}

impl LocalHost {
    /// Every process of this user that [`Host::end_tagged`] would end. Nothing is ended.
    ///
    /// # Errors
    /// [`HostError::System`] when the process table cannot be read.
    pub fn tagged(&self, name: &str, value_prefix: &str) -> Result<Vec<Leaked>, HostError> {
        leftovers::find_tagged(name, value_prefix)
    }

    /// A door to this machine. Cheap; nothing is probed before it is asked for.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Like [`Host::run`], but standard output goes to `stdout` as it comes, without a limit,
    /// in pieces of any size. [`Output::stdout`] stays empty.
    ///
    /// # Errors
    /// As [`Host::run`].
    pub fn stream(
        &self,
        command: &Command,
        cancel: &CancelToken,
        stdout: &mut dyn FnMut(&[u8]),
    ) -> Result<Output, HostError> {
        capture::stream(command, cancel, stdout)
    }

    /// Whether [`crate::Mount::Overlay`] works with directories below `dir`: tries it, and
    /// removes what it made. False too where namespaces do not work, or `dir` is not writable.
    #[must_use]
    pub fn supports_overlay(&self, dir: &Path) -> bool {
        self.supports_namespaces() && probe::overlay(self, dir)
    }
}

/// The right to mount what only the process that has it sees, and what it starts: for a program that
/// runs one command in one view. The mounts go with the last process that sees them.
#[derive(Debug)]
pub struct PrivateMounts(std::marker::PhantomData<*const ()>);

impl PrivateMounts {
    /// Leaves the view of the mounts that this thread has shared with others. Threads that are there
    /// already keep it; those that this one starts see what it sees.
    ///
    /// # Errors
    /// [`HostError::System`], for one who is not root.
    pub fn enter() -> Result<Self, HostError> {
        crate::sys::namespace::leave_mounts()
            .map_err(|error| HostError::System("cannot have mounts of its own", error))?;
        Ok(Self(std::marker::PhantomData))
    }

    /// Mounts.
    ///
    /// # Errors
    /// [`HostError::Mount`].
    pub fn mount(&self, mount: &Mount) -> Result<(), HostError> {
        namespaces::mount_here(mount)
    }
}

fn file_error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> HostError + use<'a> {
    move |source| HostError::File { action, path: path.to_path_buf(), source }
}

impl Host for LocalHost {
    fn label(&self) -> &str {
        "local"
    }

    fn run(&self, command: &Command, cancel: &CancelToken) -> Result<Output, HostError> {
        capture::run(command, cancel)
    }

    fn stream(
        &self,
        command: &Command,
        cancel: &CancelToken,
        stdout: &mut dyn FnMut(&[u8]),
    ) -> Result<Output, HostError> {
        Self::stream(self, command, cancel, stdout)
    }

    fn supervise(
        &self,
        command: &Command,
        supervision: &Supervision,
        sink: &mut dyn OutputSink,
        cancel: &CancelToken,
    ) -> Result<Finished, HostError> {
        supervise::supervise(command, supervision, sink, cancel)
    }

    fn end_tagged(&self, name: &str, value_prefix: &str, grace: Duration) -> Result<Vec<Leaked>, HostError> {
        leftovers::end_tagged(name, value_prefix, grace)
    }

    fn supports_namespaces(&self) -> bool {
        *self.namespaces.get_or_init(|| probe::namespaces(self))
    }

    fn supports_overlay(&self, dir: &Path) -> bool {
        Self::supports_overlay(self, dir)
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, HostError> {
        std::fs::read(path).map_err(file_error("read", path))
    }

    fn read_range(&self, path: &Path, offset: u64, limit: u64) -> Result<Vec<u8>, HostError> {
        let read = || {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(offset))?;
            let mut content = Vec::new();
            file.take(limit).read_to_end(&mut content)?;
            Ok(content)
        };
        read().map_err(file_error("read", path))
    }

    fn list(&self, dir: &Path) -> Result<Vec<Entry>, HostError> {
        let list = || {
            let mut entries = Vec::new();
            for entry in std::fs::read_dir(dir)? {
                let entry = entry?;
                let kind = entry.file_type()?;
                let kind = match () {
                    () if kind.is_dir() => EntryKind::Directory,
                    () if kind.is_file() => EntryKind::File,
                    () if kind.is_symlink() => EntryKind::Link,
                    () => EntryKind::Other,
                };
                entries.push(Entry { name: entry.file_name(), kind });
            }
            entries.sort();
            Ok(entries)
        };
        list().map_err(file_error("list", dir))
    }

    fn make_dirs(&self, dir: &Path) -> Result<(), HostError> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(file_error("make", dir))
    }

    fn write_atomic(&self, path: &Path, content: &[u8], durable: bool) -> Result<(), HostError> {
        fs::write_atomic(path, content, durable).map_err(file_error("write", path))
    }

    fn publish_dir(&self, staged: &Path, target: &Path) -> Result<Published, HostError> {
        fs::publish_dir(staged, target).map_err(file_error("publish", target))
    }

    fn remove(&self, path: &Path) -> Result<(), HostError> {
        fs::remove_tree(path).map_err(file_error("remove", path))
    }
}
