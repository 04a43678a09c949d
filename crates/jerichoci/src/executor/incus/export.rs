//! All files of a directory of a guest at once, as its runner tells them (`jerichoci-incus-run export`).
//!
//! What a guest says may be meant to mislead: paths are plain and lie below the directory that is given, nothing that
//! is there is replaced, and more than the limits is never kept.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pika_cloud::ops::{CollectLimits, Incus, InstanceRef, OpsError};
use rustix::fs::{Mode, OFlags};

use crate::beneath;

/// How long the runner may take to print everything.
const LIMIT: Duration = Duration::from_secs(1800);
/// Longest path, warning and first line of a frame.
const LONGEST: u64 = 64 << 10;

/// Why the files are not there.
#[derive(Debug)]
pub(super) enum ExportError {
    /// Incus, or the guest.
    Ops(OpsError),
    /// It is no whole export, or cannot be written down: another way says why, if there is a reason left.
    Unusable,
}

impl From<io::Error> for ExportError {
    fn from(_error: io::Error) -> Self {
        Self::Unusable
    }
}

/// Files below `files/` of `staged` with their sizes, and what was left out.
type Fetched = (Vec<(PathBuf, u64)>, Vec<String>);

/// Fetches what lies below `dir` of a guest.
pub(super) fn fetch(
    incus: &Incus,
    instance: &InstanceRef,
    runner: &str,
    dir: &str,
    staged: &Path,
    limits: CollectLimits,
) -> Result<Fetched, ExportError> {
    let spool = staged.join("export");
    let mut written = File::create(&spool)?;
    // Heads, paths and warnings beside the files themselves.
    let most = limits.bytes.saturating_add((limits.files as u64 + 1000).saturating_mul(2 * LONGEST));
    let mut taken = 0;
    let (files, bytes) = (limits.files.to_string(), limits.bytes.to_string());
    let command = [runner, "export", "--files", &files, "--bytes", &bytes, dir];
    let code = incus
        .output(instance, &command, LIMIT, &mut |piece| {
            taken += piece.len() as u64;
            if taken > most {
                return Err(io::Error::other("it is more than was asked for"));
            }
            written.write_all(piece)
        })
        .map_err(ExportError::Ops)?;
    if code != Some(0) {
        return Err(ExportError::Unusable);
    }
    let fetched = unpack(&spool, &staged.join("files"), limits);
    fs::remove_file(&spool)?;
    if fetched.is_err() {
        // A part of it would be taken for the whole, or be in the way of another try.
        jericho_host::fs::remove_tree(&staged.join("files"))?;
    }
    Ok(fetched?)
}

/// Takes an export apart.
fn unpack(spool: &Path, into: &Path, limits: CollectLimits) -> io::Result<Fetched> {
    let odd = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    fs::create_dir_all(into)?;
    let mut reader = BufReader::with_capacity(256 << 10, File::open(spool)?);
    let (mut files, mut warnings, mut sums) = (Vec::new(), Vec::new(), (0u64, 0u64));
    loop {
        let mut line = Vec::new();
        reader.by_ref().take(LONGEST).read_until(b'\n', &mut line)?;
        let line = line.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok());
        let mut words = line.ok_or_else(|| odd("no frame"))?.split(' ');
        let kind = words.next().unwrap_or_default().to_owned();
        let numbers: Vec<u64> =
            words.map(|word| word.parse().map_err(|_| odd("no number"))).collect::<io::Result<_>>()?;
        match (kind.as_str(), numbers.as_slice()) {
            ("file", &[mode, path, bytes]) if path <= bytes && path <= LONGEST => {
                let mut name = vec![0; usize::try_from(path).unwrap_or_default()];
                reader.read_exact(&mut name)?;
                let (name, size) = (PathBuf::from(OsStr::from_bytes(&name)), bytes - path);
                sums = (sums.0 + 1, sums.1.saturating_add(size));
                if files.len() >= limits.files || sums.1 > limits.bytes {
                    return Err(odd("more than was asked for"));
                }
                let mut file = create(into, &name, mode)?;
                if io::copy(&mut reader.by_ref().take(size), &mut file)? != size {
                    return Err(odd("it ends in a file"));
                }
                files.push((Path::new("files").join(name), size));
            }
            ("warning", &[bytes]) if bytes <= LONGEST => {
                let mut text = vec![0; usize::try_from(bytes).unwrap_or_default()];
                reader.read_exact(&mut text)?;
                warnings.push(String::from_utf8_lossy(&text).into_owned());
            }
            ("end", &[files_told, bytes_told, 0]) if (files_told, bytes_told) == sums => {
                return Ok((files, warnings));
            }
            _ => return Err(odd("no frame")),
        }
    }
}

/// A new file below `dir`. Nothing that is there is replaced or written through.
fn create(dir: &Path, path: &Path, mode: u64) -> io::Result<File> {
    let (parent, name) = beneath::split(path)?;
    let parent = beneath::walk(dir, parent, true)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(u32::try_from(mode & 0o777).unwrap_or(0) | 0o600);
    Ok(File::from(rustix::fs::openat(&parent, name, flags, mode)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(spool: &[u8], limits: CollectLimits) -> (io::Result<Fetched>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("spool"), spool).unwrap();
        (unpack(&dir.path().join("spool"), &dir.path().join("files"), limits), dir)
    }

    #[test]
    fn an_export_becomes_its_files() {
        let (fetched, dir) = of(
            b"file 493 3 5\na/bxyfile 420 1 1\ncwarning 3\nodd\nend 2 2 0\n".as_slice(),
            CollectLimits::default(),
        );
        // The newline after a warning is none of its bytes.
        assert!(fetched.is_err());
        drop(dir);
        let (fetched, dir) =
            of(b"file 493 3 5\na/bxyfile 420 1 1\ncwarning 3\noddend 2 2 0\n", CollectLimits::default());
        let (files, warnings) = fetched.unwrap();
        assert_eq!(files, [(PathBuf::from("files/a/b"), 2), (PathBuf::from("files/c"), 0)]);
        assert_eq!(warnings, ["odd"]);
        assert_eq!(fs::read(dir.path().join("files/a/b")).unwrap(), b"xy");
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(dir.path().join("files/a/b")).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn what_is_no_whole_export_or_leads_elsewhere_is_refused() {
        let small = CollectLimits { files: 1, bytes: 1 };
        for (spool, limits) in [
            (&b""[..], CollectLimits::default()),
            (b"end 1 0 0\n", CollectLimits::default()),
            (b"file 420 1 9\naxx", CollectLimits::default()),
            (b"file 420 1 2\nax", CollectLimits::default()),
            (b"file 420 4 4\n../aend 1 0 0\n", CollectLimits::default()),
            (b"file 420 2 2\n/aend 1 0 0\n", CollectLimits::default()),
            (b"file 420 1 1\nafile 420 1 1\naend 2 0 0\n", CollectLimits::default()),
            (b"file 420 1 3\naxxend 1 2 0\n", small),
            (b"file 420 1 1\nafile 420 1 1\nbend 2 0 0\n", small),
            (b"file 420 18446744073709551615 18446744073709551615\n", CollectLimits::default()),
        ] {
            let (fetched, _dir) = of(spool, limits);
            assert!(fetched.is_err(), "{}", String::from_utf8_lossy(spool));
        }
    }
}
