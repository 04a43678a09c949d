//! A plan in its place: the document for one run, with its paths.

use std::path::Path;

use chrono::{DateTime, Utc};

use super::{ExecuteWork, NodeWork, PlanNode, PlannedCommand, RunPlan};
use crate::executor::command;
use crate::model::id::RunId;
use crate::model::job::{JobExecutionConfig, JobPlacement, JobPlacementKind, JobRuntimeKind};
use crate::model::outputs::{Exposure, ExposureAccess, ExposureKind, Handoff, HandoffProtocol, Residency};
use crate::model::plan::{ExecuteNode, PlanExecutor, PlanNodeRecord, PlanScope, PrepareNode, RunPlanRecord};
use crate::model::record::RemoteLinuxVmBackend;
use crate::model::staged::StagedLinuxRustPayloadRole;
use crate::model::version;
use crate::run::layout::RunLayout;

/// What holds when the first node starts.
const PRECONDITIONS: [&str; 2] = ["host_setup_complete", "workspace_snapshot_created"];

/// What a plan is bound to.
#[derive(Debug, Clone, Copy)]
pub struct PlanInputs<'a> {
    /// The run.
    pub run_id: &'a RunId,
    /// When the plan was made.
    pub created_at: DateTime<Utc>,
    /// Target that was asked for.
    pub target_id: Option<&'a str>,
    /// One line about it.
    pub target_description: Option<&'a str>,
    /// Paths of the run.
    pub layout: &'a RunLayout,
    /// The snapshot.
    pub snapshot_dir: &'a Path,
}

impl RunPlan {
    /// The document of this plan for one run. Paths that are no UTF-8 are written as close as
    /// JSON can.
    #[must_use]
    pub fn bind(&self, inputs: &PlanInputs<'_>) -> RunPlanRecord {
        RunPlanRecord {
            schema_version: version::PLAN,
            run_id: inputs.run_id.to_string(),
            target_id: inputs.target_id.map(str::to_owned),
            target_description: inputs.target_description.map(str::to_owned),
            created_at: inputs.created_at,
            scope: PlanScope::PostHostSetupAndSnapshot,
            preconditions: PRECONDITIONS.map(str::to_owned).into(),
            nodes: self.nodes.iter().map(|node| self.bind_node(node, inputs)).collect(),
        }
    }

    fn bind_node(&self, node: &PlanNode, inputs: &PlanInputs<'_>) -> PlanNodeRecord {
        let (id, description) = (node.id.clone(), node.description.clone());
        let depends_on = node.depends_on.iter().map(|index| self.node(*index).id.clone()).collect();
        let prepare = match &node.work {
            NodeWork::Execute(work) => {
                return PlanNodeRecord::Execute {
                    id,
                    description,
                    executor: executor_of(work.execution),
                    placement: Some(work.execution.placement),
                    runtime: Some(work.execution.runtime),
                    depends_on,
                    execute: bind_execute(work, inputs.layout),
                };
            }
            NodeWork::BuildOutput { role, output_name, placement, jobs } => PrepareNode::NixBuild {
                installable: format!("path:{}#{output_name}", text(inputs.snapshot_dir)),
                output_name: output_name.clone(),
                residency: match placement {
                    JobPlacement::Local => Residency::LocalAuthoritative,
                    JobPlacement::RemoteSsh { .. } => Residency::RemoteAuthoritativeStagedLinux,
                },
                handoff: Some(Handoff {
                    protocol: HandoffProtocol::NixStorePathV1,
                    exposures: jobs
                        .iter()
                        .map(|job| Exposure {
                            kind: ExposureKind::HostSymlinkMount,
                            path: text(&inputs.layout.job(job).staged_output(*role)),
                            access: ExposureAccess::ReadOnly,
                        })
                        .collect(),
                }),
            },
            NodeWork::CheckBackend { .. } => {
                PrepareNode::RemoteLinuxVmBackend { backend: RemoteLinuxVmBackend::Incus }
            }
        };
        PlanNodeRecord::Prepare {
            id,
            description,
            executor: PlanExecutor::HostLocal,
            placement: Some(JobPlacementKind::Local),
            runtime: Some(JobRuntimeKind::HostProcess),
            depends_on,
            prepare,
        }
    }
}

fn bind_execute(work: &ExecuteWork, layout: &RunLayout) -> ExecuteNode {
    let (timeout_secs, writable_workspace) = (work.timeout_secs, work.writable_workspace);
    let on_host = work.execution.runtime == JobRuntimeKind::HostProcess;
    let (command, run_as_root) = match &work.command {
        PlannedCommand::Line { line, run_as_root } => (line.clone(), *run_as_root),
        PlannedCommand::Wrapper { name } => {
            let role = StagedLinuxRustPayloadRole::WorkspaceBuild;
            let output = if on_host {
                text(&layout.job(&work.job_id).staged_output(role))
            } else {
                role.guest_mount_path().to_owned()
            };
            let path = format!("{output}/bin/{name}");
            // Neither a checked name nor a path of this machine can hold a NUL byte.
            (command::compile_program(&path).map_or(path, |compiled| compiled.line), false)
        }
    };
    if on_host {
        ExecuteNode::HostCommand { command, timeout_secs, writable_workspace }
    } else {
        ExecuteNode::VmCommand { command, run_as_root, timeout_secs, writable_workspace }
    }
}

fn executor_of(execution: JobExecutionConfig) -> PlanExecutor {
    match (execution.placement, execution.runtime) {
        (JobPlacementKind::Local, JobRuntimeKind::HostProcess) => PlanExecutor::HostLocal,
        (JobPlacementKind::RemoteSsh, JobRuntimeKind::HostProcess) => PlanExecutor::RemoteSshHostProcess,
        (JobPlacementKind::Local, JobRuntimeKind::Incus) => PlanExecutor::LocalIncus,
        (JobPlacementKind::RemoteSsh, JobRuntimeKind::Incus) => PlanExecutor::RemoteLinuxVm,
        (JobPlacementKind::Local, JobRuntimeKind::Tart) => PlanExecutor::TartLocal,
        (JobPlacementKind::RemoteSsh, JobRuntimeKind::Tart) => PlanExecutor::RemoteSshTart,
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
