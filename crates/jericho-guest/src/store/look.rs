//! A look at a tree: at once, or while other things are done.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use jericho_host::{Clock as _, SystemClock};
use jericho_manifest::Encoded;

use super::check::{self, Depth};
use super::used::{Used, write_used};

/// From this many entries on nobody waits for a look at a tree before it is needed.
const MANY: usize = 2000;

/// A look at a tree of which manifest and marker are as they should be.
pub(super) struct Look {
    pub(super) dir: OwnedFd,
    pub(super) manifest: Arc<Encoded>,
    pub(super) published: (i64, i64),
    pub(super) depth: Depth,
    /// Who used it last.
    pub(super) engine: String,
    pub(super) boot_id: String,
}

/// The same on a thread of its own, and then what it has found.
pub(super) struct Looking {
    thread: Option<JoinHandle<Result<(), String>>>,
    found: Result<(), String>,
}

impl Look {
    /// Looks at the tree. What is wrong is a part of a sentence.
    pub(super) fn finish(&self) -> Result<(), String> {
        let began = SystemClock.now().timestamp();
        check::tree(&self.dir, &self.manifest, self.published, self.depth)?;
        if self.depth != Depth::Directories {
            let used = Used::fresh(&self.engine, &self.boot_id, &self.manifest);
            // Only spares the next one some work.
            let _ = write_used(&self.dir, &Used { checked_at: began, ..used });
        }
        Ok(())
    }

    /// Looks while other things are done, where that takes a while; not when it may take very long. Else it is done
    /// when this returns.
    pub(super) fn go_on(self) -> Result<Option<Looking>, String> {
        if self.manifest.len() < MANY || self.depth == Depth::Contents {
            return self.finish().map(|()| None);
        }
        let look = Arc::new(self);
        let other = Arc::clone(&look);
        match std::thread::Builder::new().spawn(move || other.finish()) {
            Ok(thread) => Ok(Some(Looking { thread: Some(thread), found: Ok(()) })),
            Err(_) => look.finish().map(|()| None),
        }
    }
}

impl Looking {
    /// Waits for its end.
    pub(super) fn found(&mut self) -> &Result<(), String> {
        if let Some(thread) = self.thread.take() {
            self.found = thread.join().unwrap_or_else(|_| Err("the check has a fault".to_owned()));
        }
        &self.found
    }
}
