//! Prepare nodes: what jobs need before they start, each on a worker thread of its own.
//!
//! An output is realised on the host of its jobs, has a GC root there for as long as the run
//! lasts, is handed over, and is recorded. What comes out is data: the dispatcher folds it into
//! the records.

mod log;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use jericho_host::{CancelToken, Environment};

use self::log::PrepareLog;
use super::layout::{Layout, RunLayout};
use super::outputs::handover::{self, Handover};
use super::outputs::payload::{self, MANIFEST};
use super::outputs::realize::{Locks, NixOnHost, Realized, Realizer, SourceTree, Wanted};
use super::outputs::{Mode, OutputsError};
use super::plan::{NodeIndex, NodeWork, PlanNode, RunPlan};
use crate::causes::with_causes;
use crate::executor::process::JOB_TAG;
use crate::executor::workspace::RunSource;
use crate::executor::{JobLog, Prepared, PreparedMount, Tools};
use crate::model::job::{JobPlacement, JobRuntimeKind, JobSpec};
use crate::model::outcome::{FailureKind, Verdict};
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
    /// What was realised, also when it was not handed over.
    pub(crate) output: Option<PreparedOutputRecord>,
    /// What guests are to see of it, or why nobody knows.
    pub(crate) mounts: Result<Vec<PreparedMount>, String>,
}

impl PrepareEnd {
    fn new(verdict: Verdict, message: String) -> Self {
        Self { verdict, message, warnings: Vec::new(), has_log: false, output: None, mounts: Ok(Vec::new()) }
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
    /// Nix of this machine, when it is needed.
    pub(crate) local: OnceLock<Realizer>,
}

/// Nix of this machine, with what it needs below the state root.
pub(crate) fn local_nix(tools: &Tools) -> NixOnHost {
    let config = &tools.config;
    let own = Layout::new(&config.state_root).nix();
    let locks = user_cache(&config.caller_environment).map_or_else(|| own.clone(), |dir| dir.join("nix"));
    NixOnHost {
        host: Arc::clone(&tools.host),
        program: config.nix_program.clone(),
        // Nix runs as the caller does; its builders do not see that environment.
        env: config.caller_environment.clone(),
        sources: own.join("sources"),
        // Below the state root, runs of two state roots would not know of each other.
        locks: Locks::Here(locks.join("locks")),
        grace: config.grace,
    }
}

/// Where programs of the user keep what only costs time when it is lost.
fn user_cache(env: &Environment) -> Option<PathBuf> {
    let absolute = |name: &str| env.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let dir = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    let dir = dir.join("jerichoci");
    std::fs::create_dir_all(&dir).is_ok().then_some(dir)
}

impl Preparer<'_> {
    /// Carries out one node. Says how it ended also when it panics.
    pub(crate) fn prepare(&self, index: NodeIndex) -> PrepareEnd {
        let node = self.plan.node(index);
        let ended = catch_unwind(AssertUnwindSafe(|| match &node.work {
            NodeWork::BuildOutput { role, output_name, placement, .. } => {
                self.output(index, *role, output_name, placement)
            }
            NodeWork::CheckBackend { .. } | NodeWork::Execute(_) => {
                PrepareEnd::new(Verdict::Passed, String::new())
            }
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
    pub(crate) fn prepared(&self, job: &JobSpec, needs: &[&PrepareEnd]) -> Result<Prepared, String> {
        let mut prepared = Prepared::default();
        let Some(_staged) = &job.staged else { return Ok(prepared) };
        let in_guest = job.runtime.kind() != JobRuntimeKind::HostProcess;
        for end in needs {
            match &end.mounts {
                Ok(mounts) => prepared.mounts.extend_from_slice(mounts),
                // A process of the host finds the output by its link.
                Err(problem) if in_guest => return Err(problem.clone()),
                Err(_) => {}
            }
        }
        if !in_guest {
            let layout = self.run.job(&job.id);
            prepared.build_output = Some(layout.staged_output(StagedLinuxRustPayloadRole::WorkspaceBuild));
        }
        Ok(prepared)
    }

    /// Lets go of what was realised. To be called when nothing of the jobs is left.
    pub(crate) fn release(&self) -> Result<(), String> {
        self.tools.host.remove(&self.run.roots()).map_err(|error| with_causes(&error))
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
        if let JobPlacement::RemoteSsh { .. } = placement {
            return PrepareEnd::errored(
                "prepared outputs of remote jobs are not built into this version".into(),
            );
        }
        let local = self.local.get_or_init(|| Realizer::new(local_nix(self.tools)));
        let realized = match self.realize(local, node, output_name, log) {
            Ok(realized) => realized,
            Err(error) => return PrepareEnd::new(error.verdict(), with_causes(&error)),
        };
        let mut end = PrepareEnd::new(Verdict::Passed, String::new());
        let payload = read_payload(local.nix(), &realized.path, &mut end);
        end.mounts = payload
            .as_ref()
            .ok_or_else(|| format!("{} has no usable {MANIFEST}", realized.path.display()))
            .and_then(|payload| {
                payload::mounts(local.nix(), &realized.path, payload, Some(role), self.cancel)
                    .map_err(|error| with_causes(&error))
            });
        let bound = &self.bound.nodes[index.0];
        let PlanNodeRecord::Prepare {
            prepare: PrepareNode::NixBuild { installable, residency, handoff, .. },
            ..
        } = bound
        else {
            return PrepareEnd::errored("internal error: the node is bound to something else".to_owned());
        };
        let handover = Handover {
            run: self.run,
            mode: self.mode,
            node_id: &node.id,
            installable,
            output_name,
            residency: *residency,
            realized: &realized.path,
            exposures: handoff.as_ref().map_or(&[][..], |handoff| &handoff.exposures),
        };
        let (mut record, handed): (_, Result<(), OutputsError>) = handover::hand_over(&handover);
        record.payload = payload;
        end.output = Some(record);
        if let Err(error) = handed {
            end.verdict = Verdict::Failed(FailureKind::Infrastructure);
            end.message = format!("`{output_name}` could not be handed over: {}", with_causes(&error));
        }
        end
    }

    fn realize(
        &self,
        realizer: &Realizer,
        node: &PlanNode,
        output_name: &str,
        log: &mut dyn JobLog,
    ) -> Result<Realized, super::outputs::realize::RealizeError> {
        let tag = format!("{}/{}/{}", self.run_id, node.id, (self.fresh_id)());
        let tree = |cancel: &CancelToken| {
            let lease = self.source.tree(cancel).map_err(|error| with_causes(&error))?;
            Ok(SourceTree { path: lease.path.clone(), held: Box::new(lease) })
        };
        let wanted = Wanted {
            content_hash: self.source.content_hash(),
            tree: &tree,
            output_name,
            root: &self.run.roots().join(&node.id),
            tag: (JOB_TAG, &tag),
        };
        realizer.realize(&wanted, log, self.cancel)
    }
}

fn read_payload(nix: &NixOnHost, output: &Path, end: &mut PrepareEnd) -> Option<PayloadManifestRecord> {
    payload::load_manifest_on(&*nix.host, output).unwrap_or_else(|error| {
        end.warnings.push(with_causes(&error));
        None
    })
}
