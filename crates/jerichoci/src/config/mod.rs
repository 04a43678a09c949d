//! What an engine is told once: plain values. Nothing here, or below, reads the environment.

mod hosts;
mod outputs;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use jericho_host::Environment;

use crate::executor::process::ArtifactLimits;
use crate::model::record::SettingRecord;

pub use hosts::{DiskBudget, HostConfig, HostsConfig, IncusConfig, MIN_FREE};
pub use outputs::OutputsConfig;

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
    /// How long a job waits for a cache that another one has.
    pub cache_wait: Duration,
    /// Bytes of one log that are kept: its head and its last 64 MiB.
    pub log_cap_bytes: u64,
    /// Dev shell that every host job runs in when it does not say another itself.
    pub host_local_nix_shell: Option<String>,
    /// Nix program, a path or a name.
    pub nix_program: PathBuf,
    /// Where instances are made on this machine.
    pub incus: IncusConfig,
    /// Other machines.
    pub hosts: HostsConfig,
    /// How prepared outputs are handed over.
    pub outputs: OutputsConfig,
    /// What one job may leave as artifacts from its workspace.
    pub artifact_limits: ArtifactLimits,
    /// Values of the secrets that jobs may name.
    pub secrets: Secrets,
    /// Recorded with every run: what is in force, and where it came from.
    pub settings: Vec<SettingRecord>,
}

impl EngineConfig {
    /// Defaults: no secret, an empty caller environment, 5 s of grace, logs up to 1 GiB.
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
            cache_wait: Duration::from_secs(2 * 3600),
            log_cap_bytes: 1 << 30,
            host_local_nix_shell: None,
            nix_program: PathBuf::from("nix"),
            incus: IncusConfig::default(),
            hosts: HostsConfig::default(),
            outputs: OutputsConfig::default(),
            artifact_limits: ArtifactLimits::default(),
            secrets: Secrets::default(),
            settings: Vec::new(),
        }
    }
}

/// Secret values by the name of their variable. Never serialised, and never shown: what prints
/// it sees the names.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(BTreeMap<String, OsString>);

impl Secrets {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Those of these names that an environment has. What is missing is noticed when a job that
    /// names it is to run.
    #[must_use]
    pub fn from_environment<N: AsRef<str>>(
        environment: &Environment,
        names: impl IntoIterator<Item = N>,
    ) -> Self {
        names
            .into_iter()
            .filter_map(|name| Some((name.as_ref().to_owned(), environment.get(name.as_ref())?.to_owned())))
            .collect()
    }

    /// Sets one, replacing an earlier value.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<OsString>) -> &mut Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// The value of one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(name).map(OsString::as_os_str)
    }

    /// Their names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: Into<String>, V: Into<OsString>> FromIterator<(N, V)> for Secrets {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(secrets: I) -> Self {
        Self(secrets.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_prints_secrets_sees_their_names_alone() {
        let mut config = EngineConfig::new("/state", "/source");
        config.secrets.insert("TOKEN", "hunter22");
        let shown = format!("{config:?}");
        assert!(shown.contains("TOKEN") && !shown.contains("hunter22"), "{shown}");
    }
}
