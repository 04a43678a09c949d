//! Which process is it, also after its number was given to another one.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use crate::process::Stat;

/// One process of one boot of one machine. Its number alone is reused; these three are not.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Process id, as the process itself sees it.
    pub pid: u32,
    /// The kernel's random id of this boot.
    pub boot_id: String,
    /// Start of the process in clock ticks since boot.
    pub start_time_ticks: u64,
}

/// The identity of this process.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn own_identity() -> io::Result<ProcessIdentity> {
    let pid = std::process::id();
    let stat = Stat::of(pid)?;
    Ok(ProcessIdentity { pid, boot_id: boot_id()?, start_time_ticks: stat.start })
}

/// The nearest process above this one whose name begins with one of these; nothing when there is none, or
/// the processes on the way are hidden.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn ancestor(names: &[&str]) -> io::Result<Option<ProcessIdentity>> {
    let boot_id = boot_id()?;
    let mut pid = Stat::of(std::process::id())?.parent;
    while pid > 1 {
        let Ok(stat) = Stat::of(pid) else { return Ok(None) };
        if names.iter().any(|name| stat.name.starts_with(name)) {
            return Ok(Some(ProcessIdentity { pid, boot_id, start_time_ticks: stat.start }));
        }
        pid = stat.parent;
    }
    Ok(None)
}

/// Whether that very process still runs on this machine. A zombie does not.
///
/// # Errors
/// When `/proc` cannot be read. That the process is gone is no error.
pub fn is_alive(identity: &ProcessIdentity) -> io::Result<bool> {
    if identity.boot_id != boot_id()? {
        return Ok(false);
    }
    match Stat::of(identity.pid) {
        Ok(stat) => Ok(stat.start == identity.start_time_ticks && !stat.is_dead()),
        Err(error) if crate::process::is_gone(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ancestor_is_found_by_its_name_and_is_not_this_process() {
        let parent = Stat::of(Stat::of(std::process::id()).unwrap().parent).unwrap();
        let found = ancestor(&["no such name", &parent.name]).unwrap();
        // Where pid 1 itself has started this, there is nobody to be found.
        assert_eq!(found.map(|found| found.pid), (parent.pid > 1).then_some(parent.pid));
        assert_eq!(ancestor(&["no such name"]).unwrap(), None);
    }

    #[test]
    fn this_process_is_alive_and_a_namesake_is_not() {
        let own = own_identity().unwrap();
        assert!(is_alive(&own).unwrap());
        let later = ProcessIdentity { start_time_ticks: own.start_time_ticks + 1, ..own.clone() };
        assert!(!is_alive(&later).unwrap());
        let elsewhere = ProcessIdentity { boot_id: "another boot".into(), ..own.clone() };
        assert!(!is_alive(&elsewhere).unwrap());
        assert!(!is_alive(&ProcessIdentity { pid: u32::MAX / 2, ..own }).unwrap());
    }
}
