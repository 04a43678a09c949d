//! The work dir: whose it is, how it is locked, how full its disk is.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use jericho_manifest::at;
use jericho_manifest::protocol::Fault;
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, RawMode};
use rustix::io::Errno;

use super::refused::Refused;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// An open work dir that belongs to this account alone.
pub(super) struct WorkDir {
    path: PathBuf,
    dir: OwnedFd,
    lock: OwnedFd,
}

/// Held while a tree appears, is claimed, renamed or set aside.
pub(super) struct Lock<'w>(&'w OwnedFd);

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // It ends with the descriptor at the latest.
        let _ = rustix::fs::flock(self.0, FlockOperation::Unlock);
    }
}

/// Bytes of the file system.
pub(super) struct Space {
    pub(super) free: u64,
    pub(super) total: u64,
}

impl WorkDir {
    /// Opens it; what is missing of it is made.
    pub(super) fn open(path: &Path) -> Result<Self, Refused> {
        let shown = path.display();
        let unusable = |why: String| Refused::new(Fault::WorkDir, format!("the work dir {shown} {why}"));
        let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
        if !path.is_absolute() || !path.components().all(plain) || path.parent().is_none() {
            return Err(unusable("is no plain absolute path".to_owned()));
        }
        let failed = |error: std::io::Error| unusable(format!("cannot be made: {error}"));
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        match rustix::fs::mkdirat(CWD, path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error.into())),
        }
        let dir = match rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(unusable(
                    "is a symbolic link or no directory; name the directory itself".to_owned(),
                ));
            }
            Err(error) => return Err(unusable(format!("cannot be opened: {}", std::io::Error::from(error)))),
        };
        let stat = rustix::fs::fstat(&dir).map_err(|errno| Refused::step("stat the work dir", errno))?;
        let own = rustix::process::geteuid().as_raw();
        if stat.st_uid != own {
            let owner = stat.st_uid;
            return Err(unusable(format!(
                "belongs to user {owner} and not to user {own} of this account; choose another one, or: \
                 chown {own} {shown}"
            )));
        }
        if stat.st_mode as RawMode & 0o077 != 0 {
            return Err(unusable(format!("lets other users in; shut them out with: chmod 700 {shown}")));
        }
        let snapshots = sub_dir(&dir, "snapshots")?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = rustix::fs::openat(&snapshots, ".lock", flags, Mode::from_raw_mode(0o600));
        let lock =
            lock.map_err(|errno| Refused::step(format_args!("open {shown}/snapshots/.lock"), errno))?;
        Ok(Self { path: path.to_path_buf(), dir, lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory at these names, none of which is a link; nothing where it is not there.
    pub(super) fn find(&self, names: &[&str]) -> Option<OwnedFd> {
        let mut dir = rustix::io::dup(&self.dir).ok()?;
        for name in names {
            dir = at::open_dir(&dir, name.as_bytes()).ok()?;
        }
        Some(dir)
    }

    /// A directory of its own, made when it is missing.
    pub(super) fn sub_dir(&self, name: &str) -> Result<OwnedFd, Refused> {
        sub_dir(&self.dir, name)
    }

    /// Waits for the lock. Whoever holds it does so for moments.
    pub(super) fn lock(&self) -> Result<Lock<'_>, Refused> {
        flock(self.lock.as_fd(), FlockOperation::LockExclusive)
            .map_err(|errno| Refused::step("lock the snapshots", errno))?;
        Ok(Lock(&self.lock))
    }

    pub(super) fn space(&self) -> Result<Space, Refused> {
        let stat = rustix::fs::fstatvfs(&self.dir)
            .map_err(|errno| Refused::step("ask how full the disk of the work dir is", errno))?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Space { free: bytes(stat.f_bavail), total: bytes(stat.f_blocks) })
    }
}

/// flock(2), also when a signal comes.
pub(super) fn flock(file: BorrowedFd<'_>, operation: FlockOperation) -> rustix::io::Result<()> {
    loop {
        match rustix::fs::flock(file, operation) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// A directory in a directory, made when it is missing; never one behind a link.
pub(super) fn sub_dir(dir: impl AsFd, name: &str) -> Result<OwnedFd, Refused> {
    let failed = |errno| Refused::step(format_args!("open the directory {name} of the work dir"), errno);
    match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(failed(error)),
    }
    match at::open_dir(dir, name.as_bytes()) {
        Err(Errno::LOOP | Errno::NOTDIR) => {
            let message = format!("{name} in the work dir is a symbolic link or no directory; remove it");
            Err(Refused::new(Fault::WorkDir, message))
        }
        other => other.map_err(failed),
    }
}

/// Writes a small file of its own: temporary name, rename.
pub(super) fn replace(dir: impl AsFd, name: &str, content: &[u8]) -> rustix::io::Result<()> {
    let temporary = format!(".tmp-{}-{name}", std::process::id());
    let written = write_new(&dir, &temporary, content)
        .and_then(|()| rustix::fs::renameat(&dir, temporary.as_str(), &dir, name));
    if written.is_err() {
        let _ = rustix::fs::unlinkat(&dir, temporary.as_str(), AtFlags::empty());
    }
    written
}

/// Writes a file that is not there; one that is goes first.
pub(super) fn write_new(dir: impl AsFd, name: &str, content: &[u8]) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(&dir, name, flags, Mode::from_raw_mode(0o644));
    let file = match open() {
        Err(Errno::EXIST) => {
            rustix::fs::unlinkat(&dir, name, AtFlags::empty())?;
            open()?
        }
        other => other?,
    };
    write_all(&file, content)
}

/// Writes all of it.
pub(super) fn write_all(file: impl AsFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(&file, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads a file of at most `limit` bytes; nothing when it is not there.
pub(super) fn read(dir: impl AsFd, name: &str, limit: u64) -> std::io::Result<Option<Vec<u8>>> {
    use std::io::Read as _;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(file) => std::fs::File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let stat = file.metadata()?;
    if !stat.is_file() || stat.len() > limit {
        return Err(std::io::Error::other("is no file of this program"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(stat.len()).unwrap_or(0));
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
