//! Where jobs run that are no process of this machine: Incus here, and hosts over SSH.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use pika_incus_guest_role::IncusGuestRole;

use crate::model::job::JobRuntimeKind;

/// With less free space than this on its disk no run begins on a machine.
pub const MIN_FREE: u64 = 5 << 30;

/// Where instances are made on one machine. Every value is resolved: nothing is looked up later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncusConfig {
    /// Socket of the daemon on that machine, absolute.
    pub socket: PathBuf,
    /// Project.
    pub project: String,
    /// Profile.
    pub profile: String,
    /// Used in place of the role of each job.
    pub guest_role: Option<IncusGuestRole>,
    /// Used in place of the alias of each job and of its role.
    pub image_alias: Option<String>,
    /// Cluster member, or `@GROUP`, for jobs that name none; the one with the fewest instances when absent.
    pub target: Option<String>,
    /// Whether `target` takes the place of what jobs name.
    pub target_of_all: bool,
    /// Network of the project that jobs with `network` are attached to; `None`: that of the
    /// profile's own device, else the first managed bridge of the project.
    pub network: Option<String>,
}

impl Default for IncusConfig {
    fn default() -> Self {
        Self {
            socket: PathBuf::from("/var/lib/incus/unix.socket"),
            project: "pika-managed-agents".to_owned(),
            profile: "pika-agent-dev".to_owned(),
            guest_role: None,
            image_alias: None,
            target: None,
            target_of_all: false,
            network: None,
        }
    }
}

impl IncusConfig {
    /// Where in a cluster the guest of a job goes that names this member or group, or none.
    #[must_use]
    pub fn target_for<'a>(&'a self, of_job: Option<&'a str>) -> Option<&'a str> {
        let here = self.target.as_deref();
        if self.target_of_all { here.or(of_job) } else { of_job.or(here) }
    }
}

/// A limit on the disk that snapshots and outputs of a host may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskBudget {
    /// A share of its file system, from 1 to 100.
    Percent(u8),
    /// An amount.
    Bytes(u64),
}

impl Default for DiskBudget {
    fn default() -> Self {
        Self::Percent(20)
    }
}

/// A machine that is reached over SSH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// Anything that ssh(1) takes as a destination.
    pub ssh: String,
    /// Directory for snapshots, programs, runs and outputs there, absolute.
    pub work_dir: PathBuf,
    /// Where instances are made there.
    pub incus: IncusConfig,
    /// Runtimes that its operator lets jobs have.
    pub allow: Vec<JobRuntimeKind>,
    /// How much disk may be used there. [`HostConfig::min_free`] holds whatever it says.
    pub disk_budget: DiskBudget,
    /// Below so many bytes of free space no run begins there.
    pub min_free: u64,
    /// Nix program there, a path or a name.
    pub nix_program: String,
}

impl HostConfig {
    /// The defaults for a destination: guests only, no host processes.
    #[must_use]
    pub fn new(ssh: impl Into<String>) -> Self {
        Self {
            ssh: ssh.into(),
            work_dir: PathBuf::from("/var/tmp/jerichoci-prepared-output"),
            incus: IncusConfig::default(),
            allow: vec![JobRuntimeKind::Incus, JobRuntimeKind::Tart],
            disk_budget: DiskBudget::default(),
            min_free: MIN_FREE,
            nix_program: "nix".to_owned(),
        }
    }
}

/// How hosts are reached, and which there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostsConfig {
    /// By the name that jobs use.
    pub named: BTreeMap<String, HostConfig>,
    /// For a name that is not among them, which ssh(1) may know: everything but the destination.
    pub other: HostConfig,
    /// The ssh program: a path, or a name looked up in the caller's `PATH`.
    pub ssh_program: OsString,
    /// How long a host may take to say its first word, when it is connected and to each command.
    pub connect: Duration,
    /// How long a lost connection is tried again.
    pub reconnect: Duration,
    /// Directories that hold `<arch>/jerichoci-incus-run`, the first that has it counts.
    pub runner_dirs: Vec<PathBuf>,
}

impl Default for HostsConfig {
    fn default() -> Self {
        Self {
            named: BTreeMap::new(),
            other: HostConfig::new(""),
            ssh_program: "ssh".into(),
            connect: Duration::from_secs(30),
            reconnect: Duration::from_secs(300),
            runner_dirs: Vec::new(),
        }
    }
}

impl HostsConfig {
    /// The settings of a host, by the name that a job uses.
    #[must_use]
    pub fn get(&self, name: &str) -> HostConfig {
        match self.named.get(name) {
            Some(known) => known.clone(),
            None => HostConfig { ssh: name.to_owned(), ..self.other.clone() },
        }
    }
}
