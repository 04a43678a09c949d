//! What a guest is given to begin with: the script that makes it ready, and the runner.
//!
//! | path below `cache/guest-kit/<32 hex>` of the state root | what |
//! |---|---|
//! | `enter` | makes the guest ready and becomes the runner |
//! | `jerichoci-incus-run` | the runner; absent where this machine has none: then the image has to have it |
//!
//! A directory never changes once it has its name, which depends on the script and on the runner.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use jericho_host::fs::{create_temporary_dir, publish_dir, remove_tree};
use sha2::{Digest, Sha256};

/// Where a guest sees the kit.
pub(super) const IN_GUEST: &str = "/opt/jericho";
/// The entry program of a guest.
pub(super) const ENTER: &str = "enter";
/// The runner, wherever it lies.
pub(super) const RUNNER: &str = "jerichoci-incus-run";

pub(super) const SCRIPT: &[u8] = include_bytes!("enter.sh");

/// The first runner for guests of this architecture.
pub(super) fn find_runner(dirs: &[PathBuf], arch: &str) -> Option<PathBuf> {
    dirs.iter().map(|dir| dir.join(arch).join(RUNNER)).find(|path| path.is_file())
}

/// Puts the kit below `kits` when it is not there, and returns its directory.
///
/// # Errors
/// What the file system says.
pub(super) fn deliver(kits: &Path, runner: Option<&Path>) -> io::Result<PathBuf> {
    let facts = runner.map(|runner| Ok::<_, io::Error>((runner, fs::metadata(runner)?))).transpose()?;
    let dir = kits.join(name(facts.as_ref()));
    if dir.is_dir() {
        return Ok(dir);
    }
    fs::create_dir_all(kits)?;
    let staged = create_temporary_dir(kits, "kit")?;
    let filled = fill(&staged, runner).and_then(|()| publish_dir(&staged, &dir).map(drop));
    if filled.is_err() {
        // The error that came first says more.
        let _ = remove_tree(&staged);
    }
    filled.map(|()| dir)
}

fn fill(staged: &Path, runner: Option<&Path>) -> io::Result<()> {
    fs::write(staged.join(ENTER), SCRIPT)?;
    let mut programs = vec![staged.join(ENTER)];
    if let Some(runner) = runner {
        fs::copy(runner, staged.join(RUNNER))?;
        programs.push(staged.join(RUNNER));
    }
    // In a guest only the bits for others count.
    for path in programs.iter().map(PathBuf::as_path).chain([staged]) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Of the script, and of which file the runner is: reading it would take longer than all else here.
fn name(runner: Option<&(&Path, Metadata)>) -> String {
    let mut hash = Sha256::new();
    hash.update(SCRIPT);
    if let Some((path, facts)) = runner {
        let facts = [
            facts.dev(),
            facts.ino(),
            facts.size(),
            facts.mtime_nsec().cast_unsigned(),
            facts.mtime().cast_unsigned(),
        ];
        hash.update(path.as_os_str().as_encoded_bytes());
        for fact in facts {
            hash.update(fact.to_le_bytes());
        }
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
