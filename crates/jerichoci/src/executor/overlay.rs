//! Whether jobs can have an overlay: found by trying, and remembered for as long as it must hold.
//!
//! To try costs two commands in namespaces, several times what a small job itself takes. What is
//! remembered is a text that names everything the answer hangs on: the boot, the namespaces and
//! rights of this process, the file system. Only a yes is remembered, so a machine that learns
//! to do it is noticed by the next run; a yes that turns out wrong is forgotten.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jericho_host::Host;
use jericho_host::fs::write_atomic;

/// Where the answer of one state root is remembered.
#[derive(Debug)]
pub(super) struct Overlays {
    remembered: PathBuf,
}

impl Overlays {
    /// Remembered in this file, whose directory is a cache.
    pub(super) fn new(remembered: PathBuf) -> Self {
        Self { remembered }
    }

    /// Whether an overlay works whose directories lie below `dir`, which exists.
    pub(super) fn work(&self, host: &dyn Host, dir: &Path) -> bool {
        // Not known, for example where there is no /proc: tried every time.
        let given = circumstances(dir).ok();
        if given.is_some() && fs::read(&self.remembered).ok() == given {
            return true;
        }
        let works = host.supports_overlay(dir);
        if let (true, Some(given)) = (works, given) {
            // Not remembered, it only costs time.
            let _ = write_atomic(&self.remembered, &given, false);
        }
        works
    }

    /// To be called when an overlay could not be mounted after all.
    pub(super) fn forget(&self) {
        let _ = fs::remove_file(&self.remembered);
    }
}

/// Everything that the answer hangs on.
fn circumstances(dir: &Path) -> io::Result<Vec<u8>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let rights = status.lines().filter(|line| {
        ["Uid:", "CapEff:", "CapBnd:", "NoNewPrivs:", "Seccomp:"].iter().any(|name| line.starts_with(name))
    });
    let mut given = vec![
        fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim_end().to_owned(),
        format!("device {}", fs::metadata(dir)?.dev()),
    ];
    for namespace in ["/proc/self/ns/mnt", "/proc/self/ns/pid", "/proc/self/ns/user"] {
        given.push(fs::read_link(namespace)?.to_string_lossy().into_owned());
    }
    given.extend(rights.map(str::to_owned));
    Ok(given.join("\n").into_bytes())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use jericho_host::LocalHost;

    #[test]
    fn a_yes_is_remembered_until_it_is_forgotten_or_something_is_different() {
        let dir = tempfile::tempdir().unwrap();
        let overlays = Overlays::new(dir.path().join("overlay"));
        let host = LocalHost::new();
        let answer = overlays.work(&host, dir.path());
        assert_eq!(overlays.remembered.exists(), answer, "only a yes is remembered");

        // Not asked again, also on a machine that would say no.
        fs::write(&overlays.remembered, circumstances(dir.path()).unwrap()).unwrap();
        assert!(overlays.work(&host, dir.path()));
        fs::write(&overlays.remembered, "another boot").unwrap();
        assert_eq!(overlays.work(&host, dir.path()), answer);
        fs::write(&overlays.remembered, circumstances(dir.path()).unwrap()).unwrap();
        overlays.forget();
        assert_eq!(overlays.work(&host, dir.path()), answer);
    }
}
