//! The source tree of a run on a host.

use std::path::PathBuf;

use jericho_host::{Command, Environment, LocalHost};

use super::{Failure, JobContext, Run};
use crate::causes::with_causes;

const UNPACK: &str = include_str!("unpack.sh");

/// Makes sure that the tree of this run is there, and returns its path.
pub(super) fn tree(run: &Run<'_>, job: &mut JobContext<'_>) -> Result<PathBuf, Failure> {
    let hash = job.source.content_hash().to_owned();
    let tree = run.ready.work_dir.join("snapshots").join(&hash).join("snapshot");
    let local = job.source.shared_tree(job.cancel).map_err(|error| Failure::Errored(with_causes(&error)))?;
    let mut conversation = run
        .host
        .ssh()
        .converse(
            &Command::new("sh").args(["-c", UNPACK, "sh"]).arg(&tree).arg(job.tag.replace('/', "-")),
            job.cancel,
        )
        .map_err(|error| Failure::from(run.host.error(error)))?;
    let env: Environment = [("PATH", "/usr/bin:/bin")].into_iter().collect();
    let pack = Command::new("tar").args(["-c", "-f", "-", "-C"]).arg(&local).arg(".").env(env);
    LocalHost::new()
        .stream(&pack, job.cancel, &mut |piece| drop(conversation.send(piece)))
        .map_err(|error| Failure::Errored(with_causes(&error)))?;
    let output = conversation.finish().map_err(|error| Failure::from(run.host.error(error)))?;
    if output.exit.success() {
        return Ok(tree);
    }
    Err(Failure::Errored(format!("cannot unpack: {}", String::from_utf8_lossy(&output.stderr))))
}
