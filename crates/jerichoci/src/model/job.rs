//! A job: one command in one runtime on one placement.

use std::collections::BTreeMap;

use pika_incus_guest_role::IncusGuestRole;
use serde::{Deserialize, Serialize};

use super::demands::{ArtifactsWhen, CacheSpec, SecretSpec, WorkspaceGit};
use super::staged::StagedLinuxCommandConfig;
use super::{is_false, is_zero};

/// Where a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobPlacementKind {
    /// This machine.
    Local,
    /// A host over SSH.
    RemoteSsh,
}

/// In what isolation a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobRuntimeKind {
    /// A process of the host.
    HostProcess,
    /// A fresh Incus instance.
    Incus,
    /// A Tart macOS VM.
    Tart,
}

/// A pair of placement and runtime. All six exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JobExecutionConfig {
    /// Where.
    pub placement: JobPlacementKind,
    /// In what isolation.
    pub runtime: JobRuntimeKind,
}

impl JobExecutionConfig {
    /// A process of this machine.
    pub const HOST_LOCAL: Self = Self::of(JobPlacementKind::Local, JobRuntimeKind::HostProcess);
    /// A process of a host over SSH.
    pub const REMOTE_SSH_HOST_PROCESS: Self =
        Self::of(JobPlacementKind::RemoteSsh, JobRuntimeKind::HostProcess);
    /// An Incus instance on this machine.
    pub const LOCAL_INCUS: Self = Self::of(JobPlacementKind::Local, JobRuntimeKind::Incus);
    /// An Incus instance on a host over SSH.
    pub const REMOTE_SSH_INCUS: Self = Self::of(JobPlacementKind::RemoteSsh, JobRuntimeKind::Incus);
    /// A Tart VM on this machine.
    pub const LOCAL_TART: Self = Self::of(JobPlacementKind::Local, JobRuntimeKind::Tart);
    /// A Tart VM on a host over SSH.
    pub const REMOTE_SSH_TART: Self = Self::of(JobPlacementKind::RemoteSsh, JobRuntimeKind::Tart);

    const fn of(placement: JobPlacementKind, runtime: JobRuntimeKind) -> Self {
        Self { placement, runtime }
    }

    /// The word that records use for the pair.
    #[must_use]
    pub const fn executor_label(self) -> &'static str {
        match (self.placement, self.runtime) {
            (JobPlacementKind::Local, JobRuntimeKind::HostProcess) => "host_local",
            (JobPlacementKind::RemoteSsh, JobRuntimeKind::HostProcess) => "remote_ssh_host_process",
            (JobPlacementKind::Local, JobRuntimeKind::Incus) => "local_incus",
            (JobPlacementKind::RemoteSsh, JobRuntimeKind::Incus) => "remote_linux_vm",
            (JobPlacementKind::Local, JobRuntimeKind::Tart) => "tart_local",
            (JobPlacementKind::RemoteSsh, JobRuntimeKind::Tart) => "remote_ssh_tart",
        }
    }
}

/// Where a job runs, with what is needed to get there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum JobPlacement {
    /// This machine.
    #[default]
    Local,
    /// A host over SSH.
    RemoteSsh {
        /// Name of the host in the operator's configuration, or anything ssh(1) understands.
        host: String,
    },
}

impl JobPlacement {
    /// The host; absent for this machine.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Local => None,
            Self::RemoteSsh { host } => Some(host),
        }
    }

    /// The kind.
    #[must_use]
    pub const fn kind(&self) -> JobPlacementKind {
        match self {
            Self::Local => JobPlacementKind::Local,
            Self::RemoteSsh { .. } => JobPlacementKind::RemoteSsh,
        }
    }
}

/// The isolation of a job with the settings of that runtime and of no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum JobRuntimeConfig {
    /// A process of the host.
    HostProcess(HostProcessRuntimeConfig),
    /// A fresh Incus instance.
    Incus(IncusRuntimeConfig),
    /// A Tart macOS VM.
    Tart(TartRuntimeConfig),
}

impl Default for JobRuntimeConfig {
    fn default() -> Self {
        Self::HostProcess(HostProcessRuntimeConfig::default())
    }
}

impl JobRuntimeConfig {
    /// The kind, derived and never stored beside the settings.
    #[must_use]
    pub const fn kind(&self) -> JobRuntimeKind {
        match self {
            Self::HostProcess(_) => JobRuntimeKind::HostProcess,
            Self::Incus(_) => JobRuntimeKind::Incus,
            Self::Tart(_) => JobRuntimeKind::Tart,
        }
    }
}

/// Settings of a host process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HostProcessRuntimeConfig {
    /// Dev shell of the source tree's flake to run in, for example `default`; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nix_shell: Option<String>,
    /// Never in a dev shell, also where one is set for all jobs.
    #[serde(default, skip_serializing_if = "is_false")]
    pub without_nix_shell: bool,
}

/// Settings of an Incus instance. What is absent comes from the engine's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IncusRuntimeConfig {
    /// Which image the guest needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_role: Option<IncusGuestRole>,
    /// An image alias, in place of the role's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_alias: Option<String>,
    /// Virtual processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpu_count: Option<u8>,
    /// Memory in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// Root disk in GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_disk_gib: Option<u32>,
    /// Whether the guest has a network.
    #[serde(default, skip_serializing_if = "is_false")]
    pub network: bool,
    /// Member of the cluster, or a group of members as `@GROUP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// Settings of a Tart VM. What is absent comes from the engine's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TartRuntimeConfig {
    /// VM that is cloned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_vm: Option<String>,
    /// A script for `bash -euo pipefail -c` that runs on the VM's host, in the source tree, before the job. Jobs
    /// of a run with the same script share one such step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_setup: Option<String>,
    /// Whether the guest sees the Rust toolchain of its host.
    #[serde(default, skip_serializing_if = "is_false")]
    pub mount_host_rust_toolchain: bool,
    /// Virtual processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpu_count: Option<u8>,
    /// Memory in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// Disk in GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_disk_gib: Option<u32>,
}

/// What a job runs. The executor turns it into arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum GuestCommand {
    /// A command line for a login shell, on the host.
    HostShellCommand {
        /// The line.
        command: String,
    },
    /// One test of one Cargo package, by its whole name.
    ExactCargoTest {
        /// Package name.
        package: String,
        /// Whole name of the test.
        test_name: String,
    },
    /// Library unit tests of a Cargo package.
    PackageUnitTests {
        /// Package name.
        package: String,
    },
    /// All tests of a Cargo package.
    PackageTests {
        /// Package name.
        package: String,
    },
    /// The tests of a Cargo package whose names contain a text.
    FilteredCargoTests {
        /// Package name.
        package: String,
        /// The text.
        filter: String,
    },
    /// A command line for a login shell, in the guest, as its unprivileged user.
    ShellCommand {
        /// The line.
        command: String,
    },
    /// A command line for a login shell, in the guest, as root.
    ShellCommandAsRoot {
        /// The line.
        command: String,
    },
    /// A script for `bash -euo pipefail -c`: the first failing command ends it.
    Script {
        /// Its text.
        script: String,
    },
    /// A program and its arguments, without a shell.
    Argv {
        /// Program first; never empty.
        argv: Vec<String>,
    },
}

/// One job as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Unique in its run; see [`super::id::check_name`].
    pub id: String,
    /// One line for people.
    pub description: String,
    /// What it runs.
    pub command: GuestCommand,
    /// Limit in seconds, counted from the start of the command.
    pub timeout_secs: u64,
    /// Where it runs.
    #[serde(default)]
    pub placement: JobPlacement,
    /// In what isolation.
    #[serde(default)]
    pub runtime: JobRuntimeConfig,
    /// Whether the command may write its workspace. A host process always has a private one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub writable_workspace: bool,
    /// Ids of jobs that must have passed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// Variables of the command, beside those that every job gets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Names of variables of the caller's environment that it sees too, where they are set. Their values are no
    /// secrets: those are in [`JobSpec::secrets`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pass_env: Vec<String>,
    /// Named resource groups it takes one place of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Prepared outputs that it uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<StagedLinuxCommandConfig>,
    /// Values of the matrix that this job was made for, by dimension.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub matrix: BTreeMap<String, String>,
    /// Attempts after the first one that failed. Infrastructure and time limits count as failures too.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: u32,
    /// Directories that are kept from run to run, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub caches: BTreeMap<String, CacheSpec>,
    /// Values from the caller's environment that nothing may show.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretSpec>,
    /// Globs of files in the workspace that are kept, beside what lies in `$ARTIFACTS`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<String>,
    /// When they are.
    #[serde(default, skip_serializing_if = "ArtifactsWhen::is_always")]
    pub artifacts_when: ArtifactsWhen,
    /// What of the repository it finds in its workspace.
    #[serde(default, skip_serializing_if = "WorkspaceGit::is_none")]
    pub git: WorkspaceGit,
}

impl JobSpec {
    /// A host process job on this machine with a limit of one hour.
    #[must_use]
    pub fn host_process(id: impl Into<String>, command: GuestCommand) -> Self {
        let id = id.into();
        Self {
            description: id.clone(),
            id,
            command,
            timeout_secs: 3600,
            placement: JobPlacement::default(),
            runtime: JobRuntimeConfig::default(),
            writable_workspace: true,
            needs: Vec::new(),
            env: BTreeMap::new(),
            pass_env: Vec::new(),
            groups: Vec::new(),
            staged: None,
            matrix: BTreeMap::new(),
            retries: 0,
            caches: BTreeMap::new(),
            secrets: Vec::new(),
            artifacts: Vec::new(),
            artifacts_when: ArtifactsWhen::default(),
            git: WorkspaceGit::default(),
        }
    }

    /// The pair of placement and runtime.
    #[must_use]
    pub const fn execution(&self) -> JobExecutionConfig {
        JobExecutionConfig { placement: self.placement.kind(), runtime: self.runtime.kind() }
    }
}
