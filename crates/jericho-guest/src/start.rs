//! How the runner learns that a command has been started, or why it could not be.
//!
//! A named pipe in the state directory: the process that is to become the command opens it, writes its
//! process id, and by becoming the command closes it. Unlike a descriptor it passes every way to start a
//! process.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;

/// What was told so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Process id of the command, in its own namespace.
    pub(crate) pid: Option<i32>,
    /// Why it is none.
    pub(crate) error: Option<String>,
}

impl Told {
    fn parse(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let mut told = Self::default();
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("pid", pid)) => told.pid = pid.parse().ok(),
                Some(("error", error)) => told.error = Some(error.to_owned()),
                _ => {}
            }
        }
        told
    }
}

/// What came through the pipe.
#[derive(Default)]
struct Heard {
    state: Mutex<Text>,
    changed: Condvar,
}

#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    ended: bool,
}

impl Heard {
    fn change(&self, change: impl FnOnce(&mut Text)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn told(&self) -> Told {
        Told::parse(&self.state.lock().unwrap_or_else(PoisonError::into_inner).bytes)
    }

    /// Waits until a process id was told, or will not be.
    fn pid(&self) -> Option<i32> {
        let mut text = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let pid = Told::parse(&text.bytes).pid;
            if pid.is_some() || text.ended {
                return pid;
            }
            text = self.changed.wait(text).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The reading end.
pub(crate) struct StartPipe {
    path: PathBuf,
    heard: Arc<Heard>,
    thread: Option<JoinHandle<()>>,
}

impl StartPipe {
    /// Makes the pipe and listens. `started` is called once, when the command has been started.
    pub(crate) fn open(path: PathBuf, started: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        jericho_host::sys::make_fifo(&path)?;
        let nonblock = OFlags::NONBLOCK.bits().cast_signed();
        let pipe = OpenOptions::new().read(true).custom_flags(nonblock).open(&path)?;
        let heard = Arc::new(Heard::default());
        let shared = Arc::clone(&heard);
        let thread = std::thread::Builder::new().name("start".to_owned()).spawn(move || {
            listen(pipe, &shared);
            shared.change(|text| text.ended = true);
            let told = shared.told();
            if told.pid.is_some() && told.error.is_none() {
                started();
            }
        })?;
        Ok(Self { path, heard, thread: Some(thread) })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for the process id of the command; nothing once it is sure that there will be none.
    pub(crate) fn pid(&self) -> impl Fn() -> Option<i32> + Send + 'static {
        let heard = Arc::clone(&self.heard);
        move || heard.pid()
    }

    /// The command has ended, so nobody tells anything any more.
    pub(crate) fn close(mut self) -> Told {
        self.stop();
        self.heard.told()
    }

    fn stop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        // One who opens it and goes makes it end, also when the command never opened it. With nobody
        // reading any more this fails, and the thread has ended.
        let nonblock = OFlags::NONBLOCK.bits().cast_signed();
        drop(OpenOptions::new().write(true).custom_flags(nonblock).open(&self.path));
        // A panic there changes nothing here.
        let _ = thread.join();
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Drop for StartPipe {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Reads until the last writer has gone.
fn listen(mut pipe: File, heard: &Heard) {
    let mut buffer = [0; 4096];
    loop {
        let mut fds = [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)];
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
        match pipe.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                heard.change(|text| text.bytes.extend_from_slice(&buffer[..count]));
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => return,
        }
    }
}

/// The writing end, in the process that becomes the command. Closed by that.
pub(crate) struct Teller(File);

impl Teller {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut pipe = OpenOptions::new().write(true).open(path)?;
        pipe.write_all(format!("pid {}\n", std::process::id()).as_bytes())?;
        Ok(Self(pipe))
    }

    pub(crate) fn failed(&mut self, error: &str) {
        // Nobody is left to be told of a failure.
        let _ = self.0.write_all(format!("error {}\n", error.replace('\n', " ")).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn pipe(dir: &Path) -> (StartPipe, mpsc::Receiver<()>) {
        let (sender, started) = mpsc::channel();
        (StartPipe::open(dir.join("start"), move || sender.send(()).unwrap()).unwrap(), started)
    }

    #[test]
    fn a_command_that_starts_is_told_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, started) = pipe(dir.path());
        drop(Teller::open(pipe.path()).unwrap());
        assert_eq!(pipe.pid()(), Some(std::process::id().cast_signed()));
        started.recv().unwrap();
        assert_eq!(pipe.close(), Told { pid: Some(std::process::id().cast_signed()), error: None });
        assert!(!dir.path().join("start").exists());
    }

    #[test]
    fn one_that_cannot_start_says_why_and_one_that_says_nothing_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let (first, started) = pipe(dir.path());
        Teller::open(first.path()).unwrap().failed("no\nway");
        assert_eq!(first.close().error.as_deref(), Some("no way"));
        assert!(started.recv().is_err());
        let (silent, started) = pipe(dir.path());
        let pid = silent.pid();
        assert_eq!(silent.close(), Told::default());
        assert_eq!(pid(), None);
        assert!(started.recv().is_err());
    }
}
