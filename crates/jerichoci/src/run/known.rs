//! What reapers of hosts know of the runs of a state root.

use std::path::{Path, PathBuf};

use jericho_host::CancelToken;

use super::layout::{Layout, RunLayout};
use super::logs;
use super::owner::is_alive;
use super::prepare::roots;
use crate::beneath;
use crate::model::id::RunId;
use crate::remote::reap::{KnowsRuns, Leftovers, Runs};

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

    fn let_go(&self, place: &Leftovers<'_>, cancel: &CancelToken) -> Vec<String> {
        let rooted = roots::rooted_on(place.host, place.runs, place.engine_id, &self.0);
        let problems = rooted.iter().take_while(|_| !cancel.is_cancelled());
        let problems = problems.filter_map(|rooted| rooted.let_go(Some(place.name)).err());
        problems.map(|problem| format!("prepared outputs are not let go of: {problem}")).collect()
    }

    fn note(&self, run_id: &str, job_id: &str, line: &str) {
        let Some(run) = self.run(run_id) else { return };
        if beneath::open_file(run.dir(), &Path::new("jobs").join(job_id).join("host.log")).is_ok() {
            // What has come home is there, noted or not.
            let _ = logs::append_engine_line(&run.job(job_id).host_log(), line);
        }
    }
}
