//! Standard output of the runner: the log again, by someone who reads it from the file.
//!
//! Nobody who reads slowly, or not at all, holds up the command or its time limit, and what is printed is
//! the log byte for byte, at the same offsets.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// How long a reader of standard output may take for nothing at all, once the command has ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// Follows a log.
pub(crate) struct Tee {
    wake: SyncSender<()>,
    done: Receiver<()>,
    printed: Arc<AtomicU64>,
}

impl Tee {
    pub(crate) fn start(log: File) -> io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let (end, done) = sync_channel(1);
        let printed = Arc::new(AtomicU64::new(0));
        let progress = Arc::clone(&printed);
        std::thread::Builder::new().name("tee".to_owned()).spawn(move || {
            // Nobody reads standard output any more: the log has it all.
            let _ = follow(log, &woken, &progress);
            let _ = end.send(());
        })?;
        Ok(Self { wake, done, printed })
    }

    /// There is more to read.
    pub(crate) fn wake(&self) {
        // Full, it will look anyway; closed, it has nobody to print for.
        let _ = self.wake.try_send(());
    }

    /// The log has ended: waits until it is printed, or nobody has read any of it for a while.
    pub(crate) fn finish(self) {
        let Self { wake, done, printed } = self;
        drop(wake);
        let mut before = printed.load(Ordering::Relaxed);
        while let Err(RecvTimeoutError::Timeout) = done.recv_timeout(PATIENCE) {
            let now = printed.load(Ordering::Relaxed);
            if now == before {
                return;
            }
            before = now;
        }
    }
}

fn follow(mut log: File, woken: &Receiver<()>, progress: &AtomicU64) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let ended = woken.recv().is_err();
        loop {
            let count = match log.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let mut rest = &buffer[..count];
            while !rest.is_empty() {
                match rustix::io::write(rustix::stdio::stdout(), rest) {
                    Ok(written) => {
                        progress.fetch_add(written as u64, Ordering::Relaxed);
                        rest = &rest[written..];
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        if ended {
            return Ok(());
        }
    }
}
