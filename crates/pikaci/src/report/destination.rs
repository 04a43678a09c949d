//! A file that is to be written at the end, and is looked at before anything begins.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use jericho_host::fs::write_atomic;

use crate::config::look_at;
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::text::shorten;

/// Beginning of the name of a file that is made and removed to see whether one can be made.
const PROBE: &str = ".pikaci-";

/// Where a document goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// A file that is replaced in one step.
    File(PathBuf),
    /// A device or a pipe, which is written to and never replaced.
    Stream(PathBuf),
    /// Standard output.
    Stdout,
}

impl Destination {
    /// Looks whether the path (absolute; as it was typed in `option`) can be written, without
    /// changing what is there.
    pub(crate) fn check(option: &str, path: &Path) -> Result<Self, CliError> {
        let refuse = |error: io::Error, hint: String| {
            let shown = shorten(&path.to_string_lossy());
            CliError::usage(format!("{option} cannot be written to {shown}")).because(error).hint(hint)
        };
        let found = match path.canonicalize() {
            // A link stays one; what it leads to is replaced.
            Ok(target) => {
                let metadata = target.metadata().map_err(|error| refuse(error, look_at(path)))?;
                if metadata.is_dir() {
                    let error = io::Error::other("it is a directory");
                    return Err(refuse(error, format!("{option} FILE, with the name of a file")));
                }
                if !metadata.is_file() {
                    return Ok(Self::Stream(target));
                }
                target
            }
            // Its directory as others name it.
            Err(error) if error.kind() == ErrorKind::NotFound => match (path.parent(), path.file_name()) {
                (Some(parent), Some(name)) => {
                    parent.canonicalize().map_or_else(|_| path.to_path_buf(), |parent| parent.join(name))
                }
                _ => path.to_path_buf(),
            },
            Err(error) => return Err(refuse(error, look_at(path))),
        };
        let (Some(parent), Some(_)) = (found.parent(), found.file_name()) else {
            let error = io::Error::other("it names no file");
            return Err(refuse(error, format!("{option} FILE, with the name of a file")));
        };
        // The only way to know is to do what will be done.
        let probe = parent.join(format!("{PROBE}{}.probe", std::process::id()));
        let tried = OpenOptions::new().write(true).create_new(true).open(&probe);
        match tried.and_then(|_file| std::fs::remove_file(&probe)) {
            Ok(()) => Ok(Self::File(found)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(refuse(error, format!("mkdir -p {}", crate::render::text::typed(parent))))
            }
            Err(error) => Err(refuse(error, look_at(parent))),
        }
    }

    /// Writes the document: a file gets it whole or keeps what it had.
    pub(crate) fn write(&self, document: &[u8]) -> Result<(), CliError> {
        let (path, written) = match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                return out.write_all(document).and_then(|()| out.flush()).map_err(CliError::output);
            }
            Self::File(path) => (path, write_atomic(path, document, false)),
            Self::Stream(path) => (
                path,
                OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(document)),
            ),
        };
        written.map_err(|error| {
            let message = format!("cannot write {}", shorten(&path.to_string_lossy()));
            CliError::new(Exit::Infrastructure, message).because(error).hint(look_at(path))
        })
    }

    /// Whether writing touches this path (absolute, of a resolved directory): the file itself, what it is
    /// written to until it is whole, or what it was tried with.
    pub(crate) fn touches(&self, path: &Path) -> bool {
        let Self::File(file) = self else { return false };
        let (Some(parent), Some(name)) = (file.parent(), file.file_name()) else { return false };
        if path.parent() != Some(parent) {
            return false;
        }
        let Some(found) = path.file_name() else { return false };
        let text = found.to_string_lossy();
        found == name || is_temporary(&text, &name.to_string_lossy()) || text.starts_with(PROBE)
    }

    /// Where it is; nothing for standard output.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) | Self::Stream(path) => Some(path),
            Self::Stdout => None,
        }
    }
}

/// Whether a name is one that [`write_atomic`] gives a file until it is whole.
fn is_temporary(name: &str, of: &str) -> bool {
    let stem: String = of.chars().take(40).collect();
    let rest = name.strip_prefix('.').and_then(|rest| rest.strip_prefix(stem.as_str()));
    rest.is_some_and(|rest| rest.starts_with('.') && rest.ends_with(".tmp"))
}
