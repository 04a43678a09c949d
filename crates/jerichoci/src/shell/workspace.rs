//! A shell in a private copy of the snapshot, for a job that is a process of this machine.

use super::{Opened, Shell, Tell};

pub(super) fn open(shell: &Shell<'_>, _tell: &mut Tell<'_>) -> Opened {
    let id = shell.request.run_id.as_str();
    Err(shell.error(format!(
        "it ran as a process of this machine: `cd \"$(pikaci snapshot {id})\"` has what it saw"
    )))
}
