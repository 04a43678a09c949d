//! The one place that reads environment and working directory, and says which value holds.
//!
//! Precedence: flag, environment, default. A variable that is set to nothing counts as not set.

mod command_line;
mod renamed;
mod source_root;

use std::ffi::{OsStr, OsString};
use std::num::NonZeroUsize;
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use jericho_host::Environment;
use jerichoci::EngineConfig;
use jerichoci::model::record::SettingRecord;

pub(crate) use command_line::CommandLine;
pub(crate) use source_root::SourceRoot;

use crate::error::{CliError, file_hint};

const STATE_ROOT: &str = "JERICHOCI_STATE_ROOT";
const MAX_CONCURRENT_EXECUTES: &str = "JERICHOCI_MAX_CONCURRENT_EXECUTES";
const HOST_LOCAL_NIX_SHELL: &str = "JERICHOCI_HOST_LOCAL_NIX_SHELL";
const BASE_REF: &str = "JERICHOCI_BASE_REF";
const IN_NIX_SHELL: &str = "IN_NIX_SHELL";

/// What a process is started with, read once.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    environment: Environment,
    directory: PathBuf,
}

impl Surroundings {
    /// Those of this process.
    ///
    /// # Errors
    /// Usage, when the working directory is gone or cannot be entered.
    #[expect(clippy::disallowed_methods, reason = "the one home of environment and working directory")]
    pub(crate) fn capture() -> Result<Self, CliError> {
        let directory = std::env::current_dir().map_err(|error| {
            CliError::usage("there is no working directory").because(&error).hint("cd to one that is there")
        })?;
        Ok(Self { environment: std::env::vars_os().collect(), directory })
    }

    /// A variable that is set, and not to nothing.
    fn variable(&self, name: &str) -> Option<&OsStr> {
        self.environment.get(name).filter(|value| !value.is_empty())
    }

    /// The same as text.
    fn text(&self, name: &str) -> Result<Option<&str>, CliError> {
        self.variable(name)
            .map(|value| {
                value.to_str().ok_or_else(|| {
                    CliError::usage(format!("{name} is not UTF-8")).hint(format!("unset {name}"))
                })
            })
            .transpose()
    }
}

/// Global flags, as typed.
#[derive(Debug, Clone, Default)]
pub(crate) struct GlobalFlags {
    /// `-C`.
    pub(crate) directory: Option<PathBuf>,
    /// `--state-root`.
    pub(crate) state_root: Option<PathBuf>,
}

/// Flags of the commands that run jobs.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunFlags {
    /// `--jobs`.
    pub(crate) jobs: Option<NonZeroUsize>,
    /// `--inherit-env`.
    pub(crate) inherit_env: bool,
    /// `--keep-going`.
    pub(crate) keep_going: bool,
    /// `--base`.
    pub(crate) base: Option<String>,
}

/// A value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag,
    Environment,
    Default,
}

impl Origin {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::Default => "default",
        }
    }
}

/// The first layer that has a value.
fn layered<T>(flag: Option<T>, environment: Option<T>, default: impl FnOnce() -> T) -> Setting<T> {
    match (flag, environment) {
        (Some(value), _) => Setting { value, origin: Origin::Flag },
        (None, Some(value)) => Setting { value, origin: Origin::Environment },
        (None, None) => Setting { value: default(), origin: Origin::Default },
    }
}

/// What holds for this invocation. What only some commands need is found out when asked for.
#[derive(Debug)]
pub(crate) struct Config {
    surroundings: Surroundings,
    flags: GlobalFlags,
    directory: PathBuf,
    source_root: OnceLock<SourceRoot>,
}

impl Config {
    /// Checks what holds for every command: removed variables, and the directory of `-C`.
    ///
    /// # Errors
    /// Usage.
    pub(crate) fn new(surroundings: Surroundings, flags: GlobalFlags) -> Result<Self, CliError> {
        renamed::refuse_removed(&surroundings.environment)?;
        let directory = match &flags.directory {
            Some(given) => {
                let directory = surroundings.directory.join(given);
                check_directory(&directory)?;
                directory
            }
            None => surroundings.directory.clone(),
        };
        Ok(Self { surroundings, flags, directory, source_root: OnceLock::new() })
    }

    /// Variables that are set and have no effect any more, one line each.
    pub(crate) fn warnings(&self) -> Vec<String> {
        renamed::warnings(&self.surroundings.environment)
    }

    /// Spells commands so that they can be typed where this one was.
    pub(crate) fn command_line(&self) -> CommandLine {
        CommandLine::new(&self.flags)
    }

    /// Top of the source tree.
    pub(crate) fn source_root(&self) -> &SourceRoot {
        self.source_root.get_or_init(|| SourceRoot::find(&self.directory, &self.surroundings.environment))
    }

    /// Directory of all records: checked to be one, if it is there.
    ///
    /// # Errors
    /// Usage, when it is something else than a directory; infrastructure, when it cannot be
    /// looked at.
    pub(crate) fn state_root(&self) -> Result<Setting<PathBuf>, CliError> {
        let flag = self.flags.state_root.clone();
        if flag.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            return Err(CliError::usage("--state-root is empty").hint("name a directory, or leave it out"));
        }
        let variable = self.surroundings.variable(STATE_ROOT).map(PathBuf::from);
        let mut root = layered(flag, variable, || self.source_root().path.join(".jerichoci"));
        root.value = without_steps_up(self.directory.join(root.value));
        let what = match root.origin {
            Origin::Environment => STATE_ROOT,
            Origin::Flag | Origin::Default => "--state-root",
        };
        match std::fs::metadata(&root.value) {
            Ok(found) if found.is_dir() => Ok(root),
            Ok(_) => Err(CliError::usage(format!("state root {} is not a directory", root.value.display()))
                .hint(format!("name a directory, or a place for one, with {what}"))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(root),
            Err(error) => {
                let path = root.value.display();
                if error.kind() == std::io::ErrorKind::NotADirectory {
                    return Err(CliError::usage(format!("state root {path} cannot be a directory"))
                        .because(&error)
                        .hint(format!("name a directory, or a place for one, with {what}")));
                }
                Err(CliError::infrastructure(format!("cannot look at state root {path}"))
                    .because(&error)
                    .hint(file_hint(&root.value, &error)))
            }
        }
    }

    /// Base of the changed files, when one is asked for.
    ///
    /// # Errors
    /// Usage.
    pub(crate) fn base(&self, flags: &RunFlags) -> Result<Setting<Option<String>>, CliError> {
        let variable = self.surroundings.text(BASE_REF)?.map(str::to_owned);
        Ok(layered(flags.base.clone().map(Some), variable.map(Some), || None))
    }

    /// Settings of an engine that runs nothing: for `cancel`, `gc` and the like.
    ///
    /// # Errors
    /// As [`Config::state_root`].
    pub(crate) fn store_only(&self) -> Result<EngineConfig, CliError> {
        let mut config = EngineConfig::new(self.state_root()?.value, &self.source_root().path);
        config.caller_environment = self.surroundings.environment.clone();
        Ok(config)
    }

    /// Settings of an engine that runs jobs, each recorded with its origin.
    ///
    /// # Errors
    /// Usage, naming the variable that makes no sense; and as [`Config::state_root`].
    pub(crate) fn engine(&self, flags: &RunFlags) -> Result<EngineConfig, CliError> {
        let mut config = self.store_only()?;
        let parallel = self.max_concurrent_executes(flags)?;
        let nix_shell = self.host_local_nix_shell()?;
        let base = self.base(flags)?;
        let switch = |on: bool| layered(on.then_some(true), None, || false);
        let (inherit_env, keep_going) = (switch(flags.inherit_env), switch(flags.keep_going));

        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        let source_origin = if self.flags.directory.is_some() { Origin::Flag } else { Origin::Default };
        let state_root = self.state_root()?;
        config.settings = [
            ("state_root", state_root.value.display().to_string(), state_root.origin),
            ("source_root", config.source_root.display().to_string(), source_origin),
            (
                "max_concurrent_executes",
                parallel.value.map_or_else(|| "processors".to_owned(), |n| n.to_string()),
                parallel.origin,
            ),
            ("host_local_nix_shell", shown(&nix_shell.value), nix_shell.origin),
            ("base", shown(&base.value), base.origin),
            ("inherit_env", inherit_env.value.to_string(), inherit_env.origin),
            ("keep_going", keep_going.value.to_string(), keep_going.origin),
        ]
        .map(|(name, value, origin)| SettingRecord {
            name: name.to_owned(),
            value,
            origin: origin.as_str().to_owned(),
        })
        .into();
        config.max_concurrent_executes = parallel.value;
        config.host_local_nix_shell = nix_shell.value;
        config.inherit_env = inherit_env.value;
        Ok(config)
    }

    fn max_concurrent_executes(&self, flags: &RunFlags) -> Result<Setting<Option<NonZeroUsize>>, CliError> {
        let variable = match self.surroundings.variable(MAX_CONCURRENT_EXECUTES) {
            None => None,
            Some(text) => Some(text.to_str().and_then(|text| text.trim().parse().ok()).ok_or_else(|| {
                CliError::usage(format!(
                    "{MAX_CONCURRENT_EXECUTES} is `{}`, not a number of jobs",
                    text.display()
                ))
                .hint(format!("set {MAX_CONCURRENT_EXECUTES} to 1 or more, or unset it"))
            })?),
        };
        Ok(layered(flags.jobs.map(Some), variable.map(Some), || None))
    }

    /// Inside a dev shell there is no need for another one.
    fn host_local_nix_shell(&self) -> Result<Setting<Option<String>>, CliError> {
        if self.surroundings.environment.get(IN_NIX_SHELL).is_some() {
            return Ok(Setting { value: None, origin: Origin::Environment });
        }
        let shell = self.surroundings.text(HOST_LOCAL_NIX_SHELL)?.map(str::to_owned);
        Ok(layered(None, shell.map(Some), || None))
    }
}

/// Records keep paths for long: `..` goes where it can. Symbolic links stay as they were named.
fn without_steps_up(path: PathBuf) -> PathBuf {
    if !path.components().any(|part| part == Component::ParentDir) {
        return path;
    }
    match (path.parent().map(std::fs::canonicalize), path.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => path,
    }
}

fn check_directory(directory: &Path) -> Result<(), CliError> {
    let shown = directory.display();
    match std::fs::read_dir(directory) {
        Ok(_) => Ok(()),
        Err(error) => {
            let told = match error.kind() {
                std::io::ErrorKind::NotFound => CliError::usage(format!("directory {shown} is not there")),
                std::io::ErrorKind::NotADirectory => CliError::usage(format!("{shown} is not a directory")),
                _ => CliError::usage(format!("cannot read directory {shown}")).because(&error),
            };
            Err(told.hint("-C names the directory to work in"))
        }
    }
}

/// The part of an environment that helper programs get.
fn pick(environment: &Environment, names: &[&str]) -> impl Iterator<Item = (OsString, OsString)> {
    names
        .iter()
        .filter_map(|name| Some((OsString::from(name), environment.get(name)?.to_owned())))
        .collect::<Vec<_>>()
        .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)], flags: GlobalFlags) -> Result<Config, CliError> {
        let environment = variables.iter().copied().collect();
        Config::new(Surroundings { environment, directory: PathBuf::from("/") }, flags)
    }

    fn settings(config: &Config, flags: &RunFlags) -> Vec<String> {
        config
            .engine(flags)
            .expect("good settings")
            .settings
            .iter()
            .map(|setting| format!("{}={} ({})", setting.name, setting.value, setting.origin))
            .collect()
    }

    #[test]
    fn a_flag_outweighs_a_variable_and_both_outweigh_the_default() {
        let variables = [
            (STATE_ROOT, "/no/state"),
            (MAX_CONCURRENT_EXECUTES, "3"),
            (HOST_LOCAL_NIX_SHELL, "ci"),
            (BASE_REF, "origin/main"),
        ];
        let by_variable = config(&variables, GlobalFlags::default()).expect("good variables");
        insta::assert_snapshot!(settings(&by_variable, &RunFlags::default()).join("\n"), @r"
        state_root=/no/state (environment)
        source_root=/ (default)
        max_concurrent_executes=3 (environment)
        host_local_nix_shell=ci (environment)
        base=origin/main (environment)
        inherit_env=false (default)
        keep_going=false (default)
        ");
        let flags = GlobalFlags { state_root: Some("other".into()), directory: Some("/".into()) };
        let by_flag = config(&variables, flags).expect("good flags");
        let run = RunFlags {
            jobs: NonZeroUsize::new(5),
            inherit_env: true,
            keep_going: true,
            base: Some("v1".to_owned()),
        };
        insta::assert_snapshot!(settings(&by_flag, &run).join("\n"), @r"
        state_root=/other (flag)
        source_root=/ (flag)
        max_concurrent_executes=5 (flag)
        host_local_nix_shell=ci (environment)
        base=v1 (flag)
        inherit_env=true (flag)
        keep_going=true (flag)
        ");
        let by_default = config(&[], GlobalFlags::default()).expect("nothing to be wrong");
        insta::assert_snapshot!(settings(&by_default, &RunFlags::default()).join("\n"), @r"
        state_root=/.jerichoci (default)
        source_root=/ (default)
        max_concurrent_executes=processors (default)
        host_local_nix_shell=none (default)
        base=none (default)
        inherit_env=false (default)
        keep_going=false (default)
        ");
    }

    #[test]
    fn a_number_of_jobs_that_is_none_is_an_error_that_names_the_variable() {
        for bad in ["0", "-1", "two", "1.5", " "] {
            let config = config(&[(MAX_CONCURRENT_EXECUTES, bad)], GlobalFlags::default()).expect("loads");
            let error = config.engine(&RunFlags::default()).expect_err(bad);
            assert_eq!(error.ending().code(), 2);
            assert!(error.render().contains(MAX_CONCURRENT_EXECUTES), "{}", error.render());
        }
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        let variables =
            [(STATE_ROOT, ""), (MAX_CONCURRENT_EXECUTES, ""), (HOST_LOCAL_NIX_SHELL, ""), (BASE_REF, "")];
        let config = config(&variables, GlobalFlags::default()).expect("good variables");
        assert!(
            settings(&config, &RunFlags::default()).iter().all(|line| line.ends_with("(default)")),
            "{:?}",
            settings(&config, &RunFlags::default())
        );
    }

    #[test]
    fn inside_a_dev_shell_jobs_get_no_other_one() {
        let variables = [(HOST_LOCAL_NIX_SHELL, "ci"), (IN_NIX_SHELL, "")];
        let config = config(&variables, GlobalFlags::default()).expect("good variables");
        let engine = config.engine(&RunFlags::default()).expect("good settings");
        assert_eq!(engine.host_local_nix_shell, None);
    }
}
