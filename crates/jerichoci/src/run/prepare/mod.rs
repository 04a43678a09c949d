//! Prepare nodes: what jobs need before they start, each on a worker thread of its own.
//!
//! An output is realised on the host of its jobs, has a GC root there for as long as the run
//! lasts, is handed over, and is recorded. What comes out is data: the dispatcher folds it into
//! the records.

mod log;
pub(crate) mod look;
pub(crate) mod roots;
mod site;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jericho_host::CancelToken;

use self::log::PrepareLog;
pub(crate) use self::site::Sites;
use self::site::{Realization, Site};
use super::layout::RunLayout;
use super::outputs::handover::{self, Handover, With};
use super::outputs::payload::{self, MANIFEST};
use super::outputs::realize::{NixOnHost, Realized};
use super::outputs::transport::Route;
use super::outputs::{Mode, OutputsError};
use super::plan::{NodeIndex, NodeWork, PlanNode, RunPlan};
use crate::causes::with_causes;
use crate::executor::incus::check_image;
use crate::executor::workspace::RunSource;
use crate::executor::{JobLog, Prepared, PreparedMount, Tools};
use crate::model::job::{JobPlacement, JobRuntimeKind, JobSpec};
use crate::model::outcome::{FailureKind, JobOutcome, Verdict};
use crate::model::outputs::{PayloadManifestRecord, PreparedOutputRecord};
use crate::model::plan::{PlanNodeRecord, PrepareNode, RunPlanRecord};
use crate::model::staged::StagedLinuxRustPayloadRole;
use jericho_host::secrets::Masker;

/// How a prepare node ended.
#[derive(Debug)]
pub(crate) struct PrepareEnd {
    /// Never [`Verdict::Running`].
    pub(crate) verdict: Verdict,
    /// One line for people; empty when there is nothing to say.
    pub(crate) message: String,
    /// What went wrong without changing the verdict.
    pub(crate) warnings: Vec<String>,
    /// Whether it has a log.
    pub(crate) has_log: bool,
    /// Which output it is.
    pub(crate) role: Option<StagedLinuxRustPayloadRole>,
    /// What was realised, also when it was not handed over.
    pub(crate) output: Option<PreparedOutputRecord>,
    /// What guests are to see of it, or why nobody knows.
    pub(crate) mounts: Result<Vec<PreparedMount>, String>,
    /// Wrappers of jobs that are no programs of it, each with what they are.
    pub(crate) unusable: Vec<(String, String)>,
}

impl PrepareEnd {
    fn new(verdict: Verdict, message: String) -> Self {
        Self {
            verdict,
            message,
            warnings: Vec::new(),
            has_log: false,
            role: None,
            output: None,
            mounts: Ok(Vec::new()),
            unusable: Vec::new(),
        }
    }

    pub(crate) fn errored(message: String) -> Self {
        Self::new(Verdict::Failed(FailureKind::Infrastructure), message)
    }
}

/// What all prepare nodes of a run share.
pub(crate) struct Preparer<'a> {
    pub(crate) tools: &'a Tools,
    pub(crate) run: &'a RunLayout,
    pub(crate) run_id: &'a str,
    pub(crate) plan: &'a RunPlan,
    /// The same, bound to the run.
    pub(crate) bound: &'a RunPlanRecord,
    pub(crate) source: &'a RunSource,
    pub(crate) mode: &'a Mode,
    pub(crate) fresh_id: &'a (dyn Fn() -> String + Sync),
    pub(crate) masker: Option<Arc<Masker>>,
    pub(crate) cancel: &'a CancelToken,
    pub(crate) jobs: &'a [JobSpec],
    pub(crate) sites: Sites,
}

impl Preparer<'_> {
    /// Carries out one node. Says how it ended also when it panics.
    pub(crate) fn prepare(&self, index: NodeIndex) -> PrepareEnd {
        let node = self.plan.node(index);
        let ended = catch_unwind(AssertUnwindSafe(|| match &node.work {
            NodeWork::BuildOutput { role, output_name, placement, .. } => {
                self.output(index, *role, output_name, placement)
            }
            NodeWork::CheckBackend { job_id } => self.backend(job_id),
            NodeWork::Execute(_) => PrepareEnd::new(Verdict::Passed, String::new()),
        }));
        let mut end =
            ended.unwrap_or_else(|_| PrepareEnd::errored("the engine panicked in this node".to_owned()));
        if let Some(masker) = &self.masker {
            end.message = masker.text(&end.message);
            end.warnings.iter_mut().for_each(|warning| *warning = masker.text(warning));
        }
        end
    }

    /// What the prepare nodes that a job waits for have for it.
    pub(crate) fn prepared(&self, job: &JobSpec, needs: &[&PrepareEnd]) -> Result<Prepared, JobOutcome> {
        let mut prepared = Prepared::default();
        let Some(staged) = &job.staged else { return Ok(prepared) };
        let in_guest = job.runtime.kind() != JobRuntimeKind::HostProcess;
        for end in needs {
            match &end.mounts {
                Ok(mounts) => prepared.mounts.extend_from_slice(mounts),
                // A process of the host finds the output by its link.
                Err(problem) if in_guest => return Err(JobOutcome::errored(problem.clone())),
                Err(_) => {}
            }
            if let Some((wrapper, why)) = end.unusable.iter().find(|(name, _)| *name == staged.wrapper) {
                let message = format!("`{}` has no program bin/{wrapper}: {why}", staged.build.output_name);
                return Err(JobOutcome::new(Verdict::Failed(FailureKind::TestFailure), message));
            }
        }
        prepared.build_output = match (in_guest, &job.placement) {
            (true, _) => None,
            (false, JobPlacement::Local) => {
                Some(self.run.job(&job.id).staged_output(StagedLinuxRustPayloadRole::WorkspaceBuild))
            }
            // The links of the job are on this machine.
            (false, JobPlacement::RemoteSsh { .. }) => {
                let build = |end: &&&PrepareEnd| end.role == Some(StagedLinuxRustPayloadRole::WorkspaceBuild);
                let output = needs.iter().find(build).and_then(|end| end.output.as_ref());
                output.map(|output| PathBuf::from(&output.realized_path))
            }
        };
        Ok(prepared)
    }

    /// Lets go of what was realised. To be called when nothing of the jobs is left but guests that are kept.
    pub(crate) fn release(&self) -> Result<(), String> {
        self.sites.release(self.tools, self.run)
    }

    /// Whether a guest can be made for a staged job: news that there is no image must not wait for a
    /// long build. Any other job finds out itself.
    fn backend(&self, job_id: &str) -> PrepareEnd {
        let job = self.jobs.iter().find(|job| job.id == *job_id && job.staged.is_some());
        let checked = job.map_or(Ok(()), |job| check_image(job, self.tools, &mut |_| {}, self.cancel));
        match checked {
            Ok(()) => PrepareEnd::new(Verdict::Passed, String::new()),
            Err(outcome) => PrepareEnd::new(outcome.verdict, outcome.message),
        }
    }

    fn output(
        &self,
        index: NodeIndex,
        role: StagedLinuxRustPayloadRole,
        output_name: &str,
        placement: &JobPlacement,
    ) -> PrepareEnd {
        let node = self.plan.node(index);
        let path = self.run.prepare_log(&node.id);
        let log = PrepareLog::create(&path, self.tools.config.log_cap_bytes, self.masker.as_ref());
        let mut log = match log {
            Ok(log) => log,
            Err(error) => return PrepareEnd::errored(format!("its log cannot be made: {error}")),
        };
        let mut end = self.logged_output(index, node, role, output_name, placement, &mut log);
        end.has_log = true;
        let mut lines = end.warnings.iter().map(|warning| format!("warning: {warning}")).collect::<Vec<_>>();
        lines.extend(Some(end.message.clone()).filter(|message| !message.is_empty()));
        let told = lines.iter().try_for_each(|line| log.engine_line(line)).and_then(|()| log.finish());
        if let Err(error) = told {
            end.warnings.push(format!("{} could not be kept: {error}", path.display()));
        }
        end
    }

    fn logged_output(
        &self,
        index: NodeIndex,
        node: &PlanNode,
        role: StagedLinuxRustPayloadRole,
        output_name: &str,
        placement: &JobPlacement,
        log: &mut PrepareLog<'_>,
    ) -> PrepareEnd {
        let around = (self.tools, self.run, self.run_id);
        let site = self.sites.get(placement, around, &mut |line| quietly(log, line), self.cancel);
        let site = match site {
            Ok(site) => site,
            Err(outcome) => return PrepareEnd::new(outcome.verdict, outcome.message),
        };
        let nix = site.realizer.nix();
        let realized = match self.realize(&site, node, output_name, log) {
            Ok(realized) => realized,
            Err(error) => return PrepareEnd::new(error.verdict(), with_causes(&error)),
        };
        let mut end = PrepareEnd::new(Verdict::Passed, String::new());
        end.role = Some(role);
        let payload = read_payload(nix, &realized.path, &mut end, self.cancel);
        end.mounts = payload
            .as_ref()
            .ok_or_else(|| format!("{} has no usable {MANIFEST}", realized.path.display()))
            .and_then(|payload| {
                payload::mounts(nix, &realized.path, payload, Some(role), self.cancel)
                    .map_err(|error| with_causes(&error))
            });
        if role == StagedLinuxRustPayloadRole::WorkspaceBuild {
            end.unusable = self.unusable(nix, &realized.path, node, &mut end.warnings);
        }
        let bound = &self.bound.nodes[index.0];
        let PlanNodeRecord::Prepare {
            prepare: PrepareNode::NixBuild { installable, residency, handoff, .. },
            ..
        } = bound
        else {
            return PrepareEnd::errored("internal error: the node is bound to something else".to_owned());
        };
        let config = &self.tools.config;
        let endpoint = |route: &mut Route| self.sites.endpoint(route, self.tools, self.cancel);
        let with = With {
            host: &*self.tools.host,
            env: &config.caller_environment,
            helper: config.outputs.helper_program.as_deref(),
            launcher: config.outputs.launcher_program.as_deref(),
            nix: &config.nix_program,
            endpoint: &endpoint,
            answer_limit: config.outputs.answer_limit,
            cancel: self.cancel,
        };
        let handover = Handover {
            run: self.run,
            mode: self.mode,
            node_id: &node.id,
            installable,
            output_name,
            residency: *residency,
            realized: &realized.path,
            store_dir: realized.path.parent().unwrap_or(&realized.path),
            with: &with,
            exposures: handoff.as_ref().map_or(&[][..], |handoff| &handoff.exposures),
        };
        let (mut record, handed): (_, Result<(), OutputsError>) = handover::hand_over(&handover, log);
        record.payload = payload;
        end.output = Some(record);
        if let Err(error) = handed {
            end.verdict = error.verdict();
            end.message = format!("`{output_name}` could not be handed over: {}", with_causes(&error));
        }
        end
    }

    /// The wrappers that the jobs of a node name and the build does not have as programs: those jobs fail, by a fault
    /// of the source.
    fn unusable(
        &self,
        nix: &NixOnHost,
        build: &Path,
        node: &PlanNode,
        warnings: &mut Vec<String>,
    ) -> Vec<(String, String)> {
        let NodeWork::BuildOutput { jobs, .. } = &node.work else { return Vec::new() };
        let of_node = self.jobs.iter().filter(|job| jobs.contains(&job.id));
        let wrappers: BTreeSet<&str> =
            of_node.filter_map(|job| job.staged.as_ref().map(|staged| &*staged.wrapper)).collect();
        match payload::unusable(nix, build, &wrappers, self.cancel) {
            Ok(unusable) => unusable,
            // The jobs find out themselves.
            Err(error) => {
                warnings.push(with_causes(&error));
                Vec::new()
            }
        }
    }

    fn realize(
        &self,
        site: &Site,
        node: &PlanNode,
        output_name: &str,
        log: &mut dyn JobLog,
    ) -> Result<Realized, super::outputs::realize::RealizeError> {
        let of = Realization {
            source: self.source,
            tools: self.tools,
            output_name,
            node_id: &node.id,
            lease_id: &format!("{}-{}", self.run_id, node.id),
            tag: &format!("{}/{}/{}", self.run_id, node.id, (self.fresh_id)()),
        };
        site.realize(&of, log, self.cancel)
    }
}

fn read_payload(
    nix: &NixOnHost,
    output: &Path,
    end: &mut PrepareEnd,
    cancel: &CancelToken,
) -> Option<PayloadManifestRecord> {
    payload::load_manifest(&*nix.host, &nix.env, output, cancel).unwrap_or_else(|error| {
        end.warnings.push(with_causes(&error));
        None
    })
}

/// A line that nobody waits for: a log that cannot be written shows with the next one that matters.
fn quietly(log: &mut dyn JobLog, line: &str) {
    let _ = log.engine_line(line);
}
