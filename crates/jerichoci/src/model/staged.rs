//! Staged Linux jobs: tools and libraries come from two prepared outputs.

use serde::{Deserialize, Serialize};

/// What of the source tree a staged job needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StagedLinuxSnapshotProfile {
    /// Without the mobile trees.
    Rust,
    /// Without the iOS tree.
    Followup,
}

/// Which of the two prepared outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StagedLinuxRustPayloadRole {
    /// Compiled dependencies.
    WorkspaceDeps,
    /// Compiled tests and their wrappers.
    WorkspaceBuild,
}

impl StagedLinuxRustPayloadRole {
    /// Both, in the order they are built.
    pub const ALL: [Self; 2] = [Self::WorkspaceDeps, Self::WorkspaceBuild];

    /// Last part of the prepare node's id and of the path below `staged-linux-rust/`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WorkspaceDeps => "workspace-deps",
            Self::WorkspaceBuild => "workspace-build",
        }
    }

    /// Where it is mounted in a guest.
    #[must_use]
    pub const fn guest_mount_path(self) -> &'static str {
        match self {
            Self::WorkspaceDeps => "/staged/linux-rust/workspace-deps",
            Self::WorkspaceBuild => "/staged/linux-rust/workspace-build",
        }
    }

    /// `kind` of its payload manifest.
    #[must_use]
    pub const fn manifest_kind(self) -> &'static str {
        match self {
            Self::WorkspaceDeps => "staged_linux_workspace_deps_v1",
            Self::WorkspaceBuild => "staged_linux_workspace_build_v1",
        }
    }

    /// Name of its one mount in the payload manifest.
    #[must_use]
    pub const fn manifest_mount_name(self) -> &'static str {
        match self {
            Self::WorkspaceDeps => "workspace_deps_root",
            Self::WorkspaceBuild => "workspace_build_root",
        }
    }
}

/// One prepared output of a staged target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedLinuxRustTargetPayloadSpec {
    /// Which of the two.
    pub role: StagedLinuxRustPayloadRole,
    /// Flake attribute, for example `ci.x86_64-linux.workspaceDeps`.
    pub output_name: String,
}

/// What a staged job needs, and what it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedLinuxCommandConfig {
    /// Middle part of the prepare nodes' ids; jobs with the same prefix share them.
    pub prefix: String,
    /// What of the source tree is needed.
    pub profile: StagedLinuxSnapshotProfile,
    /// Compiled dependencies.
    pub deps: StagedLinuxRustTargetPayloadSpec,
    /// Compiled tests and their wrappers.
    pub build: StagedLinuxRustTargetPayloadSpec,
    /// Program in `bin/` of the build output.
    pub wrapper: String,
}
