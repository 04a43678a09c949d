//! Records of a state root that was moved: absolute paths in them are brought to where it is.

use std::path::Path;

use super::layout::Layout;
use crate::model::outputs::PreparedOutputsRecord;
use crate::model::record::RunRecord;

/// From one state root to another.
pub(crate) struct Rebase {
    from: String,
    to: String,
}

impl Rebase {
    /// Finds out from the record's own paths where its state root was; nothing when it is still
    /// there.
    pub(crate) fn of_run(record: &RunRecord, layout: &Layout) -> Option<Self> {
        let jobs = record.jobs.iter().map(|job| &job.host_log_path);
        let paths = [&record.plan_path, &record.prepared_outputs_path].into_iter().flatten();
        Self::find(paths.chain(jobs).chain([&record.snapshot_dir]), &record.run_id, layout)
    }

    /// The same for prepared outputs, which lie in the run directory too.
    pub(crate) fn of_outputs(record: &PreparedOutputsRecord, run_id: &str, layout: &Layout) -> Option<Self> {
        let paths = record.outputs.iter().flat_map(|output| {
            let exposures = output.exposures.iter().chain(&output.requested_exposures);
            exposures.map(|exposure| &exposure.path).chain(&output.consumer_request_path)
        });
        Self::find(paths, run_id, layout)
    }

    fn find<'a>(mut paths: impl Iterator<Item = &'a String>, run_id: &str, layout: &Layout) -> Option<Self> {
        let inside = format!("/runs/{run_id}/");
        let from = paths.find_map(|path| path.find(&inside).map(|end| &path[..end]))?;
        // Not UTF-8: no text could name it, so the old one does no more harm.
        let to = layout.root().to_str()?.trim_end_matches('/');
        (Path::new(from) != Path::new(to)).then(|| Self { from: from.to_owned(), to: to.to_owned() })
    }

    pub(crate) fn run(&self, record: &mut RunRecord) {
        self.path(&mut record.snapshot_dir);
        for path in [&mut record.plan_path, &mut record.prepared_outputs_path].into_iter().flatten() {
            self.path(path);
        }
        for job in &mut record.jobs {
            self.path(&mut job.host_log_path);
            self.path(&mut job.guest_log_path);
        }
    }

    pub(crate) fn outputs(&self, record: &mut PreparedOutputsRecord) {
        for output in &mut record.outputs {
            let paths = [
                &mut output.consumer_request_path,
                &mut output.consumer_result_path,
                &mut output.consumer_launch_request_path,
                &mut output.consumer_transport_request_path,
            ];
            paths.into_iter().flatten().for_each(|path| self.path(path));
            let exposures = output.exposures.iter_mut().chain(&mut output.requested_exposures);
            exposures.for_each(|exposure| self.path(&mut exposure.path));
        }
    }

    /// By whole components: `/s` is not above `/s2`.
    fn path(&self, path: &mut String) {
        if let Some(rest) = path.strip_prefix(&self.from)
            && (rest.is_empty() || rest.starts_with('/'))
        {
            *path = format!("{}{rest}", self.to);
        }
    }
}
