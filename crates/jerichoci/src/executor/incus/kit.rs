//! The runner as guests of this machine are given it: a directory that holds it and nothing else.
//!
//! It is copied below the state root (`cache/guest-runner/<32 hex>/jerichoci-incus-run`), because a project may
//! restrict what of the machine its guests see. A directory never changes once it has its name, which depends on
//! which file the runner is.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use jericho_host::fs::{create_temporary_dir, publish_dir, remove_tree};
use sha2::{Digest, Sha256};

/// Where a guest sees the directory of the runner.
pub(super) const IN_GUEST: &str = "/opt/jericho";
/// Where an image has a runner of its own.
pub(super) const OF_IMAGE: &str = "/run/current-system/sw/bin";
/// The runner, wherever it lies.
pub(super) const RUNNER: &str = "jerichoci-incus-run";

/// The first runner for guests of this architecture.
pub(super) fn find_runner(dirs: &[PathBuf], arch: &str) -> Option<PathBuf> {
    dirs.iter().map(|dir| dir.join(arch).join(RUNNER)).find(|path| path.is_file())
}

/// Puts the runner below `kits` when it is not there, and returns its directory.
///
/// # Errors
/// What the file system says.
pub(super) fn deliver(kits: &Path, runner: &Path) -> io::Result<PathBuf> {
    let dir = kits.join(name(runner, &fs::metadata(runner)?));
    if dir.is_dir() {
        return Ok(dir);
    }
    fs::create_dir_all(kits)?;
    let staged = create_temporary_dir(kits, "runner")?;
    let filled = fill(&staged, runner).and_then(|()| publish_dir(&staged, &dir).map(drop));
    if filled.is_err() {
        // The error that came first says more.
        let _ = remove_tree(&staged);
    }
    filled.map(|()| dir)
}

fn fill(staged: &Path, runner: &Path) -> io::Result<()> {
    let program = staged.join(RUNNER);
    fs::copy(runner, &program)?;
    // In a guest only the bits for others count.
    for path in [program.as_path(), staged] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Of which file it is: reading it would take longer than all else here.
fn name(path: &Path, facts: &Metadata) -> String {
    let mut hash = Sha256::new();
    hash.update(path.as_os_str().as_encoded_bytes());
    let times = [facts.mtime(), facts.mtime_nsec()].map(i64::cast_unsigned);
    for fact in [facts.dev(), facts.ino(), facts.size()].into_iter().chain(times) {
        hash.update(fact.to_le_bytes());
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_that_was_replaced_is_another_one_and_the_old_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (kits, runner) = (dir.path().join("kits"), dir.path().join(RUNNER));
        fs::write(&runner, "one").unwrap();
        let first = deliver(&kits, &runner).unwrap();
        assert_eq!(deliver(&kits, &runner).unwrap(), first);
        let newer = dir.path().join("newer");
        fs::write(&newer, "another").unwrap();
        fs::rename(&newer, &runner).unwrap();
        let second = deliver(&kits, &runner).unwrap();
        assert_ne!(first, second);
        assert_eq!(fs::read_to_string(first.join(RUNNER)).unwrap(), "one");
        assert_eq!(fs::read_to_string(second.join(RUNNER)).unwrap(), "another");
        assert_eq!(fs::metadata(second.join(RUNNER)).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(fs::read_dir(&kits).unwrap().count(), 2);
    }
}
