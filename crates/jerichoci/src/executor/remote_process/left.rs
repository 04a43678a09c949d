//! What a job leaves on its host, to be removed once its verdict is told.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jericho_host::{CancelToken, Host as _, HostError};

use crate::causes::with_causes;
use crate::executor::after::{Cleaned, Cleanup};
use crate::executor::host_tree::HostTree;
use crate::limit::Limited;
use crate::remote::{BuildHost, Ready, reap};

/// How long the host may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The directory of a job, and its claim on a source tree.
pub(super) struct Left {
    pub(super) host: Arc<BuildHost>,
    pub(super) ready: Ready,
    pub(super) dir: PathBuf,
    pub(super) tree: HostTree,
    /// Nobody knows what the job does, and that was told.
    pub(super) is_unknown: bool,
}

impl Left {
    /// To be done after the verdict.
    pub(super) fn into_cleanup(self) -> Cleanup {
        Cleanup::new(move |_fate, cancel| self.clean(cancel))
    }

    fn clean(&self, cancel: &CancelToken) -> Cleaned {
        let mut cleaned = Cleaned::default();
        if self.is_unknown && !self.host.ssh().is_connected() {
            return cleaned;
        }
        let Ok(limited) = Limited::within(PATIENCE, cancel) else { return cleaned };
        let command = reap::remove(&self.ready, &self.dir);
        let why = match self.host.ssh().run(&command, limited.token()) {
            Ok(output) if output.exit.success() => {
                // Only now: until the job has ended it stands on the tree. Not told, the host finds out by itself.
                let _ = self.tree.release(limited.token());
                return cleaned;
            }
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "),
            Err(HostError::Cancelled(_)) => "the host did not answer in time".to_owned(),
            Err(error) => with_causes(&error),
        };
        if !self.is_unknown {
            cleaned.warnings.push(format!(
                "{} on {} could not be removed ({why}); the next run that uses the host removes it",
                self.dir.display(),
                self.host.name()
            ));
        }
        cleaned
    }
}
