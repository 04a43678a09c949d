//! File locks that say who is alive: held by an open file, dropped by the kernel with its process.

mod waiting;

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub use waiting::{WaitError, within};

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The file system of the file has no locks (flock), so nobody could tell who is alive.
    #[error("the file system of {} does not support file locks", .0.display())]
    Unsupported(PathBuf),
    /// The file could not be opened or locked.
    #[error("cannot lock {}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl LockError {
    fn new(path: &Path, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENOLCK | libc::EOPNOTSUPP | libc::ENOSYS) => Self::Unsupported(path.to_path_buf()),
            _ => Self::Io { path: path.to_path_buf(), source },
        }
    }
}

/// A lock on a file, held until it is dropped or its process ends, however that ends. Children
/// do not inherit it. The file is made when it is not there; removing it is the caller's affair.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

impl FileLock {
    /// The only lock, or nothing when somebody else has one.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>, LockError> {
        Self::attempt(path, File::try_lock)
    }

    /// One of several shared locks, or nothing when somebody has the only one.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn try_shared(path: &Path) -> Result<Option<Self>, LockError> {
        Self::attempt(path, File::try_lock_shared)
    }

    /// The only lock, however long it takes to get it.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn exclusive_blocking(path: &Path) -> Result<Self, LockError> {
        Self::wait(path, File::lock)
    }

    /// A shared lock, however long it takes to get it.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn shared_blocking(path: &Path) -> Result<Self, LockError> {
        Self::wait(path, File::lock_shared)
    }

    /// The locked file, for what its owner writes into it.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Says in the file whose it is, for those who wait; see [`holder`]. Nobody minds when it cannot be said.
    pub fn sign(&self, holder: &str) {
        let _ = self.file.set_len(0).and_then(|()| self.file.write_all_at(holder.as_bytes(), 0));
    }

    fn open(path: &Path) -> Result<File, LockError> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(path)
            .map_err(|source| LockError::new(path, source))
    }

    fn attempt(
        path: &Path,
        lock: impl Fn(&File) -> Result<(), TryLockError>,
    ) -> Result<Option<Self>, LockError> {
        let file = Self::open(path)?;
        loop {
            match lock(&file) {
                Ok(()) => return Ok(Some(Self { file })),
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(TryLockError::Error(error)) => return Err(LockError::new(path, error)),
            }
        }
    }

    fn wait(path: &Path, lock: impl Fn(&File) -> io::Result<()>) -> Result<Self, LockError> {
        let file = Self::open(path)?;
        loop {
            match lock(&file) {
                Ok(()) => return Ok(Self { file }),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(LockError::new(path, error)),
            }
        }
    }
}

/// Who has the lock at a path, as far as they have [signed](FileLock::sign) it.
#[must_use]
pub fn holder(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let plain = text.len() < 1000 && !text.contains(char::is_control);
    (plain && !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exclusive_lock_keeps_everybody_out_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = FileLock::try_exclusive(&path).unwrap().unwrap();
        assert!(FileLock::try_exclusive(&path).unwrap().is_none());
        assert!(FileLock::try_shared(&path).unwrap().is_none());
        drop(held);
        let first = FileLock::shared_blocking(&path).unwrap();
        let second = FileLock::try_shared(&path).unwrap().unwrap();
        assert!(FileLock::try_exclusive(&path).unwrap().is_none());
        drop((first, second));
        FileLock::exclusive_blocking(&path).unwrap();
    }

    #[test]
    fn a_file_system_without_locks_is_an_error_of_its_own() {
        for code in [libc::ENOLCK, libc::EOPNOTSUPP] {
            let error = LockError::new(Path::new("x"), io::Error::from_raw_os_error(code));
            assert!(matches!(error, LockError::Unsupported(_)), "{error}");
        }
    }
}
