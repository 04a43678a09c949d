//! What every command begins with: where it was started, the global options, and how errors of
//! the engine are told.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use jericho_host::LocalHost;
use jerichoci::config::Secrets;
use jerichoci::model::id::RunId;
use jerichoci::model::job::JobSpec;
use jerichoci::{Engine, EngineError, list_runs};

use super::hints::{self, Told};
use crate::config::{
    CONFIG, Files, HostFlags, Origin, RunFlags, Setting, Settings, Surroundings, UNTRUSTED,
    check_chosen_state_root, check_state_root, existing, look_at, resolve_path,
};
use crate::error::CliError;
use crate::exit::Exit;
use crate::operator::{Operator, SecretError};
use crate::render::text::{shorten, typed};
use crate::source::{self, Source};
use crate::targets::file::{FileSettings, settings_of};
use crate::targets::{FILE_NAME, TargetError};

/// Options of every command.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Globals {
    /// Directory of all records and caches [default: .jerichoci at the top of the source tree]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    state_root: Option<PathBuf>,
    /// As if started in this directory
    #[arg(short = 'C', global = true, value_name = "DIR", help_heading = "Global options")]
    directory: Option<PathBuf>,
    /// File of hosts and allowed secrets [default: jerichoci/config.toml in $XDG_CONFIG_HOME or ~/.config]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    config: Option<PathBuf>,
}

impl Globals {
    pub(crate) const fn new(state_root: Option<PathBuf>, directory: Option<PathBuf>) -> Self {
        Self { state_root, directory, config: None }
    }
}

/// One invocation.
#[derive(Debug)]
pub(crate) struct Session {
    surroundings: Surroundings,
    globals: Globals,
}

/// Stands for the newest run wherever a run is named.
const LATEST: &str = "latest";

/// Name of the state root below the source root, where no other is given.
const STATE_ROOT: &str = ".jerichoci";

impl Session {
    pub(crate) const fn new(surroundings: Surroundings, globals: Globals) -> Self {
        Self { surroundings, globals }
    }

    pub(crate) const fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    /// The source tree that this was started in, or that `-C` names.
    pub(crate) fn source(&self) -> Result<Source, CliError> {
        let directory = self.directory()?;
        source::find(&LocalHost::new(), &directory, self.surroundings.environment())
    }

    /// Who says which source tree is meant.
    pub(crate) const fn started_in(&self) -> Origin {
        if self.globals.directory.is_some() { Origin::Flag } else { Origin::Default }
    }

    fn directory(&self) -> Result<PathBuf, CliError> {
        let asked = self.globals.directory.as_deref().unwrap_or(Path::new("."));
        let path = self.surroundings.absolute(asked)?;
        let failed = || CliError::usage(format!("cannot work in {}", shorten(&path.to_string_lossy())));
        match path.canonicalize() {
            Ok(directory) if directory.is_dir() => Ok(directory),
            Ok(_) => Err(failed().because("it is not a directory").hint("pikaci -C DIR, with a directory")),
            Err(error) => Err(failed().because(error).hint("pikaci -C DIR, with a directory that exists")),
        }
    }

    /// The state root by flag, environment or default. Only the default needs the source tree.
    pub(crate) fn state_root(&self) -> Result<PathBuf, CliError> {
        if self.globals.directory.is_some() {
            self.directory()?;
        }
        match self.given_state_root()? {
            Some(given) => {
                check_chosen_state_root(&given.value)?;
                Ok(given.value)
            }
            None => {
                let path = self.source()?.root.join(STATE_ROOT);
                check_state_root(&path)?;
                Ok(path)
            }
        }
    }

    /// The state root by flag or environment, resolved. Whether it can be one is not looked at.
    fn given_state_root(&self) -> Result<Option<Setting<PathBuf>>, CliError> {
        let (path, origin) = match (&self.globals.state_root, self.surroundings.state_root()?) {
            (Some(path), _) => (path.clone(), Origin::Flag),
            (None, Some(path)) => (path, Origin::Environment),
            (None, None) => return Ok(None),
        };
        if path.as_os_str().is_empty() {
            return Err(CliError::usage("--state-root is empty").hint("pikaci --state-root DIR"));
        }
        let absolute = self.surroundings.absolute(&path)?;
        let value = resolve_path(&absolute).map_err(|error| {
            let shown = shorten(&absolute.to_string_lossy());
            CliError::new(Exit::Infrastructure, format!("the state root {shown} cannot be reached"))
                .because(error)
                .hint(look_at(&absolute))
        })?;
        Ok(Some(Setting { value, origin }))
    }

    /// Everything a run is told that is not its target. `repository` is what `jericho.toml` says, see
    /// [`crate::targets::Catalog::settings`].
    pub(crate) fn settings(
        &self,
        flags: &RunFlags,
        source: &Source,
        operator: &Operator,
        repository: &FileSettings,
    ) -> Result<Settings, CliError> {
        let state_root = match self.given_state_root()? {
            Some(given) => given,
            None => {
                let value = source.root.join(STATE_ROOT);
                check_state_root(&value)?;
                Setting { value, origin: Origin::Default }
            }
        };
        if source.root.starts_with(&state_root.value) {
            let message = format!(
                "the state root {} holds the source tree {}: nothing of it would be left to check",
                shorten(&state_root.value.to_string_lossy()),
                shorten(&source.root.to_string_lossy())
            );
            return Err(CliError::usage(message).hint("pikaci --state-root DIR, with a directory of its own"));
        }
        if state_root.origin != Origin::Default {
            check_chosen_state_root(&state_root.value)?;
        }
        let files = Files { repository, user: operator };
        Settings::resolve(&self.surroundings, flags, source.root.clone(), state_root, files)
    }

    /// The user's file: by flag, by variable, or where it usually is. Only one that was named must
    /// be there.
    pub(crate) fn operator(&self) -> Result<Operator, CliError> {
        let (path, origin) = self.operator_file()?;
        let mut operator = match &path {
            Some(path) => match Operator::load(path) {
                // The home of a system's user may be another's.
                Err(TargetError::File { source, .. })
                    if origin == Origin::Default && source.kind() == ErrorKind::PermissionDenied =>
                {
                    Operator::absent(path)
                }
                read => read?,
            },
            None => Operator::default(),
        };
        if let (Some(path), None) = (path, &operator.file)
            && origin != Origin::Default
        {
            let (option, again) = match origin {
                Origin::Flag => ("--config", "leave --config out".to_owned()),
                _ => (CONFIG, format!("unset {CONFIG}")),
            };
            let message = format!("{option} is {}, which is not there", shorten(&path.to_string_lossy()));
            return Err(
                CliError::usage(message).hint(format!("ls -l {}; or {again}", typed(existing(&path))))
            );
        }
        operator.untrusted = self.surroundings.untrusted()?.value;
        Ok(operator)
    }

    /// Where the user's file is, and who says so.
    pub(crate) fn operator_file(&self) -> Result<(Option<PathBuf>, Origin), CliError> {
        let (path, origin) = match (&self.globals.config, self.surroundings.config_file()?) {
            (Some(path), _) => (path.clone(), Origin::Flag),
            (None, Some(path)) => (path, Origin::Environment),
            (None, None) => return Ok((self.surroundings.usual_config_file(), Origin::Default)),
        };
        if path.as_os_str().is_empty() {
            return Err(CliError::usage("--config is empty; it must be a file").hint("pikaci --config FILE"));
        }
        let absolute = self.surroundings.absolute(&path)?;
        Ok((Some(resolve_path(&absolute).unwrap_or(absolute)), origin))
    }

    /// The values of the secrets that jobs name. `place` says where a target of the source tree
    /// names one, for messages.
    ///
    /// # Errors
    /// When one of them is not set, or may not be named here.
    pub(crate) fn secrets(
        &self,
        jobs: &[JobSpec],
        place: impl Fn(&str) -> Option<(usize, usize)>,
    ) -> Result<Secrets, CliError> {
        // Most runs have none, and need nobody to allow them.
        if jobs.iter().all(|job| job.secrets.is_empty()) {
            return Ok(Secrets::default());
        }
        let operator = self.operator()?;
        operator.secrets(jobs, self.surroundings.environment()).map_err(|errors| {
            let lines: Vec<String> = errors
                .iter()
                .map(|error| match place(error.name()) {
                    Some((line, column)) => format!("{FILE_NAME}:{line}:{column}: {error}"),
                    None => error.to_string(),
                })
                .collect();
            let hint = match errors.first() {
                Some(SecretError::NotAllowed { .. }) => format!(
                    "add it to `allow` of [secrets] in {}; without that, only a run without CI and {UNTRUSTED} has it",
                    operator.described()
                ),
                Some(SecretError::Missing { name }) => {
                    format!("export {name}=..., and run again; nothing was started")
                }
                None => self.typed(["config"]),
            };
            CliError::usage(lines.join("\n")).hint(hint)
        })
    }

    /// An engine over recorded runs, for commands that take no snapshot.
    pub(crate) fn engine(&self) -> Result<Engine, CliError> {
        let state_root = self.state_root()?;
        // The source tree is not looked at; the directory stands for it.
        let mut config = jerichoci::EngineConfig::new(&state_root, self.directory().unwrap_or_default());
        config.caller_environment = self.surroundings.environment().clone();
        Ok(Engine::new(config))
    }

    /// An engine that reaches the machines of the settings, and the hosts of the user's file.
    pub(crate) fn engine_with_hosts(&self, hosts: &HostFlags) -> Result<(Engine, Operator), CliError> {
        let source = self.source()?;
        let operator = self.operator()?;
        let flags = RunFlags { hosts: hosts.clone(), ..RunFlags::default() };
        let settings = self.settings(&flags, &source, &operator, &settings_of(&source.root))?;
        let mut config = settings.engine_config(&self.surroundings);
        settings.places.put_images(&mut config);
        Ok((Engine::new(config), operator))
    }

    /// A run id as it was typed.
    pub(crate) fn run_id(&self, text: &str) -> Result<RunId, CliError> {
        let newest = match text == LATEST {
            true => Some(self.newest_run()?),
            false => None,
        };
        newest.as_deref().unwrap_or(text).parse().map_err(|_| {
            let message =
                format!("`{}` is not a run id; a run id looks like 20260401T120000Z-0a1b2c3d", shorten(text));
            CliError::usage(message).hint(self.typed(["list"]))
        })
    }

    fn newest_run(&self) -> Result<String, CliError> {
        let state_root = self.state_root()?;
        let list = list_runs(&state_root).map_err(|error| self.engine_error(error))?;
        let newest = list.runs.into_iter().next().map(|run| run.run_id);
        // One that cannot be read is no reason to take an older one for it.
        let damaged = list.problems.into_iter().map(|(name, _)| name).filter(|name| is_run_id(name)).max();
        let newest = match (newest, damaged) {
            (Some(newest), Some(damaged)) if second_of(&damaged) <= second_of(&newest) => Some(newest),
            (newest, damaged) => damaged.or(newest),
        };
        newest.ok_or_else(|| {
            let message = format!("there is no run in {}", shorten(&state_root.to_string_lossy()));
            CliError::new(Exit::NotFound, message).hint(self.typed(["run"]))
        })
    }

    /// A command of this program that can be typed here, with the same global options.
    pub(crate) fn typed<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> String {
        let mut words: Vec<OsString> = vec!["pikaci".into()];
        if let Some(directory) = &self.globals.directory {
            words.extend(["-C".into(), directory.into()]);
        }
        if let Some(state_root) = &self.globals.state_root {
            words.extend(["--state-root".into(), state_root.into()]);
        }
        if let Some(config) = &self.globals.config {
            words.extend(["--config".into(), config.into()]);
        }
        words.extend(args.into_iter().map(OsString::from));
        let line = jericho_host::quote::join(&words);
        // Arguments of a process have no NUL, so this always has words.
        line.map(|line| line.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// An error of the engine, with its exit code and what to type next.
    pub(crate) fn engine_error(&self, error: EngineError) -> CliError {
        let Told { exit, message, hint } = hints::of(self, &error);
        let this = match (message, std::error::Error::source(&error)) {
            (Some(message), _) => CliError::new(exit, message).because(error),
            (None, Some(_)) => CliError::new(exit, error.to_string()).because(CauseOf(error)),
            (None, None) => CliError::new(exit, error.to_string()),
        };
        this.hint(hint)
    }
}

fn is_run_id(name: &str) -> bool {
    name.parse::<RunId>().is_ok()
}

/// The part of a run id that is its start.
fn second_of(run_id: &str) -> &str {
    run_id.split('-').next().unwrap_or_default()
}

/// The cause of an error, without the error itself, whose words were said already.
#[derive(Debug)]
struct CauseOf(EngineError);

impl CauseOf {
    fn cause(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.0)
    }
}

impl std::fmt::Display for CauseOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.cause().map_or(Ok(()), |cause| std::fmt::Display::fmt(cause, f))
    }
}

impl std::error::Error for CauseOf {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause().and_then(std::error::Error::source)
    }
}
