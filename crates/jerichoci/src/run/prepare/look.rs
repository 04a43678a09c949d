//! The prepared outputs of a job for somebody who looks at it once its run is over: realised once more where they are
//! gone, and kept in the store for as long as they are looked at.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jericho_host::{CancelToken, Host};

use super::site::{Realization, Site};
use crate::causes::with_causes;
use crate::executor::workspace::RunSource;
use crate::executor::{JobLog, PreparedMount, Tools};
use crate::model::job::JobSpec;
use crate::model::staged::StagedLinuxCommandConfig;
use crate::run::outputs::payload::{self, MANIFEST};

/// Who looks, and where.
pub(crate) struct Look<'a> {
    pub(crate) job: &'a JobSpec,
    pub(crate) tools: &'a Tools,
    /// The source of the run.
    pub(crate) source: &'a RunSource,
    /// Of the shell.
    pub(crate) id: &'a str,
    /// Its directory on this machine.
    pub(crate) dir: &'a Path,
    pub(crate) cancel: &'a CancelToken,
}

/// What a guest is to see. Let go of when this is dropped.
pub(crate) struct Outputs {
    pub(crate) mounts: Vec<PreparedMount>,
    host: Arc<dyn Host>,
    /// Where the links lie that keep them.
    dir: PathBuf,
}

impl Drop for Outputs {
    fn drop(&mut self) {
        // What is left of it there goes with what shells have left.
        let _ = self.host.remove(&self.dir);
    }
}

impl Look<'_> {
    /// Realises the outputs where the job is.
    ///
    /// # Errors
    /// Why they are not there, in one line.
    pub(crate) fn outputs(
        &self,
        staged: &StagedLinuxCommandConfig,
        log: &mut dyn JobLog,
    ) -> Result<Outputs, String> {
        let mut dir = self.dir.join("roots");
        let roots = |work_dir: Option<&Path>| {
            if let Some(work_dir) = work_dir {
                // A reaper looks at the directories of runs, and there is none.
                dir = work_dir.join("shells").join(self.id);
                return dir.join("roots");
            }
            dir.clone()
        };
        let name = self.job.placement.host();
        let mut tell = |line: &str| drop(log.engine_line(line));
        let site = Site::of(name, self.tools, roots, &mut tell, self.cancel);
        let site = site.map_err(|outcome| outcome.message)?;
        let nix = site.realizer.nix();
        let mut outputs = Outputs { mounts: Vec::new(), host: Arc::clone(&nix.host), dir };
        for wanted in [&staged.deps, &staged.build] {
            let (role, name) = (wanted.role, wanted.output_name.as_str());
            let of = Realization {
                source: self.source,
                tools: self.tools,
                output_name: name,
                node_id: role.name(),
                lease_id: &format!("{}-{}", self.id, role.name()),
                tag: &format!("{}/{}", self.id, role.name()),
            };
            let told = |error: &dyn std::error::Error| format!("`{name}`: {}", with_causes(error));
            let realized = site.realize(&of, log, self.cancel).map_err(|error| told(&error))?;
            let path = &realized.path;
            let manifest = payload::load_manifest(&*nix.host, &nix.env, path, self.cancel);
            let manifest = manifest
                .map_err(|error| told(&error))?
                .ok_or_else(|| format!("`{name}`: {} has no {MANIFEST}", path.display()))?;
            let mounts = payload::mounts(nix, path, &manifest, Some(role), self.cancel);
            outputs.mounts.extend(mounts.map_err(|error| told(&error))?);
        }
        Ok(outputs)
    }
}
