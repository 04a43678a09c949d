//! What will be done, in which order: `plan.json`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::job::{JobPlacementKind, JobRuntimeKind};
use super::outputs::{Handoff, Residency};
use super::record::RemoteLinuxVmBackend;

/// The plan of a run, bound to its snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunPlanRecord {
    /// [`super::version::PLAN`].
    pub schema_version: u32,
    /// The run.
    pub run_id: String,
    /// Its target.
    pub target_id: Option<String>,
    /// One line about the target.
    pub target_description: Option<String>,
    /// When it was made.
    #[serde(with = "super::time")]
    pub created_at: DateTime<Utc>,
    /// What had happened before.
    pub scope: PlanScope,
    /// What holds when the first node starts.
    #[serde(default)]
    pub preconditions: Vec<String>,
    /// All prepare nodes, then all execute nodes in the order of the jobs.
    #[serde(default)]
    pub nodes: Vec<PlanNodeRecord>,
}

/// What had happened when a plan was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanScope {
    /// Host setup and snapshot.
    PostHostSetupAndSnapshot,
}

/// Which executor a node needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanExecutor {
    /// A process of this machine.
    HostLocal,
    /// A process of a host over SSH.
    RemoteSshHostProcess,
    /// An Incus instance on this machine.
    LocalIncus,
    /// An Incus instance on a host over SSH.
    RemoteLinuxVm,
    /// A Tart VM on this machine.
    TartLocal,
    /// A Tart VM on a host over SSH.
    RemoteSshTart,
}

/// A node of the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PlanNodeRecord {
    /// Something that jobs need.
    Prepare {
        /// Unique in the plan.
        id: String,
        /// One line for people.
        description: String,
        /// Which executor it needs.
        executor: PlanExecutor,
        /// Where.
        placement: Option<JobPlacementKind>,
        /// In what isolation.
        runtime: Option<JobRuntimeKind>,
        /// Ids of nodes that must have succeeded.
        #[serde(default)]
        depends_on: Vec<String>,
        /// What.
        prepare: PrepareNode,
    },
    /// A job.
    Execute {
        /// `execute-<job id>`.
        id: String,
        /// One line for people.
        description: String,
        /// Which executor it needs.
        executor: PlanExecutor,
        /// Where.
        placement: Option<JobPlacementKind>,
        /// In what isolation.
        runtime: Option<JobRuntimeKind>,
        /// Ids of nodes that must have succeeded.
        #[serde(default)]
        depends_on: Vec<String>,
        /// What.
        execute: ExecuteNode,
    },
}

impl PlanNodeRecord {
    /// Unique in the plan.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Prepare { id, .. } | Self::Execute { id, .. } => id,
        }
    }

    /// What people read of it.
    pub(crate) fn texts_mut(&mut self) -> impl Iterator<Item = &mut String> {
        let (description, command) = match self {
            Self::Prepare { description, .. } => (description, None),
            Self::Execute { description, execute, .. } => {
                let (ExecuteNode::HostCommand { command, .. } | ExecuteNode::VmCommand { command, .. }) =
                    execute;
                (description, Some(command))
            }
        };
        std::iter::once(description).chain(command)
    }

    /// Ids of nodes that must have succeeded.
    #[must_use]
    pub fn depends_on(&self) -> &[String] {
        match self {
            Self::Prepare { depends_on, .. } | Self::Execute { depends_on, .. } => depends_on,
        }
    }
}

/// What a prepare node does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum PrepareNode {
    /// Builds a Nix output and hands it to jobs.
    NixBuild {
        /// `path:<snapshot dir>#<output name>`.
        installable: String,
        /// Flake attribute.
        output_name: String,
        /// Where the output lives.
        #[serde(default)]
        residency: Residency,
        /// To whom it is handed.
        handoff: Option<Handoff>,
    },
    /// Makes sure that instances can be made.
    RemoteLinuxVmBackend {
        /// What makes them.
        backend: RemoteLinuxVmBackend,
    },
}

/// What an execute node does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ExecuteNode {
    /// A command in a guest.
    VmCommand {
        /// Command line.
        command: String,
        /// As root of the guest.
        run_as_root: bool,
        /// Limit in seconds.
        timeout_secs: u64,
        /// Whether the workspace may be written.
        writable_workspace: bool,
    },
    /// A command on a host.
    HostCommand {
        /// Command line.
        command: String,
        /// Limit in seconds.
        timeout_secs: u64,
        /// Whether the workspace may be written.
        writable_workspace: bool,
    },
}
