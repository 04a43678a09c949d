//! Settings: each value with where it came from. Flag, then environment, then the repository's
//! file, then the user's, then default.

mod hosts;
mod outputs;
mod place;
mod surroundings;
mod terminal;
mod variables;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use jerichoci::EngineConfig;
use jerichoci::model::record::SettingRecord;

pub(crate) use hosts::{HEADING, HostFlags, INCUS_TARGET, Places, Shown, word};
pub(crate) use place::{check_chosen_state_root, check_state_root, existing, look_at, resolve_path};
pub(crate) use surroundings::Surroundings;
pub(crate) use terminal::{ColorWhen, Terminal};
pub(crate) use variables::{
    BASE_REF, CACHE_WAIT_SECS, CONFIG, HOST_LOCAL_NIX_SHELL, MAX_CONCURRENT_EXECUTES, STATE_ROOT, UNTRUSTED,
};

use outputs::Outputs;

use crate::error::CliError;
use crate::operator::Operator;
use crate::targets::file::{FileSettings, Placed};

/// Layer that a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag,
    Environment,
    /// `jericho.toml`, at this line and column.
    Repository(usize, usize),
    /// The user's file, at this line and column.
    User(usize, usize),
    /// The user's file, in the table of a host or of Incus.
    UserFile,
    Default,
}

impl Origin {
    /// The word that records use.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::Repository(..) => "repository",
            Self::User(..) | Self::UserFile => "user",
            Self::Default => "default",
        }
    }
}

/// The value of a setting as it was recorded, where a flag had said it.
pub(crate) fn flag_of<'r>(settings: &'r [SettingRecord], name: &str) -> Option<&'r str> {
    let said = |setting: &&SettingRecord| setting.name == name && setting.origin == Origin::Flag.word();
    settings.iter().find(said).map(|setting| setting.value.as_str())
}

/// A value and its layer.
#[derive(Debug, Clone)]
pub(crate) struct Setting<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

impl<T: Clone> Setting<Option<T>> {
    /// The first layer that says something.
    fn of_layers(
        flag: Option<T>,
        environment: Option<T>,
        repository: Option<&Placed<T>>,
        user: Option<&Placed<T>>,
    ) -> Self {
        let placed = |layer: Option<&Placed<T>>, origin: fn(usize, usize) -> Origin| {
            layer.map(|at| (at.value.clone(), origin(at.place.0, at.place.1)))
        };
        let found = flag
            .map(|value| (value, Origin::Flag))
            .or_else(|| environment.map(|value| (value, Origin::Environment)))
            .or_else(|| placed(repository, Origin::Repository))
            .or_else(|| placed(user, Origin::User));
        match found {
            Some((value, origin)) => Self { value: Some(value), origin },
            None => Self { value: None, origin: Origin::Default },
        }
    }
}

/// The settings of the two files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Files<'f> {
    pub(crate) repository: &'f FileSettings,
    pub(crate) user: &'f Operator,
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
    #[command(flatten)]
    pub(crate) hosts: HostFlags,
}

/// Everything a run is told that is not its target.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) source_root: PathBuf,
    pub(crate) state_root: Setting<PathBuf>,
    pub(crate) max_concurrent: Setting<Option<NonZeroUsize>>,
    pub(crate) host_local_nix_shell: Setting<Option<String>>,
    pub(crate) inherit_env: Setting<bool>,
    /// How long a job waits for a cache.
    cache_wait: Setting<Option<Duration>>,
    /// Of environment and files. The flag belongs to the commands that compare.
    pub(crate) base_ref: Setting<Option<String>>,
    pub(crate) places: Places,
    pub(crate) outputs: Outputs,
}

impl Settings {
    /// Puts the layers together.
    pub(crate) fn resolve(
        surroundings: &Surroundings,
        flags: &RunFlags,
        source_root: PathBuf,
        state_root: Setting<PathBuf>,
        files: Files<'_>,
    ) -> Result<Self, CliError> {
        let Files { repository, user: operator } = files;
        let user = &operator.settings;
        let max_concurrent = Setting::of_layers(
            flags.jobs,
            surroundings.max_concurrent_executes()?,
            repository.max_concurrent_executes.as_ref(),
            user.max_concurrent_executes.as_ref(),
        );
        let inherit_env = match flags.inherit_env {
            true => Setting { value: true, origin: Origin::Flag },
            false => Setting { value: false, origin: Origin::Default },
        };
        let host_local_nix_shell = Setting::of_layers(
            None,
            surroundings.host_local_nix_shell()?,
            repository.host_local_nix_shell.as_ref(),
            user.host_local_nix_shell.as_ref(),
        );
        let base_ref = Setting::of_layers(
            None,
            surroundings.base_ref()?,
            repository.base_ref.as_ref(),
            user.base_ref.as_ref(),
        );
        let cache_wait = Setting::of_layers(None, surroundings.cache_wait()?, None, None);
        let places = Places::resolve(surroundings, &flags.hosts, operator)?;
        let outputs = Outputs::resolve(surroundings, &places)?;
        Ok(Self {
            source_root,
            state_root,
            max_concurrent,
            host_local_nix_shell,
            inherit_env,
            cache_wait,
            base_ref,
            places,
            outputs,
        })
    }

    /// As the engine takes them.
    pub(crate) fn engine_config(&self, surroundings: &Surroundings) -> EngineConfig {
        let mut config = EngineConfig::new(&self.state_root.value, &self.source_root);
        config.caller_environment = surroundings.environment().clone();
        config.inherit_env = self.inherit_env.value;
        config.max_concurrent_executes = self.max_concurrent.value;
        config.host_local_nix_shell.clone_from(&self.host_local_nix_shell.value);
        config.cache_wait = self.cache_wait.value.unwrap_or(config.cache_wait);
        config.incus = self.places.incus();
        config.hosts = self.places.hosts();
        config.outputs = self.outputs.config();
        config.settings = self.records();
        config
    }

    /// As they are recorded with a run.
    pub(crate) fn records(&self) -> Vec<SettingRecord> {
        let record = |shown: Shown| SettingRecord {
            name: shown.name,
            value: shown.value,
            origin: shown.origin.word().to_owned(),
        };
        self.shown().into_iter().map(record).collect()
    }

    /// As they are shown: those of runs, then those of machines.
    pub(crate) fn shown(&self) -> Vec<Shown> {
        let shown = |name: &str, value: String, origin: Origin, flag, variable| Shown {
            name: name.to_owned(),
            value,
            origin,
            flag,
            variable,
        };
        let state_root = self.state_root.value.to_string_lossy().into_owned();
        let jobs = self.max_concurrent.value.map_or_else(|| "processors".to_owned(), |jobs| jobs.to_string());
        let shell = self.host_local_nix_shell.value.clone().unwrap_or_else(|| "none".to_owned());
        let base = self.base_ref.value.clone().unwrap_or_else(|| "upstream".to_owned());
        let inherit_env = self.inherit_env.value.to_string();
        let of_runs = [
            shown("state_root", state_root, self.state_root.origin, "--state-root", STATE_ROOT),
            shown("max_concurrent_executes", jobs, self.max_concurrent.origin, "-j", MAX_CONCURRENT_EXECUTES),
            shown("host_local_nix_shell", shell, self.host_local_nix_shell.origin, "", HOST_LOCAL_NIX_SHELL),
            shown("inherit_env", inherit_env, self.inherit_env.origin, "--inherit-env", ""),
            shown("base_ref", base, self.base_ref.origin, "--base", BASE_REF),
        ];
        let consumer = self.outputs.consumer.value.clone();
        let standard = EngineConfig::new(&self.state_root.value, &self.source_root).cache_wait;
        let wait = self.cache_wait.value.unwrap_or(standard).as_secs().to_string();
        let of_outputs = [
            shown("cache_wait_secs", wait, self.cache_wait.origin, "", CACHE_WAIT_SECS),
            shown(
                "prepared_output_consumer",
                consumer.unwrap_or_else(|| "this process".to_owned()),
                self.outputs.consumer.origin,
                "",
                variables::CONSUMER,
            ),
        ];
        let of_runs = of_runs.into_iter().chain(of_outputs);
        of_runs.chain(self.places.shown()).collect()
    }
}
