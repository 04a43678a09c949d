//! Settings: each value with where it came from. Flag, then environment, then default.
//!
//! The files that will stand between environment and default are the repository's and the
//! user's; nothing of them is a setting yet.

mod place;
mod surroundings;
mod terminal;
mod variables;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use jerichoci::EngineConfig;
use jerichoci::model::record::SettingRecord;

pub(crate) use place::{check_chosen_state_root, check_state_root, existing, look_at, resolve_path};
pub(crate) use surroundings::Surroundings;
pub(crate) use terminal::{ColorWhen, Terminal};
pub(crate) use variables::BASE_REF;

use crate::error::CliError;

/// Layer that a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag,
    Environment,
    Default,
}

impl Origin {
    const fn word(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::Default => "default",
        }
    }
}

/// A value and its layer.
#[derive(Debug, Clone)]
pub(crate) struct Setting<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

/// What the command line says about settings.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct RunFlags {
    /// At most this many jobs at once [default: the number of processors]
    #[arg(short, long, value_name = "N", value_parser = crate::cli::usage::from_one)]
    pub(crate) jobs: Option<NonZeroUsize>,
    /// Jobs see the whole environment of this shell, not only what is known to be harmless
    #[arg(long)]
    pub(crate) inherit_env: bool,
}

/// Everything a run is told that is not its target.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) source_root: PathBuf,
    pub(crate) state_root: Setting<PathBuf>,
    pub(crate) max_concurrent: Setting<Option<NonZeroUsize>>,
    pub(crate) host_local_nix_shell: Setting<Option<String>>,
    pub(crate) inherit_env: Setting<bool>,
}

impl Settings {
    /// Puts the layers together.
    pub(crate) fn resolve(
        surroundings: &Surroundings,
        flags: &RunFlags,
        source_root: PathBuf,
        state_root: Setting<PathBuf>,
    ) -> Result<Self, CliError> {
        let max_concurrent = match flags.jobs {
            Some(jobs) => Setting { value: Some(jobs), origin: Origin::Flag },
            None => surroundings.max_concurrent_executes()?,
        };
        let inherit_env = match flags.inherit_env {
            true => Setting { value: true, origin: Origin::Flag },
            false => Setting { value: false, origin: Origin::Default },
        };
        let host_local_nix_shell = surroundings.host_local_nix_shell()?;
        Ok(Self { source_root, state_root, max_concurrent, host_local_nix_shell, inherit_env })
    }

    /// As the engine takes them.
    pub(crate) fn engine_config(&self, surroundings: &Surroundings) -> EngineConfig {
        let mut config = EngineConfig::new(&self.state_root.value, &self.source_root);
        config.caller_environment = surroundings.environment().clone();
        config.inherit_env = self.inherit_env.value;
        config.max_concurrent_executes = self.max_concurrent.value;
        config.host_local_nix_shell.clone_from(&self.host_local_nix_shell.value);
        config.settings = self.records();
        config
    }

    fn records(&self) -> Vec<SettingRecord> {
        let record = |name: &str, value: String, origin: Origin| SettingRecord {
            name: name.to_owned(),
            value,
            origin: origin.word().to_owned(),
        };
        let state_root = self.state_root.value.to_string_lossy().into_owned();
        let jobs = self.max_concurrent.value.map_or_else(|| "processors".to_owned(), |jobs| jobs.to_string());
        let shell = self.host_local_nix_shell.value.clone().unwrap_or_else(|| "none".to_owned());
        vec![
            record("state_root", state_root, self.state_root.origin),
            record("max_concurrent_executes", jobs, self.max_concurrent.origin),
            record("host_local_nix_shell", shell, self.host_local_nix_shell.origin),
            record("inherit_env", self.inherit_env.value.to_string(), self.inherit_env.origin),
        ]
    }
}
