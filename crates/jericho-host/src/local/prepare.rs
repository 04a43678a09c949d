//! A command in the form the kernel takes: C strings, the paths its program may have, its input.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, MemfdFlags, Mode, OFlags, SeekFrom};

use crate::command::{Command, Environment};
use crate::host::HostError;
use crate::sys::spawn::{Image, Leads};

/// Where a name is looked up when the environment has no `PATH`; what execvp(3) does.
pub(crate) const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A command, ready to be started.
pub(crate) struct Prepared {
    pub(super) program: String,
    /// In order; the first that can be executed is taken.
    pub(super) candidates: Vec<CString>,
    pub(super) argv: Vec<CString>,
    pub(super) envp: Vec<CString>,
    pub(super) cwd: Option<CString>,
    pub(crate) stdin: OwnedFd,
}

impl Prepared {
    pub(crate) fn new(command: &Command, env: &Environment) -> Result<Self, HostError> {
        let program = command.program.to_string_lossy().into_owned();
        let start = |source| HostError::Start { program: program.clone(), source };
        if command.program.is_empty() {
            return Err(HostError::NotFound { program });
        }
        let candidates = candidates(&command.program, env).map_err(start)?;
        let argv = std::iter::once(&command.program)
            .chain(&command.args)
            .map(|word| c_string(word.as_bytes()))
            .collect::<io::Result<_>>()
            .map_err(start)?;
        let envp = env
            .iter()
            .map(|(name, value)| c_string(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
            .collect::<io::Result<_>>()
            .map_err(start)?;
        let cwd = command
            .cwd
            .as_ref()
            .map(|dir| c_string(dir.as_os_str().as_bytes()))
            .transpose()
            .map_err(start)?;
        let stdin = input(command.stdin.as_deref())
            .map_err(|error| HostError::System("cannot prepare the standard input of a command", error))?;
        Ok(Self { program, candidates, argv, envp, cwd, stdin })
    }

    /// Starts it in the view that this process has of the file system.
    pub(crate) fn spawn(
        &self,
        leads: Leads,
        stdout: BorrowedFd<'_>,
        stderr: BorrowedFd<'_>,
    ) -> Result<rustix::process::Pid, HostError> {
        use std::os::fd::AsFd as _;
        let image = Image {
            program: self.found(),
            argv: &self.argv,
            envp: &self.envp,
            cwd: self.cwd.as_deref(),
            stdin: self.stdin.as_fd(),
            stdout,
            stderr,
            leads,
        };
        crate::sys::spawn::spawn(&image).map_err(|error| self.not_started(error))
    }

    /// The first candidate that can be executed, else the first that is there: starting it tells
    /// what is wrong with it.
    fn found(&self) -> &CString {
        // Given as a path: relative to the directory of the command, not to ours.
        if let [only] = self.candidates.as_slice() {
            return only;
        }
        let dir = self.cwd.as_ref().map_or(Path::new(""), |cwd| as_path(cwd));
        let may = |path: &CString, access| {
            let path = dir.join(as_path(path));
            rustix::fs::accessat(CWD, &path, access, AtFlags::EACCESS).is_ok() && path.is_file()
        };
        let first = |access| self.candidates.iter().find(|path| may(path, access));
        first(Access::EXEC_OK).or_else(|| first(Access::EXISTS)).unwrap_or(&self.candidates[0])
    }

    /// What an error of exec or chdir means to the caller.
    pub(super) fn not_started(&self, source: io::Error) -> HostError {
        if let Some(cwd) = &self.cwd {
            let cwd = as_path(cwd);
            let entered = rustix::fs::accessat(CWD, cwd, Access::EXEC_OK, AtFlags::EACCESS);
            let entered = entered.map_err(io::Error::from).and_then(|()| {
                let is_dir = std::fs::metadata(cwd)?.is_dir();
                if is_dir { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ENOTDIR)) }
            });
            if let Err(source) = entered {
                return HostError::File { action: "enter", path: cwd.to_path_buf(), source };
            }
        }
        start_error(self.program.clone(), source)
    }
}

/// What an error of exec means when the directory is not to blame.
pub(super) fn start_error(program: String, source: io::Error) -> HostError {
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => HostError::NotFound { program },
        _ => HostError::Start { program, source },
    }
}

pub(super) fn as_path(path: &CString) -> &Path {
    Path::new(OsStr::from_bytes(path.to_bytes()))
}

pub(super) fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "an argument or variable has a NUL byte"))
}

/// Where a program would be started from, looked for as execvp(3) does. `None`: nowhere.
#[must_use]
pub fn find_program(program: impl AsRef<OsStr>, env: &Environment) -> Option<PathBuf> {
    let found = candidates(program.as_ref(), env).ok()?.into_iter().find(|path| {
        let path = as_path(path);
        rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).is_ok() && path.is_file()
    })?;
    Some(as_path(&found).to_path_buf())
}

/// The paths that a program may have: never empty.
fn candidates(program: &OsStr, env: &Environment) -> io::Result<Vec<CString>> {
    if program.as_bytes().contains(&b'/') {
        return Ok(vec![c_string(program.as_bytes())?]);
    }
    let path = env.get("PATH").unwrap_or(OsStr::new(DEFAULT_PATH));
    path.as_bytes()
        .split(|&b| b == b':')
        .map(|dir| if dir.is_empty() { Path::new(".") } else { Path::new(OsStr::from_bytes(dir)) })
        .map(|dir| c_string(dir.join(program).as_os_str().as_bytes()))
        .collect()
}

/// `/dev/null`, or a file in memory: unlike a pipe it needs nobody to feed it.
fn input(bytes: Option<&[u8]>) -> io::Result<OwnedFd> {
    let Some(bytes) = bytes else {
        return Ok(rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
    };
    let mut file = File::from(rustix::fs::memfd_create("stdin", MemfdFlags::CLOEXEC)?);
    io::Write::write_all(&mut file, bytes)?;
    rustix::fs::seek(&file, SeekFrom::Start(0))?;
    Ok(file.into())
}
