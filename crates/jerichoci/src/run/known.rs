//! What reapers of hosts know of the runs of a state root.

use std::path::{Path, PathBuf};

use super::layout::{Layout, RunLayout};
use super::logs;
use super::owner::is_alive;
use crate::beneath;
use crate::model::id::RunId;
use crate::remote::reap::{KnowsRuns, Runs};

/// Of the state root with this layout.
pub(crate) fn runs_of(layout: &Layout) -> Runs {
    Runs::new(RunsOf(layout.clone()))
}

struct RunsOf(Layout);

impl RunsOf {
    fn run(&self, run_id: &str) -> Option<RunLayout> {
        run_id.parse::<RunId>().ok().map(|id| self.0.run(&id))
    }
}

impl KnowsRuns for RunsOf {
    fn is_alive(&self, run_id: &str) -> bool {
        self.run(run_id).is_some_and(|run| is_alive(&run))
    }

    fn home(&self, run_id: &str, job_id: &str) -> Option<PathBuf> {
        let run = self.run(run_id)?;
        // A state root may have come with a tree: nothing is written through a link.
        beneath::walk(run.dir(), &Path::new("jobs").join(job_id).join("artifacts"), false).ok()?;
        let artifacts = run.job(job_id).artifacts();
        (!artifacts.join("result.json").exists()).then_some(artifacts)
    }

    fn note(&self, run_id: &str, job_id: &str, line: &str) {
        let Some(run) = self.run(run_id) else { return };
        if beneath::open_file(run.dir(), &Path::new("jobs").join(job_id).join("host.log")).is_ok() {
            // What has come home is there, noted or not.
            let _ = logs::append_engine_line(&run.job(job_id).host_log(), line);
        }
    }
}
