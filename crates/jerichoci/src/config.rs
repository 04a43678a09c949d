//! What an engine is told once: plain values. Nothing here, or below, reads the environment.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use jericho_host::Environment;

use crate::model::record::SettingRecord;

/// Settings of an [`crate::Engine`].
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Directory of all records and caches, absolute. Made when a run needs it.
    pub state_root: PathBuf,
    /// Top of the source tree, absolute.
    pub source_root: PathBuf,
    /// Environment of the caller. Jobs see only the part that is known to be harmless, unless
    /// [`EngineConfig::inherit_env`].
    pub caller_environment: Environment,
    /// Host jobs see the caller's whole environment.
    pub inherit_env: bool,
    /// Jobs that run at once; the number of processors when absent.
    pub max_concurrent_executes: Option<NonZeroUsize>,
    /// How many jobs of a named resource group run at once; 1 for a group that is not named here.
    pub group_widths: BTreeMap<String, usize>,
    /// Between TERM and KILL when a job is ended.
    pub grace: Duration,
    /// Bytes of one log that are kept: its head and its last 64 MiB.
    pub log_cap_bytes: u64,
    /// Dev shell that every host job runs in when it does not say another itself.
    pub host_local_nix_shell: Option<String>,
    /// Nix program, a path or a name.
    pub nix_program: PathBuf,
    /// Recorded with every run: what is in force, and where it came from.
    pub settings: Vec<SettingRecord>,
}

impl EngineConfig {
    /// Defaults: an empty caller environment, 5 s of grace, logs up to 1 GiB.
    #[must_use]
    pub fn new(state_root: impl Into<PathBuf>, source_root: impl Into<PathBuf>) -> Self {
        Self {
            state_root: state_root.into(),
            source_root: source_root.into(),
            caller_environment: Environment::empty(),
            inherit_env: false,
            max_concurrent_executes: None,
            group_widths: BTreeMap::new(),
            grace: Duration::from_secs(5),
            log_cap_bytes: 1 << 30,
            host_local_nix_shell: None,
            nix_program: PathBuf::from("nix"),
            settings: Vec::new(),
        }
    }
}
