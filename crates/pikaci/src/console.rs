//! The terminal that this program was started in, for a shell somewhere else: every key goes there.

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pika_cloud::ops::Console;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::consts::SIGWINCH;
use signal_hook::low_level::{pipe, unregister};

/// What is assumed of something that is no terminal.
const SIZE: (u16, u16) = (80, 24);

/// Standard input and output. The terminal is as it was before when this is dropped.
#[derive(Debug)]
pub(crate) struct OwnTerminal {
    input: io::Stdin,
    output: io::Stdout,
    before: Option<Termios>,
    resized: Option<(UnixStream, signal_hook::SigId)>,
    lent: Arc<AtomicBool>,
}

impl OwnTerminal {
    /// Nothing is changed yet. `lent` is set while a program of this machine has the terminal.
    pub(crate) fn new(lent: Arc<AtomicBool>) -> Self {
        let resized = || -> io::Result<_> {
            let (mine, signals) = UnixStream::pair()?;
            mine.set_nonblocking(true)?;
            Ok((mine, pipe::register(SIGWINCH, signals)?))
        };
        // Without it the size only stays as it is.
        Self { input: io::stdin(), output: io::stdout(), before: None, resized: resized().ok(), lent }
    }

    /// Whether somebody can type.
    pub(crate) fn is_terminal(&self) -> bool {
        isatty(&self.input)
    }
}

impl Console for OwnTerminal {
    fn begin(&mut self) -> io::Result<()> {
        if !self.is_terminal() {
            return Ok(());
        }
        let before = tcgetattr(&self.input)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&self.input, OptionalActions::Now, &raw)?;
        self.before = Some(before);
        Ok(())
    }

    fn lend(&mut self, lent: bool) {
        self.lent.store(lent && self.is_terminal(), Ordering::SeqCst);
    }

    fn input(&self) -> BorrowedFd<'_> {
        self.input.as_fd()
    }

    fn print(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all(bytes)?;
        self.output.flush()
    }

    fn resized(&self) -> Option<BorrowedFd<'_>> {
        self.resized.as_ref().map(|(stream, _)| stream.as_fd())
    }

    fn size(&mut self) -> (u16, u16) {
        if let Some((stream, _)) = &mut self.resized {
            let mut told = [0; 64];
            while io::Read::read(stream, &mut told).is_ok_and(|count| count > 0) {}
        }
        let size = tcgetwinsize(&self.input).map(|size| (size.ws_col, size.ws_row));
        size.ok().filter(|(columns, rows)| *columns > 0 && *rows > 0).unwrap_or(SIZE)
    }
}

impl Drop for OwnTerminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // A terminal that is gone needs nothing.
            let _ = tcsetattr(&self.input, OptionalActions::Flush, before);
        }
        if let Some((_, id)) = self.resized.take() {
            unregister(id);
        }
    }
}
