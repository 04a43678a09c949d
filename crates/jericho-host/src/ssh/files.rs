//! Steps on the files of the other end: one command each, errors told as those of system calls.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use super::SshHost;
use super::command::{exchange, plain};
use super::exchange::{Order, Sink};
use super::wire::Script;
use crate::cancel::CancelToken;
use crate::host::{Entry, EntryKind, HostError, Published};
use crate::quote::NulInArgument;

/// What programs and shells say in the C locale, and what the system call had said to them.
const ERRORS: [(&str, i32); 21] = [
    ("No such file or directory", libc::ENOENT),
    ("No such file", libc::ENOENT),
    ("Directory nonexistent", libc::ENOENT),
    ("nonexistent directory", libc::ENOENT),
    ("Permission denied", libc::EACCES),
    ("Operation not permitted", libc::EPERM),
    ("File exists", libc::EEXIST),
    ("cannot overwrite existing file", libc::EEXIST),
    ("Not a directory", libc::ENOTDIR),
    ("Is a directory", libc::EISDIR),
    ("Directory not empty", libc::ENOTEMPTY),
    ("No space left on device", libc::ENOSPC),
    ("Disk quota exceeded", libc::EDQUOT),
    ("Read-only file system", libc::EROFS),
    ("Device or resource busy", libc::EBUSY),
    ("Too many levels of symbolic links", libc::ELOOP),
    ("File name too long", libc::ENAMETOOLONG),
    ("Input/output error", libc::EIO),
    ("Invalid argument", libc::EINVAL),
    ("Invalid cross-device link", libc::EXDEV),
    ("Too many open files", libc::EMFILE),
];

/// The error that a message of a program stands for.
pub(super) fn said(message: &str) -> io::Error {
    // The reason stands at the end of a line; a path before it may hold anything.
    let line = message.lines().map(str::trim_end).rfind(|line| !line.is_empty()).unwrap_or("no reason given");
    let known = ERRORS.iter().find(|(text, _)| line.ends_with(text));
    match known {
        Some((_, code)) => io::Error::from_raw_os_error(*code),
        None => io::Error::other(line.to_owned()),
    }
}

#[derive(Default)]
struct Taken {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Sink for Taken {
    fn stdout(&mut self, bytes: &[u8]) -> Result<(), HostError> {
        self.stdout.extend_from_slice(bytes);
        Ok(())
    }

    fn stderr(&mut self, bytes: &[u8]) -> Result<(), HostError> {
        self.stderr.extend_from_slice(bytes);
        Ok(())
    }
}

/// One function of `remote/files.sh`.
struct Step<'a> {
    action: &'static str,
    path: &'a Path,
    words: Vec<OsString>,
    input: &'a [u8],
}

impl<'a> Step<'a> {
    fn new(
        action: &'static str,
        path: &'a Path,
        function: &str,
        words: impl IntoIterator<Item = OsString>,
    ) -> Self {
        let words = std::iter::once(function.into()).chain(words).collect();
        Self { action, path, words, input: &[] }
    }

    fn error(&self, source: io::Error) -> HostError {
        HostError::File { action: self.action, path: self.path.to_path_buf(), source }
    }

    /// Returns its exit code, and what it has printed.
    fn carry_out(&self, host: &SshHost) -> Result<(i32, Vec<u8>), HostError> {
        let write = |mark: &str| {
            let written = (|| {
                let mut script = Script::files(mark);
                script.set("j_bytes", self.input.len().to_string())?;
                script.call("j_files", &self.words)?;
                Ok::<_, NulInArgument>(script)
            })();
            written
                .map_err(|error| self.error(io::Error::new(io::ErrorKind::InvalidInput, error.to_string())))
        };
        write("")?;
        let order = Order { input: Vec::new(), grace: Duration::ZERO, time_limit: None, hears_words: false };
        let never = CancelToken::new().map_err(|e| HostError::System("cannot make a token", e))?;
        let mut taken = Taken::default();
        let answer = exchange(host, &write, self.input, order, &mut taken, &never)?;
        let report = String::from_utf8_lossy(&answer.report).into_owned();
        let status = report.lines().next().and_then(|line| line.strip_prefix("x ")?.parse().ok());
        match status {
            Some(status @ (0 | 3)) => Ok((status, taken.stdout)),
            _ => Err(self.error(said(&String::from_utf8_lossy(&taken.stderr)))),
        }
    }
}

fn word(path: &Path) -> OsString {
    plain(path).into_os_string()
}

pub(super) fn read(host: &SshHost, path: &Path) -> Result<Vec<u8>, HostError> {
    Ok(Step::new("read", path, "j_read", [word(path)]).carry_out(host)?.1)
}

pub(super) fn read_range(host: &SshHost, path: &Path, offset: u64, limit: u64) -> Result<Vec<u8>, HostError> {
    let first = offset.saturating_add(1).min(i64::MAX.unsigned_abs());
    let limit = limit.min(i64::MAX.unsigned_abs());
    let words = [word(path), first.to_string().into(), limit.to_string().into()];
    Ok(Step::new("read", path, "j_read_range", words).carry_out(host)?.1)
}

pub(super) fn write_atomic(
    host: &SshHost,
    path: &Path,
    content: &[u8],
    durable: bool,
) -> Result<(), HostError> {
    let Some(name) = path.file_name() else {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name");
        return Err(HostError::File { action: "write", path: path.to_path_buf(), source });
    };
    // The name may be as long as names can be.
    let stem: String = name.to_string_lossy().chars().take(40).collect();
    let full = plain(path);
    let dir = full.parent().unwrap_or(Path::new("."));
    let temporary = dir.join(format!(".{stem}.{}.tmp", host.ids.fresh()));
    let sync = if durable { "sync" } else { "" };
    let words = [full.clone().into_os_string(), dir.into(), temporary.into(), sync.into()];
    let mut step = Step::new("write", path, "j_write", words);
    step.input = content;
    step.carry_out(host).map(drop)
}

pub(super) fn publish_dir(host: &SshHost, staged: &Path, target: &Path) -> Result<Published, HostError> {
    let (status, _) =
        Step::new("publish", target, "j_publish", [word(staged), word(target)]).carry_out(host)?;
    Ok(if status == 3 { Published::AlreadyThere } else { Published::Renamed })
}

pub(super) fn remove(host: &SshHost, path: &Path) -> Result<(), HostError> {
    Step::new("remove", path, "j_remove", [word(path)]).carry_out(host).map(drop)
}

pub(super) fn make_dirs(host: &SshHost, dir: &Path) -> Result<(), HostError> {
    Step::new("make", dir, "j_make_dirs", [word(dir)]).carry_out(host).map(drop)
}

pub(super) fn list(host: &SshHost, dir: &Path) -> Result<Vec<Entry>, HostError> {
    let step = Step::new("list", dir, "j_list", [word(dir)]);
    let (_, printed) = step.carry_out(host)?;
    let unreadable = || step.error(io::Error::other("the host lists it in an unknown form"));
    let mut entries = Vec::new();
    for line in printed.split(|byte| *byte == 0).filter(|line| !line.is_empty()) {
        let kind = match line[0] {
            b'f' => EntryKind::File,
            b'd' => EntryKind::Directory,
            b'l' => EntryKind::Link,
            b'o' => EntryKind::Other,
            _ => return Err(unreadable()),
        };
        entries.push(Entry { name: OsStr::from_bytes(&line[1..]).to_os_string(), kind });
    }
    entries.sort();
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_say_becomes_what_the_system_call_had_said() {
        for (message, kind) in [
            ("cat: /x: No such file or directory\n", io::ErrorKind::NotFound),
            ("/bin/sh: 1: cannot create /x/y: Directory nonexistent", io::ErrorKind::NotFound),
            ("rm: cannot remove '/x': Permission denied\n", io::ErrorKind::PermissionDenied),
            ("head: error writing 'standard output': No space left on device\n", io::ErrorKind::StorageFull),
            ("/No such file or directory: Is a directory\n", io::ErrorKind::IsADirectory),
            ("something else\n", io::ErrorKind::Other),
        ] {
            assert_eq!(said(message).kind(), kind, "{message}");
        }
    }
}
