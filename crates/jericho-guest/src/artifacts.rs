//! Collects what a command left: files below its directory that a glob chooses, copied into the directory
//! of artifacts.
//!
//! Nothing of the command runs any more, but what it left may be meant to mislead: names are opened one by
//! one, beneath the directory they are found in, and links lead to a file only where that lies beneath too.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use pika_cloud::glob::GlobSet;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::Serialize;

/// Most files of one job.
const MOST_FILES: u64 = 100_000;
/// Most bytes of one job.
const MOST_BYTES: u64 = 8 << 30;
/// Most bytes of names of the command's own files: a result must find room on a disk that is full.
const MOST_OWN: u64 = 32 << 10;
/// Most warnings that are told one by one.
const MOST_WARNINGS: usize = 20;

/// What became of artifacts.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Collected {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// What the globs would choose of what the command has put there itself: who wants no copies still wants that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) own: Vec<String>,
    /// How many more.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) own_left_out: u64,
    /// What was left out, and why; paths as far as they are text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What becomes of something that has the place of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InPlace {
    /// It stays, and the copy is left out: the command has put it there itself.
    Kept,
    /// The copy takes its place: it may be that of an earlier attempt.
    Replaced,
}

impl InPlace {
    /// For a command that is about to start, by what is in the directory of its artifacts already.
    pub(crate) fn at_start(artifacts: &Path) -> Self {
        let is_new = std::fs::read_dir(artifacts).is_ok_and(|mut names| names.next().is_none());
        if is_new { Self::Kept } else { Self::Replaced }
    }
}

/// Copies what `globs` choose from below `from` into `to`. What cannot be copied is a warning.
pub(crate) fn collect(from: &Path, globs: &GlobSet, to: &Path, in_place: InPlace) -> Collected {
    let mut collector = Collector {
        found: Collected::default(),
        in_place,
        more_warnings: 0,
        most_files: MOST_FILES,
        most_bytes: MOST_BYTES,
    };
    if !globs.is_empty()
        && let Err(error) = collector.run(from, globs, to)
    {
        collector.warn(format!("the collection ended early: {error}"));
    }
    if collector.more_warnings > 0 {
        collector.found.warnings.push(format!("and {} more", collector.more_warnings));
    }
    collector.found
}

struct Collector {
    found: Collected,
    in_place: InPlace,
    more_warnings: u64,
    most_files: u64,
    most_bytes: u64,
}

/// What is done with each file.
type Show<'a> = dyn FnMut(&mut Collector, &[u8], Kind) -> io::Result<()> + 'a;

impl Collector {
    fn warn(&mut self, warning: String) {
        if self.found.warnings.len() < MOST_WARNINGS {
            self.found.warnings.push(warning);
        } else {
            self.more_warnings += 1;
        }
    }

    fn run(&mut self, from: &Path, globs: &GlobSet, to: &Path) -> io::Result<()> {
        let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let source = rustix::fs::openat(CWD, from, directory, Mode::empty())?;
        let target = rustix::fs::openat(CWD, to, directory, Mode::empty())?;
        if self.in_place == InPlace::Kept {
            let mut own_bytes = 0;
            self.walk(&target, None, &mut |this, path, kind| {
                if kind == Kind::File && globs.matches(path) {
                    own_bytes += path.len() as u64;
                    if own_bytes > MOST_OWN {
                        this.found.own_left_out += 1;
                    } else {
                        this.found.own.push(shown(path));
                    }
                }
                Ok(())
            })?;
        }
        let own = rustix::fs::fstat(&target)?;
        self.walk(&source, Some((own.st_dev, own.st_ino)), &mut |this, path, kind| {
            if !globs.matches(path) {
                return Ok(());
            }
            if this.found.files >= this.most_files {
                return Err(io::Error::other(format!("there are more than {} files", this.most_files)));
            }
            this.take(&source, path, kind, &target)
        })
    }

    /// Shows everything below `root` that is no directory, by path, except what lies in the directory `without`.
    fn walk(&mut self, root: &OwnedFd, without: Option<(u64, u64)>, show: &mut Show<'_>) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        // Directories that wait, as paths: descriptors would run out.
        let mut waiting = vec![Vec::new()];
        while let Some(path) = waiting.pop() {
            let dir = match open_beneath(root, &path, flags, ResolveFlags::NO_SYMLINKS) {
                Ok(dir) => dir,
                Err(error) => {
                    self.warn(format!("{}: {error}", shown(&path)));
                    continue;
                }
            };
            let stat = rustix::fs::fstat(&dir)?;
            if without == Some((stat.st_dev, stat.st_ino)) {
                continue;
            }
            let mut entries = BTreeSet::new();
            for entry in rustix::fs::Dir::read_from(&dir)? {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    entries.insert((name.to_vec(), kind(&dir, entry.file_name(), entry.file_type())));
                }
            }
            let mut below = Vec::new();
            for (name, kind) in entries {
                let mut inner = path.clone();
                if !inner.is_empty() {
                    inner.push(b'/');
                }
                inner.extend_from_slice(&name);
                if kind == Kind::Directory {
                    below.push(inner);
                } else {
                    show(self, &inner, kind)?;
                }
            }
            waiting.extend(below.into_iter().rev());
        }
        Ok(())
    }

    /// Copies one file. Only a limit and a full disk end the collection.
    fn take(&mut self, source: &OwnedFd, path: &[u8], kind: Kind, target: &OwnedFd) -> io::Result<()> {
        let resolve = match kind {
            Kind::Link => ResolveFlags::empty(),
            _ => ResolveFlags::NO_SYMLINKS,
        };
        if kind == Kind::Other {
            self.warn(format!("{}: is no file", shown(path)));
            return Ok(());
        }
        let most = self.most_bytes - self.found.bytes;
        let copied = copy(source, path, resolve, target, self.in_place, most);
        match copied {
            Ok(bytes) => {
                self.found.files += 1;
                self.found.bytes += bytes;
                Ok(())
            }
            Err(error)
                if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                Err(error)
            }
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                Err(io::Error::other(format!("there are more than {} bytes", self.most_bytes)))
            }
            Err(error) => {
                let why = match error.raw_os_error().map(Errno::from_raw_os_error) {
                    Some(Errno::XDEV | Errno::LOOP) => {
                        "the link leads out of the working directory".to_owned()
                    }
                    Some(Errno::EXIST) => "the job has written a file of that name to $ARTIFACTS".to_owned(),
                    Some(Errno::NOENT) if kind == Kind::Link => "the link leads to nothing".to_owned(),
                    _ => error.to_string(),
                };
                self.warn(format!("{}: {why}", shown(path)));
                Ok(())
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    File,
    Directory,
    Link,
    Other,
}

/// What an entry of a directory is; some file systems do not say it with the name.
fn kind(dir: &OwnedFd, name: &std::ffi::CStr, told: FileType) -> Kind {
    let told = match told {
        FileType::Unknown => rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
        told => told,
    };
    match told {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Link,
        _ => Kind::Other,
    }
}

fn copy(
    source: &OwnedFd,
    path: &[u8],
    resolve: ResolveFlags,
    target: &OwnedFd,
    in_place: InPlace,
    most: u64,
) -> io::Result<u64> {
    // Should it be something that blocks, it is not waited for.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = open_beneath(source, path, flags, resolve)?;
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("is no file"));
    }
    if u64::try_from(stat.st_size).unwrap_or(0) > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let (dir, name) = make_parents(target, path)?;
    let name = c_string(name)?;
    if in_place == InPlace::Replaced {
        match rustix::fs::unlinkat(&dir, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o755 | 0o600);
    let copy = rustix::fs::openat(&dir, &name, flags, mode)?;
    let copied = io::copy(&mut File::from(file), &mut File::from(copy));
    if copied.is_err() {
        // Half a file is worse than none.
        let _ = rustix::fs::unlinkat(&dir, &name, AtFlags::empty());
    }
    copied
}

/// Opens a relative path that must not lead out of a directory; an empty one is the directory.
fn open_beneath(dir: &OwnedFd, path: &[u8], flags: OFlags, resolve: ResolveFlags) -> io::Result<OwnedFd> {
    let path = if path.is_empty() { c_string(b".")? } else { c_string(path)? };
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | resolve;
    match rustix::fs::openat2(dir, &path, flags, Mode::empty(), beneath) {
        // Before Linux 5.6, and where a filter of system calls does not know it: no links then.
        Err(Errno::NOSYS | Errno::PERM) => {
            Ok(rustix::fs::openat(dir, &path, flags | OFlags::NOFOLLOW, Mode::empty())?)
        }
        other => Ok(other?),
    }
}

/// Makes the directories of a path, entering no link. Returns the last one, and the name in it.
fn make_parents<'a>(root: &OwnedFd, path: &'a [u8]) -> io::Result<(OwnedFd, &'a [u8])> {
    let mut dir = root.as_fd().try_clone_to_owned()?;
    let mut parts = path.split(|byte| *byte == b'/').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return Ok((dir, part));
        }
        let name = c_string(part)?;
        match rustix::fs::mkdirat(&dir, &name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        dir = rustix::fs::openat(&dir, &name, flags, Mode::empty())?;
    }
    Err(io::ErrorKind::InvalidInput.into())
}

fn c_string(bytes: &[u8]) -> io::Result<CString> {
    Ok(CString::new(bytes)?)
}

fn shown(path: &[u8]) -> String {
    if path.is_empty() {
        "the working directory".to_owned()
    } else {
        OsStr::from_bytes(path).display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    struct Trees {
        _dir: tempfile::TempDir,
        from: std::path::PathBuf,
        to: std::path::PathBuf,
    }

    fn trees() -> Trees {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("from/artifacts"));
        fs::create_dir_all(from.join("out/deep")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        fs::write(from.join("out/a.xml"), "a").unwrap();
        fs::write(from.join("out/deep/b.xml"), "bb").unwrap();
        fs::write(from.join("out/c.txt"), "c").unwrap();
        Trees { _dir: dir, from, to }
    }

    fn globs(patterns: &[&str]) -> GlobSet {
        GlobSet::new(patterns).unwrap()
    }

    #[test]
    fn chosen_files_keep_their_paths_contents_and_exec_bits() {
        use std::os::unix::fs::PermissionsExt;
        let trees = trees();
        fs::set_permissions(trees.from.join("out/a.xml"), fs::Permissions::from_mode(0o775)).unwrap();
        let found =
            collect(&trees.from, &globs(&["out/**/*.xml", "nothing/**"]), &trees.to, InPlace::Replaced);
        assert_eq!(found, Collected { files: 2, bytes: 3, ..Collected::default() });
        assert_eq!(fs::read(trees.to.join("out/deep/b.xml")).unwrap(), b"bb");
        assert_eq!(fs::metadata(trees.to.join("out/a.xml")).unwrap().permissions().mode() & 0o777, 0o755);
        assert!(!trees.to.join("out/c.txt").exists());
        // The directory of artifacts lies below here, and is not collected again.
        assert_eq!(collect(&trees.from, &globs(&["**"]), &trees.to, InPlace::Replaced).files, 3);
    }

    #[test]
    fn links_lead_to_files_of_the_tree_and_nowhere_else() {
        let trees = trees();
        symlink("../../secret", trees.from.join("out/up.xml")).unwrap();
        symlink("/etc/passwd", trees.from.join("out/away.xml")).unwrap();
        symlink("nothing", trees.from.join("out/dangling.xml")).unwrap();
        symlink("/etc", trees.from.join("etc")).unwrap();
        symlink("c.txt", trees.from.join("out/inside.xml")).unwrap();
        let found =
            collect(&trees.from, &globs(&["**/*.xml", "etc", "etc/**"]), &trees.to, InPlace::Replaced);
        assert_eq!((found.files, found.warnings.len()), (3, 4), "{found:?}");
        assert_eq!(fs::read(trees.to.join("out/inside.xml")).unwrap(), b"c");
        assert!(fs::symlink_metadata(trees.to.join("out/inside.xml")).unwrap().is_file());
        for name in ["out/up.xml", "out/away.xml", "out/dangling.xml", "etc"] {
            assert!(fs::symlink_metadata(trees.to.join(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn links_that_wait_among_the_artifacts_are_not_written_through() {
        let trees = trees();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("victim"), "untouched").unwrap();
        symlink(outside.path(), trees.to.join("out")).unwrap();
        symlink(outside.path().join("victim"), trees.to.join("c.txt")).unwrap();
        fs::write(trees.from.join("c.txt"), "new").unwrap();
        let found = collect(&trees.from, &globs(&["out/*", "c.txt"]), &trees.to, InPlace::Replaced);
        assert_eq!(found.files, 1, "{found:?}");
        assert_eq!(fs::read(outside.path().join("victim")).unwrap(), b"untouched");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
        assert!(fs::symlink_metadata(trees.to.join("c.txt")).unwrap().is_file());
    }

    #[test]
    fn what_is_no_file_is_named_and_left_out() {
        let trees = trees();
        jericho_host::sys::make_fifo(&trees.from.join("pipe")).unwrap();
        let found = collect(&trees.from, &globs(&["pipe", "out/c.txt"]), &trees.to, InPlace::Replaced);
        assert_eq!((found.files, found.warnings), (1, vec!["pipe: is no file".to_owned()]));
    }

    #[test]
    fn more_than_the_limits_ends_the_collection_with_a_warning() {
        for (most_files, most_bytes, taken) in [(1, 100, 1), (100, 2, 1)] {
            let trees = trees();
            let mut collector = Collector {
                found: Collected::default(),
                in_place: InPlace::Kept,
                more_warnings: 0,
                most_files,
                most_bytes,
            };
            let error = collector.run(&trees.from, &globs(&["out/*", "out/deep/*"]), &trees.to);
            assert!(error.is_err() || collector.found.files == 2, "{most_files} {most_bytes}");
            assert!(collector.found.files >= taken && collector.found.bytes <= most_bytes);
        }
    }
}
