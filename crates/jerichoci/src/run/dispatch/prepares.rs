//! What prepare nodes do to the state of a run: their events, their records, and the jobs that
//! never start because one of them failed.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Dispatcher;
use crate::model::event::RunLifecycleEvent;
use crate::model::job::JobSpec;
use crate::model::outcome::{FailureKind, Verdict};
use crate::model::record::{PrepareRecord, PrepareTimingRecord};
use crate::run::layout::JobLayout;
use crate::run::logs::append_engine_line;
use crate::run::outputs::choose::Chosen;
use crate::run::plan::{NodeIndex, PlanNode, RunPlan};
use crate::run::prepare::PrepareEnd;

/// More of the log of a prepare node is not shown as the log of a job.
const SHOWN_BYTES: u64 = 64 << 10;

/// Where the prepare nodes of a run stand.
#[derive(Default)]
pub(super) struct Prepares {
    starts: HashMap<NodeIndex, (DateTime<Utc>, Duration)>,
    /// With how long each took, in milliseconds.
    pub(super) ends: HashMap<NodeIndex, (PrepareEnd, u64)>,
}

impl Prepares {
    /// Those of these nodes that are prepare nodes.
    pub(super) fn of(&self, nodes: &[NodeIndex]) -> Vec<(&PrepareEnd, u64)> {
        nodes.iter().filter_map(|node| self.ends.get(node)).map(|(end, ms)| (end, *ms)).collect()
    }
}

/// Makes the end of the log of a prepare node the log of a job.
fn show_log(log: &Path, job: &JobLayout, (node, message): (&str, &str)) -> io::Result<()> {
    let mut end = Vec::new();
    match File::open(log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => {
            let mut log = opened?;
            let skipped = log.metadata()?.len().saturating_sub(SHOWN_BYTES);
            log.seek(SeekFrom::Start(skipped))?;
            log.read_to_end(&mut end)?;
        }
    }
    fs::create_dir_all(job.dir())?;
    fs::write(job.host_log(), end)?;
    // A log says itself why its node failed.
    let line = if log.exists() { format!("not run: {node} failed") } else { message.to_owned() };
    append_engine_line(&job.host_log(), &line)
}

/// Whether a job waits for this prepare node itself, not for another job that does.
pub(super) fn is_own(plan: &RunPlan, job: NodeIndex, need: NodeIndex) -> bool {
    plan.node(need).is_prepare() && plan.node(job).depends_on.contains(&need)
}

impl Dispatcher<'_> {
    pub(super) fn start_prepare(&mut self, node: &PlanNode, index: NodeIndex, prepares: &mut Prepares) {
        let clock = &self.around.tools.clock;
        prepares.starts.insert(index, (clock.now(), clock.monotonic()));
        let (run_id, node_id) = (self.record.run_id.clone(), node.id.clone());
        self.emit(RunLifecycleEvent::PrepareStarted { run_id, node_id });
    }

    pub(super) fn end_prepare(
        &mut self,
        node: &PlanNode,
        index: NodeIndex,
        end: PrepareEnd,
        prepares: &mut Prepares,
    ) {
        let clock = &self.around.tools.clock;
        let now = (clock.now(), clock.monotonic());
        let start = prepares.starts.get(&index).copied().unwrap_or(now);
        let duration_ms = crate::executor::millis(now.1.saturating_sub(start.1));
        let node_id = node.id.clone();
        if let Some(output) = end.output.clone() {
            self.outputs.put(output);
            let stored = self.store.write_prepared_outputs(&self.outputs);
            self.note_problem(stored);
        }
        let log = self.layout().prepare_log(&node_id);
        let log_path = log.strip_prefix(self.layout().dir()).unwrap_or(&log).to_string_lossy().into_owned();
        let record = PrepareRecord {
            node_id: node_id.clone(),
            verdict: end.verdict,
            message: Some(end.message.clone()).filter(|message| !message.is_empty()),
            log_path: end.has_log.then_some(log_path),
        };
        let timing = PrepareTimingRecord {
            node_id: node_id.clone(),
            started_at: start.0,
            finished_at: now.0,
            duration_ms,
        };
        self.update(|run| {
            run.prepares.push(record);
            run.prepare_timings.push(timing);
        });
        for warning in &end.warnings {
            self.warn(format!("{node_id}: {warning}"));
        }
        let (run_id, verdict) = (self.record.run_id.clone(), end.verdict);
        self.emit(RunLifecycleEvent::PrepareFinished { run_id, node_id, verdict, duration_ms });
        prepares.ends.insert(index, (end, duration_ms));
    }

    /// Says that prepared outputs are recorded, and that there are none yet.
    pub(crate) fn begin_outputs(&mut self, chosen: &Chosen) {
        let path = self.layout().prepared_outputs();
        let stored = self.store.write_prepared_outputs(&self.outputs);
        self.note_problem(stored);
        self.update(|record| {
            chosen.mode.write_to(record);
            // The configuration says less of them.
            let is_chosen = |name: &str| chosen.settings.iter().any(|setting| setting.name == name);
            record.settings.retain(|setting| !is_chosen(&setting.name));
            record.settings.extend(chosen.settings.iter().cloned());
            record.prepared_outputs_path = Some(path.to_string_lossy().into_owned());
        });
    }

    /// A job that never started because something that was made for it failed. It has no events
    /// of its own either.
    pub(super) fn fail_unprepared(
        &mut self,
        job: &JobSpec,
        layout: &JobLayout,
        node: &str,
        end: Option<&PrepareEnd>,
    ) {
        let mut record = self.job_record(job, layout);
        let why = end.map_or("it has no end", |end| end.message.as_str());
        record.verdict = end.map_or(Verdict::Failed(FailureKind::Infrastructure), |end| end.verdict);
        record.finished_at = Some(record.started_at);
        let message = format!("not run: {node} failed: {why}");
        // Who asks for the log of the job means what kept it from running.
        if let Err(error) = show_log(&self.layout().prepare_log(node), layout, (node, &message)) {
            self.warn(format!("{}: {error}", layout.host_log().display()));
        }
        record.message = Some(message);
        self.update(|run| run.jobs.push(record));
    }
}
