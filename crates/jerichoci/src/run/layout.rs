//! Every path under the state root. See `docs/records.md` for what lies there.

use std::path::{Path, PathBuf};

use crate::model::id::RunId;
use crate::model::staged::StagedLinuxRustPayloadRole;

/// Paths of one state root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Of this state root; nothing is made.
    #[must_use]
    pub fn new(state_root: impl Into<PathBuf>) -> Self {
        Self { root: state_root.into() }
    }

    /// The state root itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All run directories.
    #[must_use]
    pub fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// Names of the runs that have no terminal record yet, one empty file each: what a reaper
    /// looks at, however many runs there are.
    #[must_use]
    pub fn active(&self) -> PathBuf {
        self.root.join("active")
    }

    /// One run.
    #[must_use]
    pub fn run(&self, id: &RunId) -> RunLayout {
        RunLayout { dir: self.runs().join(id.as_str()) }
    }

    /// Identity of this state root.
    #[must_use]
    pub fn engine(&self) -> PathBuf {
        self.root.join("engine.json")
    }

    /// Held while the state root is made or identified.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Keeps the state root out of git.
    #[must_use]
    pub fn gitignore(&self) -> PathBuf {
        self.root.join(".gitignore")
    }

    /// Contents of all snapshots.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// Manifests, and trees made on demand, by content hash.
    #[must_use]
    pub fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// What shells stand on that are open.
    #[must_use]
    pub fn shells(&self) -> PathBuf {
        self.root.join("shells")
    }

    /// Everything that only costs time when it is lost.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// Stat caches of source roots.
    #[must_use]
    pub fn stat_cache(&self) -> PathBuf {
        self.cache().join("stat")
    }

    /// Trees that runs see read-only below their own writes.
    #[must_use]
    pub fn trees(&self) -> PathBuf {
        self.cache().join("trees")
    }

    /// `CARGO_HOME` of host jobs.
    #[must_use]
    pub fn cargo_home(&self) -> PathBuf {
        self.cache().join("cargo-home")
    }

    /// Held while a run uses [`Layout::cargo_home`]; beside it, because cargo owns what is inside.
    #[must_use]
    pub fn cargo_home_lock(&self) -> PathBuf {
        self.cache().join("cargo-home.lock")
    }

    /// What jobs keep from run to run.
    #[must_use]
    pub fn host_local(&self) -> PathBuf {
        self.cache().join("host-local")
    }

    /// Caches that jobs name.
    #[must_use]
    pub fn named_caches(&self) -> PathBuf {
        self.cache().join("named")
    }

    /// Captured dev shells.
    #[must_use]
    pub fn dev_env(&self) -> PathBuf {
        self.cache().join("dev-env")
    }

    /// What is remembered of nix.
    #[must_use]
    pub fn nix(&self) -> PathBuf {
        self.cache().join("nix")
    }

    /// What one job of one target keeps from run to run. `scope` is `target-<id>` or `adhoc`.
    #[must_use]
    pub fn host_local_job(&self, scope: &str, job_id: &str) -> PathBuf {
        self.host_local().join(scope).join(job_id)
    }
}

/// Paths of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunLayout {
    dir: PathBuf,
}

impl RunLayout {
    /// Of this directory.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The run directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The run directory before it has an owner: under a name that no reader takes for a run.
    #[must_use]
    pub(crate) fn in_the_making(&self) -> Self {
        let name = self.dir.file_name().unwrap_or_default().to_string_lossy();
        Self::at(self.dir.with_file_name(format!(".{name}.new")))
    }

    /// The run record.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.dir.join("run.json")
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> PathBuf {
        self.dir.join("plan.json")
    }

    /// The job definitions, for reruns.
    #[must_use]
    pub fn spec(&self) -> PathBuf {
        self.dir.join("spec.json")
    }

    /// The prepared outputs.
    #[must_use]
    pub fn prepared_outputs(&self) -> PathBuf {
        self.dir.join("prepared-outputs.json")
    }

    /// The journal.
    #[must_use]
    pub fn events(&self) -> PathBuf {
        self.dir.join("events.jsonl")
    }

    /// Space kept free for the terminal record.
    #[must_use]
    pub fn reserve(&self) -> PathBuf {
        self.dir.join("reserve")
    }

    /// Locked as long as an engine works on the run; says which.
    #[must_use]
    pub fn owner(&self) -> PathBuf {
        self.dir.join("owner.json")
    }

    /// A FIFO: one line `cancel` ends the run.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.dir.join("control")
    }

    /// A link to the manifest of the snapshot: keeps it from being collected.
    #[must_use]
    pub fn manifest(&self) -> PathBuf {
        self.dir.join("manifest")
    }

    /// The snapshot, see `docs/records.md`.
    #[must_use]
    pub fn snapshot(&self) -> PathBuf {
        self.dir.join("snapshot")
    }

    /// A document that hands the output of a prepare node over.
    #[must_use]
    pub fn handoff(&self, kind: Handoffs, node_id: &str) -> PathBuf {
        self.dir.join(kind.dir()).join(format!("{node_id}.json"))
    }

    /// Logs of prepare nodes.
    #[must_use]
    pub fn prepares(&self) -> PathBuf {
        self.dir.join("prepares")
    }

    /// What realising the output of a prepare node said.
    #[must_use]
    pub fn prepare_log(&self, node_id: &str) -> PathBuf {
        self.prepares().join(format!("{node_id}.log"))
    }

    /// Links that keep outputs in the store of this machine while the run needs them.
    #[must_use]
    pub fn roots(&self) -> PathBuf {
        self.dir.join("roots")
    }

    /// All job directories.
    #[must_use]
    pub fn jobs(&self) -> PathBuf {
        self.dir.join("jobs")
    }

    /// One job.
    #[must_use]
    pub fn job(&self, job_id: &str) -> JobLayout {
        JobLayout { dir: self.jobs().join(job_id) }
    }
}

/// The kinds of documents that hand outputs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handoffs {
    /// What is asked.
    Requests,
    /// What became of it.
    Results,
    /// What a launcher is given.
    LaunchRequests,
    /// What a transport is given.
    TransportRequests,
}

impl Handoffs {
    /// Their directory in that of the run.
    #[must_use]
    pub const fn dir(self) -> &'static str {
        match self {
            Self::Requests => "prepared-output-requests",
            Self::Results => "prepared-output-results",
            Self::LaunchRequests => "prepared-output-launch-requests",
            Self::TransportRequests => "prepared-output-transport-requests",
        }
    }
}

/// Paths of one job of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobLayout {
    dir: PathBuf,
}

impl JobLayout {
    /// The job directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The job record.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.dir.join("status.json")
    }

    /// What the host saw.
    #[must_use]
    pub fn host_log(&self) -> PathBuf {
        self.dir.join("host.log")
    }

    /// What the job leaves for people: `ARTIFACTS`.
    #[must_use]
    pub fn artifacts(&self) -> PathBuf {
        self.dir.join("artifacts")
    }

    /// What the guest wrote.
    #[must_use]
    pub fn guest_log(&self) -> PathBuf {
        self.artifacts().join("guest.log")
    }

    /// One attempt of a job that is tried again.
    #[must_use]
    pub fn attempt(&self, attempt: u32) -> Self {
        Self { dir: self.attempts().join(attempt.to_string()) }
    }

    /// All attempts of a job that is tried again.
    #[must_use]
    pub fn attempts(&self) -> PathBuf {
        self.dir.join("attempts")
    }

    /// The result in the form that guests write.
    #[must_use]
    pub fn result(&self) -> PathBuf {
        self.artifacts().join("result.json")
    }

    /// Where a prepared output becomes visible for the job.
    #[must_use]
    pub fn staged_output(&self, role: StagedLinuxRustPayloadRole) -> PathBuf {
        self.dir.join("staged-linux-rust").join(role.name())
    }

    /// Writes of the job to its workspace, while it runs.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.dir.join("scratch")
    }
}
