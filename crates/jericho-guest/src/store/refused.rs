//! Why something was not done, as it is told to the engine.

use std::io;

use jericho_manifest::at::Failed;
use jericho_manifest::protocol::{Answer, Fault};
use jericho_manifest::shown::shown;
use rustix::io::Errno;

/// A failure of one question.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) fault: Fault,
    pub(super) message: String,
}

impl Refused {
    pub(super) fn new(fault: Fault, message: impl Into<String>) -> Self {
        Self { fault, message: message.into() }
    }

    /// A step that the system refuses.
    pub(super) fn step(action: impl std::fmt::Display, errno: Errno) -> Self {
        Self::io(action, &io::Error::from(errno))
    }

    /// The same.
    pub(super) fn io(action: impl std::fmt::Display, error: &io::Error) -> Self {
        let fault = match error.raw_os_error().map(Errno::from_raw_os_error) {
            // The last is what a limit on the size of files says.
            Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Fault::NoSpace,
            Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => Fault::WorkDir,
            _ => Fault::System,
        };
        Self { fault, message: format!("cannot {action}: {error}") }
    }

    /// A step inside a tree.
    pub(super) fn in_tree(failed: &Failed) -> Self {
        Self::step(format_args!("{} {}", failed.action, shown(&failed.path)), failed.errno)
    }
}

impl From<Refused> for Answer {
    fn from(refused: Refused) -> Self {
        Self::Failed { fault: refused.fault, message: refused.message }
    }
}
