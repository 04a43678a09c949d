//! Being told when a file appears in a directory, where the kernel tells it.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

/// Wakes whoever waits for a file. It tells of more than that file, and on a system without inotify(7) of
/// nothing: the file itself says whether it is there.
#[derive(Debug)]
pub(super) struct Appears(Option<OwnedFd>);

impl Appears {
    /// Of a path whose directory is there.
    pub(super) fn of(path: &Path) -> Self {
        // A user has only so many watches: without one there is nothing to be told.
        Self(path.parent().and_then(watch))
    }

    /// Readable when something has appeared.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(|watch| watch.as_fd())
    }

    /// Takes what was told.
    pub(super) fn hear(&self) {
        let Some(watch) = &self.0 else { return };
        let mut buffer = [0u8; 4 << 10];
        while rustix::io::read(watch, &mut buffer).is_ok_and(|count| count > 0) {}
    }
}

#[cfg(target_os = "linux")]
fn watch(dir: &Path) -> Option<OwnedFd> {
    use rustix::fs::inotify;
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok()?;
    inotify::add_watch(&watch, dir, inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO).ok()?;
    Some(watch)
}

#[cfg(not(target_os = "linux"))]
fn watch(_dir: &Path) -> Option<OwnedFd> {
    None
}
