//! What this machine can do: found out by doing it.

use std::io;
use std::path::Path;

use crate::cancel::CancelToken;
use crate::command::Command;
use crate::host::{Host, HostError, Isolation, Mount, Supervision};
use crate::local::LocalHost;

/// Whether a command can be run in namespaces.
pub(super) fn namespaces(host: &LocalHost) -> bool {
    // Others lack the right to mount; the kernel would only tell the same in more time.
    rustix::process::geteuid().is_root() && succeeds(host, Vec::new(), ":", Path::new("/"))
}

/// Whether an overlay can be mounted whose directories lie below `dir`.
pub(super) fn overlay(host: &LocalHost, dir: &Path) -> bool {
    let Ok(place) = crate::fs::create_temporary_dir(dir, "overlay") else { return false };
    let works = (|| -> io::Result<bool> {
        let [lower, upper, work, target] = ["lower", "upper", "work", "target"].map(|name| place.join(name));
        for dir in [&lower, &upper, &work, &target] {
            std::fs::create_dir(dir)?;
        }
        std::fs::create_dir(lower.join("old"))?;
        let mount =
            Mount::Overlay { lower: lower.clone(), upper: upper.clone(), work, target: target.clone() };
        Ok(succeeds(host, vec![mount], "test -d old && : > new", &target)
            && upper.join("new").exists()
            && !lower.join("new").exists())
    })();
    let removed = crate::fs::remove_tree(&place);
    works.is_ok_and(|works| works) && removed.is_ok()
}

fn succeeds(host: &LocalHost, mounts: Vec<Mount>, script: &str, cwd: &Path) -> bool {
    let attempt = || -> Result<bool, HostError> {
        let token = CancelToken::new().map_err(|error| HostError::System("cannot make a token", error))?;
        let command = Command::new("/bin/sh").args(["-c", script]).cwd(cwd);
        let mut supervision = Supervision::new("JERICHO_PROBE", "namespaces");
        supervision.isolation = Isolation::Namespaces(mounts);
        Ok(host.supervise(&command, &supervision, &mut Vec::new(), &token)?.exit.success())
    };
    attempt().unwrap_or(false)
}
